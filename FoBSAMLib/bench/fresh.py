"""A whole run in a process of its own: ``python -m FoBSAMLib.bench.fresh IMAGE SUPPORT DEVICE``.

On its standard output, as JSON: when the first slice was there and when all were, in seconds since
the epoch, what processor time the first had taken, and the most memory that the process had.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from FoBSAMLib import LocalSession, Support, Volume
from FoBSAMLib.models.device import divide_cores
from FoBSAMLib.models.memory import keep_freed_memory


def main(image: str, support: str, device: str) -> None:
    """Segment as ``fobsam segment`` does, and tell."""
    keep_freed_memory()
    divide_cores()
    volume = Volume.read(image)
    drawn = Support.read(support, volume)
    came: list[float] = []
    processor = 0.0
    with LocalSession(device=device) as session:
        session.set_image(volume)
        session.set_supports(drawn)
        for _ in session.segment():
            processor = processor or time.process_time()
            came.append(time.time())
    told = {"first": came[0], "last": came[-1], "first_processor_seconds": processor}
    print(json.dumps(told | {"peak_bytes": peak_bytes()}))


def peak_bytes() -> int | None:
    """The most memory that this process has had; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux that counts what the parent had when it started this one.
        lines = status.read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main(*sys.argv[1:])
