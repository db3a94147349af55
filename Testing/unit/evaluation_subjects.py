"""Made-up subjects laid out like chaos, and a stand-in for the tool that is quick and simple."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from phantom import BALL, DRAWN, EGG, labels, save, voxels

from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.evaluation.settings import Pair
from FoBSAMLib.evaluation.tool import Found, Tools
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult

ABSENT = 0
#: How far the stand-in copies a mask.
REACH = 2


def make_dataset(folder: Path, subjects: tuple[int, ...] = (3, 19, 20)) -> Dataset:
    """The support and check subjects, with a liver (the ball) and a right kidney (the egg)."""
    assert (BALL, EGG) == (1, 2)
    for subject in subjects:
        save(folder / f"image_{subject}.nii.gz", voxels(seed=subject))
        save(folder / f"label_{subject}.nii.gz", labels())
    return find_dataset("chaos", folder)


class CopySession:
    """Stands in for the tool: copies each annotated mask by two slices to either side."""

    def __init__(self, tools: Tools, pair: Pair, device: str) -> None:
        self.preparing = 0.0
        self.known: tuple[int, ...] = ()

    def look_at(self, volume: Volume) -> None:
        self.volume = volume

    def slices(self, volume: Volume) -> None:
        """What points would be placed in; the stand-in has none."""

    def find(
        self,
        annotated_volume: Volume,
        organ: str,
        annotated: Mapping[int, np.ndarray],
        query: Volume,
        within: range | None = None,
    ) -> Found:
        own = query is annotated_volume
        held = {n: mask for n, mask in annotated.items() if mask.any()}
        masks = np.zeros(query.shape, bool)
        results = []
        self.known = tuple(annotated)
        for index in within or range(len(masks)):
            nearest = min(held, key=lambda other: abs(other - index))
            near = within is not None or abs(nearest - index) <= REACH
            masks[index] = held[nearest] & near
            if own and index in annotated:
                masks[index] = annotated[index]
                continue
            result = SliceResult(
                Structure(organ, 1), "k", index, masks[index], Prompts(), float(near), 0.5, 1.0
            )
            results.append(result)
        return Found(masks, results, 1.0)

    def suggest(self, structure: str) -> int | None:
        return next((n for n in (ABSENT, DRAWN + 3) if n not in self.known), None)

    def close(self) -> None:
        pass


def copied(truth: np.ndarray, index: int) -> np.ndarray:
    """What the stand-in finds from one annotated slice."""
    found = np.zeros_like(truth)
    found[index - REACH : index + REACH + 1] = truth[index]
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())
