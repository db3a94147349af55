"""What a slice costs here with the default model, and where the time goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk

from FoBSAMLib import LocalSession, Support, Volume, segment
from FoBSAMLib.bench.common import Progress, silent, surroundings
from FoBSAMLib.bench.common import table as table_of
from FoBSAMLib.bench.parts import Parts
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure
from FoBSAMLib.models.device import choose_device, divide_cores
from FoBSAMLib.session.results import SliceResult

GENERATORS = ("fob-lite", "fob-lite-fast")
#: Structures of the demo's chest CT.
DEMO = ("right lung", "left lung", "lumbar vertebral column")
#: How often the volume is repeated, and how many slices are annotated, to see how cost grows.
REPEATED, ANNOTATED = (1, 2, 4), (1, 2, 4)
#: A large CT, (K, J, I).
LARGE = (600, 512, 512)
#: What each figure is asked to be at most; of the generators, milliseconds a slice.
WANTED = {
    "fob-lite": {"first_ms": 120, "further_ms": 80},
    "fob-lite-fast": {"first_ms": 50, "further_ms": 50},
    "first_result_seconds": 3,
    "peak_gb": 1.5,
    "large_peak_gb": 4,
}


def run(
    device: str = "auto",
    rounds: int = 3,
    image: str | Path | None = None,
    labels: str | Path | None = None,
    structures: Iterable[str] = (),
    large: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure everything ``rounds`` times; what was measured, JSON-ready, medians first.

    Args:
        image, labels: an image and the known structures in it, of each of which the largest slice
            along k is annotated; the demo's chest CT for None.
        structures: names or label values, the first of which bears what all share; all for none.
        large: also a CT of `LARGE` voxels, which takes minutes.

    Raises:
        FoBSAMError: no such device or structure, files that cannot be read or do not fit.
    """
    where = surroundings(choose_device(device))
    divide_cores()
    steps = iter(range(rounds + 3 + large))

    def go_on() -> None:
        progress(next(steps), rounds + 3 + large)

    with _files(image, labels) as (image_file, labels_file), TemporaryDirectory() as made:
        folder = Path(made)
        volume = Volume.read(image_file)
        known = read_segmentation(labels_file, like=volume)
        chosen = known.select(structures or (() if image else DEMO))
        support = _support(volume, {one: known.mask(one) for one in chosen})
        sessions = {name: LocalSession(name, device=device) for name in GENERATORS}
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in GENERATORS}
        go_on()
        for session in sessions.values():  # all is loaded and warm
            _segment(session, _another(volume, 0), support, slices=range(3))
        for turn in range(rounds):
            go_on()
            for name, session in sessions.items():
                taken = _whole(session, image_file, turn + 1, support, folder)
                measured[name].append(taken)
        go_on()
        default, first = sessions[GENERATORS[0]], known.mask(chosen[0])
        by_slices = {str(n * len(first)): _repeated(default, volume, first, n) for n in REPEATED}
        by_supports = {str(n): _annotated(default, volume, first, n) for n in ANNOTATED}
        for session in sessions.values():
            session.close()
        go_on()
        support_file = _write(folder, support)
        fresh = [_fresh(image_file, support_file, device) for _ in range(rounds)]
        if large:
            go_on()
            large_run = _fresh(*_write_large(folder, volume, support), device)
    document = {
        **where,
        "image": Path(image).name if image else "demo",
        "shape": list(volume.shape),
        "structures": [one.name for one in chosen],
        "rounds": rounds,
        "generators": {name: _medians(taken) for name, taken in measured.items()},
        "fresh": _medians(fresh),
        "by_slices": by_slices,
        "by_supports": by_supports,
        "wanted_at_most": WANTED,
        "measured": measured,
    }
    return document | {"large": large_run} if large else document


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    wanted = document["wanted_at_most"]
    names = list(document["generators"])
    figures = dict.fromkeys(name for one in document["generators"].values() for name in one)
    rows = []
    for figure in figures:
        values = [
            _told(figure, document["generators"][name].get(figure), wanted[name]) for name in names
        ]
        rows.append((_label(figure), *values))
    size = "×".join(map(str, document["shape"]))
    heading = f"{document['image']} {size}, {document['machine']['processor']}"
    more = [
        (f"fresh process: {_label(figure)}", _told(figure, value, wanted))
        for figure, value in document["fresh"].items()
    ]
    for figure, value in document.get("large", {}).items():
        asked = {"peak_gb": wanted["large_peak_gb"]}
        label = f"{'×'.join(map(str, LARGE))}: {_label(figure)}"
        more.append((label, _told(figure, value, asked)))
    for by, what in (("by_slices", "slices in the volume"), ("by_supports", "annotated slices")):
        for count, taken in document[by].items():
            cost = f"{taken['ms']:.4g} ms a slice, {taken['processor_ms']:.4g} of processor"
            more.append((f"{count} {what}", cost))
    return f"{table_of((heading, *names), rows)}\n\n{table_of((names[0], ''), more)}"


def _label(figure: str) -> str:
    return figure.rpartition("_")[0].replace("_", " ")


def _told(figure: str, value: float | None, wanted: dict[str, Any]) -> str:
    if value is None:
        return ""
    unit = {"ms": "ms a slice", "seconds": "s", "gb": "GB"}[figure.rpartition("_")[2]]
    asked = f" (asked: ≤ {wanted[figure]})" if figure in wanted else ""
    return f"{value:.4g} {unit}{asked}"


def _medians(taken: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(median(one.get(name, 0.0) for one in taken), 4) for name in taken[0]}


@contextmanager
def _files(
    image: str | Path | None, labels: str | Path | None
) -> Iterator[tuple[str | Path, str | Path]]:
    if image is not None and labels is not None:
        yield image, labels
    elif image is not None or labels is not None:
        raise FoBSAMError(
            "bad_request", "An image and its labels go together.", "Give --image and --labels."
        )
    else:
        data = files("slicerio") / "data"
        with as_file(data / "CTChest4.nrrd") as one, as_file(data / "Segmentation.seg.nrrd") as two:
            yield one, two


def _support(volume: Volume, masks: dict[Structure, np.ndarray], count: int = 1) -> Support:
    """Of each structure its largest slice, or several spread over those that hold it."""
    drawn = {}
    for structure, mask in masks.items():
        areas = mask.sum(axis=(1, 2))
        holding = np.flatnonzero(areas)
        at = np.linspace(0, len(holding) - 1, 2 * count + 1).astype(int)[1::2]
        chosen = [int(areas.argmax())] if count == 1 else holding[at]
        drawn[structure.name] = np.zeros_like(mask)
        drawn[structure.name][chosen] = mask[chosen]
    return Support.from_masks(volume, drawn, "k")


def _another(volume: Volume, number: int) -> Volume:
    """The same image to the eye, not to a session: nothing of it is kept from before."""
    return replace(volume, array=volume.array.astype(np.float32) + np.float32(0.01 * number))


def _whole(
    session: LocalSession, image: str | Path, number: int, support: Support, folder: Path
) -> dict[str, float]:
    """All structures of an image that the session does not know, from the file to the file."""
    began = time.perf_counter()
    volume = Volume.read(image)
    reading = time.perf_counter() - began
    volume = _another(volume, number)
    support = replace(support, volume=volume)
    parts = Parts()
    names = [one.name for one in support.structures]
    ends: dict[str, np.ndarray] = {}  # seconds, of the processor too, and slices walked till then

    def now() -> np.ndarray:
        return np.array([time.perf_counter(), time.process_time(), parts.calls["chain"]])

    def note(done: int, total: int, result: SliceResult) -> None:
        ends[result.structure.name] = now()

    with parts.watching(session):
        start = now()
        result = segment(volume, support, session=session, progress=note)
    came = time.perf_counter()
    result.write(folder / "found.seg.nrrd")
    written = time.perf_counter()
    first, last = ends[names[0]], ends[names[-1]]
    figures = {}
    for what, (seconds, processor, walked) in (("first", first - start), ("further", last - first)):
        if walked:
            figures[f"{what}_ms"] = 1000 * seconds / walked
            figures[f"{what}_processor_ms"] = 1000 * processor / walked
    for part, seconds in parts.seconds.most_common():
        figures[f"{part}_part_ms"] = 1000 * seconds / parts.calls["chain"]
    return figures | {
        "read_seconds": reading,
        "put_together_seconds": came - last[0],
        "write_seconds": written - came,
    }


def _segment(
    session: LocalSession, volume: Volume, support: Support, **how: Any
) -> dict[str, float]:
    """Milliseconds for each slice walked, by the clock and of the processor."""
    session.set_image(volume)
    session.set_supports(replace(support, volume=volume))
    parts = Parts()
    with parts.watching(session):
        began = time.perf_counter(), time.process_time()
        for _ in session.segment(**how):
            pass
        ended = time.perf_counter(), time.process_time()
    each = [1000 * (b - a) / parts.calls["chain"] for a, b in zip(began, ended, strict=True)]
    return {"ms": round(each[0], 2), "processor_ms": round(each[1], 2)}


def _repeated(
    session: LocalSession, volume: Volume, mask: np.ndarray, times: int
) -> dict[str, float]:
    """`_segment` where the volume is continued by itself, there and back."""
    both = [(volume.array, mask), (volume.array[::-1], mask[::-1] & False)]
    arrays, masks = zip(*(both[n % 2] for n in range(times)), strict=True)
    longer = _another(replace(volume, array=np.concatenate(arrays)), 100)
    support = _support(longer, {Structure("structure", 1): np.concatenate(masks)})
    return _segment(session, longer, support, holding=True)


def _annotated(
    session: LocalSession, volume: Volume, mask: np.ndarray, count: int
) -> dict[str, float]:
    """`_segment` with several annotated slices."""
    fresh = _another(volume, 200 + count)
    return _segment(session, fresh, _support(fresh, {Structure("structure", 1): mask}, count))


def _write(folder: Path, support: Support) -> Path:
    """A file with what is drawn of the first structure."""
    first = support.structures[0]
    path = folder / "support.seg.nrrd"
    drawn = Segmentation.from_masks(support.volume.ijk_to_ras, [(first, support.whole(first))])
    write_segmentation(path, drawn)
    return path


def _write_large(folder: Path, volume: Volume, support: Support) -> tuple[Path, Path]:
    """Image and support enlarged to `LARGE` by repeating voxels."""
    places = np.ix_(*(np.arange(n) * m // n for n, m in zip(LARGE, volume.shape, strict=True)))
    first = support.structures[0]
    (source,) = support.indices(first)
    (at, *_), *_ = np.nonzero(places[0] == source)
    drawn = np.zeros(LARGE, np.uint8)
    drawn[at] = support.mask(first, source)[places[1][0], places[2][0]]
    image, labels = folder / "large.nrrd", folder / "support.nrrd"
    for path, array in ((image, volume.array[places].astype(np.int16)), (labels, drawn)):
        written = sitk.GetImageFromArray(array)
        written.SetSpacing(
            [
                m * s / n
                for n, m, s in zip(LARGE[::-1], volume.shape[::-1], volume.spacing, strict=True)
            ]
        )
        sitk.WriteImage(written, str(path), useCompression=path == labels)
    return image, labels


def _fresh(image: str | Path, support: Path, device: str) -> dict[str, float]:
    """Seconds and memory of a whole run in a process of its own."""
    command = [sys.executable, "-m", "FoBSAMLib.bench.fresh", str(image), str(support), device]
    # As the command line has it.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    began = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    told = json.loads(done.stdout)
    figures = {
        "first_result_seconds": round(told["first"] - began, 3),
        "first_result_processor_seconds": round(told["first_processor_seconds"], 3),
        "all_results_seconds": round(told["last"] - began, 3),
    }
    if told["peak_bytes"] is not None:
        figures["peak_gb"] = round(told["peak_bytes"] / 1e9, 3)
    return figures
