"""What the default model costs a slice here, from file to file, and where the time goes."""

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

#: Structures of the demo's chest CT.
DEMO = ("right lung", "left lung", "lumbar vertebral column")
#: How often the volume is repeated, and how many slices are annotated, to see how cost grows.
REPEATED, ANNOTATED = (1, 2, 4), (1, 2, 4)
#: A large CT, (K, J, I).
LARGE = (600, 512, 512)
_UNITS = {"ms": "ms a slice", "seconds": "s", "gb": "GB"}
#: What each figure is asked to be at most.
WANTED = {
    "first_ms": 120,
    "further_ms": 80,
    "fresh_first_result_seconds": 3,
    "fresh_peak_gb": 1.5,
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
    total = 2 * rounds + 2 + large
    with _files(image, labels) as (image_file, labels_file), TemporaryDirectory() as made:
        folder = Path(made)
        volume = Volume.read(image_file)
        known = read_segmentation(labels_file, like=volume)
        chosen = known.select(structures or (() if image else DEMO))
        support = _support(volume, {one: known.mask(one) for one in chosen})
        session = LocalSession(device=device)
        drawn = support.indices(support.structures[0])[0]
        near = range(max(0, drawn - 1), drawn + 2)
        _segment(session, _another(volume, 0), support, slices=near)  # all is loaded and warm
        measured: dict[str, list[float]] = {}
        for turn in range(rounds):
            progress(turn, total)
            began = time.perf_counter()
            fresh = _another(Volume.read(image_file), turn + 1)
            reading = time.perf_counter() - began
            taken = _whole(session, fresh, support, folder) | {"read_seconds": reading}
            progress(rounds + turn, total)
            taken |= _fresh("fresh", image_file, _write(folder, support), device)
            for name, value in taken.items():
                measured.setdefault(name, []).append(value)
        first = known.mask(chosen[0])
        progress(2 * rounds, total)
        by_slices = {str(n * len(first)): _repeated(session, volume, first, n) for n in REPEATED}
        progress(2 * rounds + 1, total)
        by_supports = {str(n): _annotated(session, volume, first, n) for n in ANNOTATED}
        session.close()
        if large:
            progress(2 * rounds + 2, total)
            files = _write_large(folder, volume, support)
            measured |= {k: [v] for k, v in _fresh("large", *files, device).items()}
    return {
        **where,
        "image": Path(image).name if image else "demo",
        "shape": list(volume.shape),
        "structures": [one.name for one in chosen],
        "rounds": rounds,
        "figures": {name: round(median(values), 4) for name, values in measured.items()},
        "wanted_at_most": WANTED,
        "ms_a_slice_by_slices": by_slices,
        "ms_a_slice_by_supports": by_supports,
        "measured": measured,
    }


def table(document: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = []
    for name, value in document["figures"].items():
        what, _, unit = name.rpartition("_")
        wanted = document["wanted_at_most"].get(name)
        asked = f" (asked: ≤ {wanted})" if wanted else ""
        rows.append((what.replace("_", " "), f"{value:.4g} {_UNITS[unit]}{asked}"))
    for name, what in (("slices", "slices in the volume"), ("supports", "annotated slices")):
        by = document[f"ms_a_slice_by_{name}"]
        rows += [
            (
                f"{count} {what}",
                f"{taken['ms']:.4g} ms a slice, {taken['processor_ms']:.4g} of processor",
            )
            for count, taken in by.items()
        ]
    size = "×".join(map(str, document["shape"]))
    return table_of(f"{document['image']} {size}, {document['machine']['processor']}", rows)


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
    session: LocalSession, volume: Volume, support: Support, folder: Path
) -> dict[str, float]:
    """All structures of an image that the session does not know, to the file."""
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
    return figures | {"put_together_seconds": came - last[0], "write_seconds": written - came}


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


def _fresh(what: str, image: str | Path, support: Path, device: str) -> dict[str, float]:
    """Seconds and memory of a whole run in a process of its own."""
    command = [sys.executable, "-m", "FoBSAMLib.bench.fresh", str(image), str(support), device]
    # As the command line has it.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    began = time.time()
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    told = json.loads(done.stdout)
    figures = {
        f"{what}_first_result_seconds": told["first"] - began,
        f"{what}_first_result_processor_seconds": told["first_processor_seconds"],
        f"{what}_all_results_seconds": told["last"] - began,
    }
    if told["peak_bytes"] is not None:
        figures[f"{what}_peak_gb"] = told["peak_bytes"] / 1e9
    return figures
