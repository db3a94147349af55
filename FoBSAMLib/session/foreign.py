"""From annotated slices of another image: where in this one is the structure?

Every support is matched with slices throughout the query volume. The slice whose mask, carried
back to the support, fits best there becomes the structure's anchor; from it the structure is
followed as from an annotated slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.chain import carry_back, dice, segment_slice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.slices import ImageSlices

#: Distance between the slices tried as anchors, in mm.
STRIDE_MM = 8.0


class ForeignSupport(NamedTuple):
    """An annotated slice of another image: its mask is bool [H, W]."""

    slices: ImageSlices
    at: int
    mask: np.ndarray

    def remembered(self) -> Remembered:
        return Remembered(
            self.slices.features(self.at), self.slices.grid.mask_to_network(self.mask)
        )


class Anchor(NamedTuple):
    """A query slice with the mask found there; ``score`` in [0, 1] says how well it fits."""

    at: int
    mask: np.ndarray
    prompts: Prompts
    score: float


def find_anchor(
    slices: ImageSlices, supports: Sequence[ForeignSupport], candidates: range
) -> Anchor | None:
    """The best of the candidate slices, or None where nothing fits at all."""
    stride = max(1, round(STRIDE_MM / slices.volume.step(slices.axis)))
    anchors = [_try(slices, index, s) for index in candidates[::stride] for s in supports]
    best = max(filter(None, anchors), key=lambda anchor: anchor.score, default=None)
    if best is None or stride == 1:
        return best
    # Then every slice beside the best.
    beside = range(best.at - stride + 1, best.at + stride)
    finer = [n for n in beside if n in candidates and n != best.at]
    anchors = [best, *(_try(slices, index, s) for index in finer for s in supports)]
    return max(filter(None, anchors), key=lambda anchor: anchor.score)


def _try(slices: ImageSlices, index: int, support: ForeignSupport) -> Anchor | None:
    remembered = support.remembered()
    features = slices.features(index)
    proposal = slices.generator.propose(features, [remembered], foreign=True)
    prompts, probability = segment_slice(slices, index, proposal)
    mask = clean(probability >= 0.5)
    if not mask.any():
        return None
    here = Remembered(features, slices.grid.mask_to_network(mask))
    back = carry_back(support.slices, support.at, remembered.features, here, foreign=True)
    return Anchor(index, mask, prompts, dice(back, remembered.mask >= 0.5))
