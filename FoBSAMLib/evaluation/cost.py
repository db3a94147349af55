"""What the tool costs a user: seconds to the first result and peak memory, in a fresh process.

Measured apart from the evaluation, whose own process holds truth, baselines and other organs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset


@dataclass(frozen=True)
class Cost:
    """``first_result_s`` counts from the start of the process, imports and reading included;
    ``peak_memory_mb`` is that of one organ segmented in the whole volume. ``models`` says what
    computed: names, weights' checksums, device."""

    subject: int
    organ: str
    first_result_s: float
    peak_memory_mb: float
    models: dict[str, str]


def measure_cost(
    dataset: Dataset, subject: int, organ: str, generator: str, segmenter: str, device: str
) -> Cost:
    """Segment one organ of one subject from its largest slice, in a process of its own."""
    value = dataset.description.organs[organ]
    with tempfile.TemporaryDirectory() as folder:
        image, label = dataset.as_files(subject, Path(folder))
        arguments = [image, label, value, generator, segmenter, device]
        started = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", __name__, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            first = time.perf_counter() - started
            last = process.stdout.readline()
    if process.returncode or not last:
        raise FoBSAMError(
            "internal", f"The cost of {organ} in {dataset.name} {subject} could not be measured."
        )
    return Cost(subject, organ, first, **json.loads(last))


def _segment_once(
    image: str, label: str, value: str, generator: str, segmenter: str, device: str
) -> None:
    """The measured process: says when the first result is there, and its peak memory."""
    from FoBSAMLib.image.io import read_segmentation
    from FoBSAMLib.image.volume import Volume
    from FoBSAMLib.models.device import divide_cores
    from FoBSAMLib.models.memory import keep_freed_memory
    from FoBSAMLib.session.local import LocalSession
    from FoBSAMLib.session.support import Support

    divide_cores()
    keep_freed_memory()
    volume = Volume.read(image)
    mask = read_segmentation(label, like=volume).layers[0] == int(value)
    largest = int(mask.sum(axis=(1, 2)).argmax())
    mask[:largest] = mask[largest + 1 :] = False
    session = LocalSession(generator, segmenter, device)
    session.set_image(volume)
    session.set_supports(Support.from_masks(volume, {"organ": mask}, axis="k"))
    results = session.segment()
    next(results)
    print("first result", flush=True)
    for _ in results:
        pass
    last = {"peak_memory_mb": peak_memory_mb(), "models": session.models}
    print(json.dumps(last), flush=True)


def peak_memory_mb() -> float:
    """Most memory this process ever held, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux: ru_maxrss would count what the parent held when it started this process.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


if __name__ == "__main__":
    _segment_once(*sys.argv[1:])
