"""What the benchmarks share: images, clocks and where they were run."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from FoBSAMLib.demo import read_example
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.version import __version__

#: What is told how much is done: done, total.
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """No progress."""


def read_image(image: str | Path | None) -> Volume:
    """An image file, the demo's chest CT for None."""
    return read_example()[0] if image is None else read_volume(image)


def middle(planes: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` planes about the middle one."""
    start = max(0, (len(planes) - count) // 2)
    return planes[start : start + count]


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds that some work takes on a device, and what it returns."""
    _wait(device)
    began = time.perf_counter()
    result = work()
    _wait(device)
    return time.perf_counter() - began, result


def ratio(one: list[float], other: list[float]) -> float:
    """The median of the ratios of one round each."""
    return round(median(a / b for a, b in zip(one, other, strict=True)), 3)


def surroundings(device: torch.device) -> dict[str, Any]:
    """Versions and the machine, for the document."""
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else ""
    processor = gpu or f"{_processor()} {device.type}, {torch.get_num_threads()} threads"
    return {
        "fobsam": __version__,
        "torch": torch.__version__,
        "machine": {"system": platform.system(), "processor": processor},
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as Markdown, the first of which says what the others hold."""
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    """The processor's name where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()
