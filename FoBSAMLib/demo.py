"""The demo: a lung of a chest CT that comes with slicerio, from one annotated slice."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from FoBSAMLib import Support, Volume, segment
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation
from FoBSAMLib.outputs import Outputs

if TYPE_CHECKING:
    from FoBSAMLib.session.oneshot import OneShot

#: The structure segmented; the file names it so.
STRUCTURE = "right lung"


def run_demo(folder: Path, progress: Callable[..., None] | None = None) -> list[str]:
    """Segment the structure from its middle slice; returns what to tell, line by line.

    Writes ``chest.seg.nrrd``, ``chest.json`` and ``chest.png`` into ``folder``, which is made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{folder} cannot be made: {error.strerror}.", "Choose another folder."
        ) from error
    volume, known = read_example()
    holding = np.flatnonzero(known.any(axis=(1, 2)))
    drawn = int(holding[len(holding) // 2])
    mask = np.zeros_like(known)
    mask[drawn] = known[drawn]
    support = Support.from_masks(volume, {STRUCTURE: mask})
    result = segment(volume, support, progress=progress)
    outputs = Outputs(folder / "chest.seg.nrrd", folder / "chest.json", folder / "chest.png")
    outputs.write(result)
    return [*_compare(result, known, drawn), f"wrote {', '.join(map(str, outputs.files))}"]


def read_example() -> tuple[Volume, np.ndarray]:
    """A chest CT of 128×128×34 voxels and the known mask of a lung in it, bool [K, J, I]."""
    data = files("slicerio") / "data"
    with as_file(data / "CTChest4.nrrd") as image, as_file(data / "Segmentation.seg.nrrd") as file:
        volume = Volume.read(image)
        segmentation = read_segmentation(file, like=volume)
    (structure,) = segmentation.select([STRUCTURE])
    return volume, segmentation.mask(structure)


def _compare(result: OneShot, known: np.ndarray, drawn: int) -> list[str]:
    """Dice over the slices that were segmented: the annotated one would flatter it."""
    found = np.zeros_like(known)
    for r in result.results:
        found[r.index] = r.mask
    truth = known.copy()
    truth[drawn] = False
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    slices = len(result.results)
    return [
        f"{STRUCTURE}: slice {drawn} annotated, {slices} slices segmented",
        f"Dice against the known mask, without the annotated slice: {dice:.3f}",
        f"{result.seconds:.1f} s, {1000 * result.seconds / slices:.0f} ms a slice",
    ]
