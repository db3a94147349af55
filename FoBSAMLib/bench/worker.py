"""What a worker costs, as ratios to the same work without one, side by side in one run."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from statistics import median
from typing import Any

import numpy as np
from scipy import ndimage

from FoBSAMLib.bench.common import Progress, ratio, silent, surroundings
from FoBSAMLib.demo import STRUCTURE, read_example
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.base import Session
from FoBSAMLib.session.local import LocalSession
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.session import WorkerSession

#: The image that is segmented: the demo's chest CT, made this large.
SHAPE = (120, 256, 256)
#: The image that is sent, int16.
SENT = (300, 512, 512)
#: What each figure is asked to be at most.
WANTED = {
    "first_result_seconds": 0.3,
    "correct_seconds": 0.1,
    "cancel_to_idle_seconds": 0.5,
    "worker_to_local_ratio": 1.05,
    "send_to_pipe_ratio": 2.0,
}
#: A process that takes as many bytes as it is told to, keeps them and says so.
_TAKER = """
import sys, numpy
rest = numpy.empty(int(sys.argv[1]), numpy.uint8).data
with open(0, "rb", buffering=0) as stream:
    while rest:
        rest = rest[stream.readinto(rest):]
print("taken")
"""


def run(repeats: int, progress: Progress = silent, device: str = "auto") -> dict[str, Any]:
    """Measure everything ``repeats`` times; what was measured, JSON-ready, medians first."""
    volume, support = example()
    steps = (_measure_sending, _measure_segmenting, _measure_reacting)
    measured: dict[str, list[float]] = {}
    for seed, step in product(range(repeats), steps):
        progress(len(steps) * seed + steps.index(step), len(steps) * repeats)
        for name, value in step(volume, support, seed, device).items():
            measured.setdefault(name, []).append(round(value, 4))
    figures = {name: round(median(values), 4) for name, values in measured.items()}
    figures["worker_to_local_ratio"] = ratio(measured["worker_seconds"], measured["local_seconds"])
    figures["send_to_pipe_ratio"] = ratio(measured["send_seconds"], measured["pipe_seconds"])
    return {
        **surroundings(choose_device(device)),
        "repeats": repeats,
        "figures": figures,
        "wanted_at_most": WANTED,
        "measured": measured,
    }


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| | measured | asked |", "|---|--:|--:|"]
    for name, value in document["figures"].items():
        wanted = document["wanted_at_most"].get(name)
        unit = " s" if name.endswith("seconds") else ""
        what = name.removesuffix("_seconds").replace("_", " ")
        lines.append(f"| {what} | {value:.3f}{unit} | {f'≤ {wanted}' if wanted else ''} |")
    return "\n".join(lines)


def example() -> tuple[Volume, Support]:
    """The demo's chest CT and its structure's middle slice, enlarged to `SHAPE`."""
    small, known = read_example()
    factors = np.divide(SHAPE, small.shape)
    scale = np.diag([*(1 / factors[::-1]), 1.0])
    array = ndimage.zoom(small.array, factors, order=1)
    mask = ndimage.zoom(known.astype(np.uint8), factors, order=0).astype(bool)
    holding = np.flatnonzero(mask.any(axis=(1, 2)))
    drawn = np.zeros_like(mask)
    middle = holding[len(holding) // 2]
    drawn[middle] = mask[middle]
    volume = Volume.from_array(array, ijk_to_ras=small.ijk_to_ras @ scale, modality="ct")
    return volume, Support.from_masks(volume, {STRUCTURE: drawn}, "k")


def _measure_sending(volume: Volume, support: Support, seed: int, device: str) -> dict[str, float]:
    """An image through a plain pipe, and to a worker; both keep it."""
    voxels = np.random.default_rng(seed).integers(-1000, 1000, SENT).astype(np.int16)
    command = [sys.executable, "-c", _TAKER, str(voxels.nbytes)]
    pipe = subprocess.PIPE
    with (
        WorkerSession(device=device) as session,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        time.sleep(0.5)  # both have started
        rest = voxels.reshape(-1).view(np.uint8).data
        began = time.perf_counter()
        while rest:
            rest = rest[process.stdin.write(rest) :]
        process.stdout.readline()
        sent = time.perf_counter()
        session.set_image(Volume(voxels, np.eye(4)))
        return {"pipe_seconds": sent - began, "send_seconds": time.perf_counter() - sent}


def _measure_segmenting(
    volume: Volume, support: Support, seed: int, device: str
) -> dict[str, float]:
    """A whole volume in process and through a worker, models loaded and warm, turn by turn."""
    seconds = {"local_seconds": 0.0, "worker_seconds": 0.0}
    with LocalSession(device=device) as local, WorkerSession(device=device) as worker:
        # In this order a machine that grows slower or faster favours neither.
        turns: tuple[Session, ...] = (local, worker, worker, local)
        for session in turns[:2]:
            _segment(session, *_another(volume, support, 0), limit=4)
        for number, session in enumerate(turns):
            fresh = _another(volume, support, 4 * seed + number + 1)
            began = time.perf_counter()
            _segment(session, *fresh)
            name = "local_seconds" if session is local else "worker_seconds"
            seconds[name] += (time.perf_counter() - began) / 2
    return seconds


def _measure_reacting(volume: Volume, support: Support, seed: int, device: str) -> dict[str, float]:
    """How soon a warm worker shows a first slice of a new image, redraws one, and stops."""
    with WorkerSession(device=device) as session:
        _segment(session, *_another(volume, support, 2 * seed), limit=4)
        image, drawn = _another(volume, support, 2 * seed + 1)
        session.set_image(image)
        session.set_supports(drawn)
        began = time.perf_counter()
        first = next(session.segment())
        found = time.perf_counter()
        moved = Prompts(first.prompts.background + 3, first.prompts.foreground)
        session.suggest(STRUCTURE)  # what was given up has stopped
        ready = time.perf_counter()
        session.correct(STRUCTURE, first.index, moved)
        corrected = time.perf_counter()
        asked = 0.0

        def cancel() -> bool:
            nonlocal asked
            now = time.perf_counter()
            if now - corrected > 1.5 and not asked:
                asked = now
            return bool(asked)

        list(session.segment(cancel=cancel))
        session.suggest(STRUCTURE)
        return {
            "first_result_seconds": found - began,
            "correct_seconds": corrected - ready,
            "cancel_to_idle_seconds": time.perf_counter() - asked,
        }


def _another(volume: Volume, support: Support, number: int) -> tuple[Volume, Support]:
    """The same image to the eye, not to a session: nothing of it is kept from before."""
    image = replace(volume, array=volume.array.astype(np.float32) + np.float32(0.01 * number))
    return image, replace(support, volume=image)


def _segment(session: Session, volume: Volume, support: Support, limit: int | None = None) -> None:
    session.set_image(volume)
    session.set_supports(support)
    first = support.indices(support.structures[0])[0]
    for _ in session.segment(slices=range(first + 1, first + 1 + limit) if limit else None):
        pass
