"""From annotated slices of another image: where in this one is the structure?

Every support is matched with slices throughout the query volume. The slice in which the generator
is surest, and whose mask, carried back to the support, fits best, becomes the structure's anchor;
from it the structure is followed as from an annotated slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np

from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.chain import carry_back, dice, segment_slice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.follow import Cancel, Outcome, follow
from FoBSAMLib.session.presence import Verdict
from FoBSAMLib.session.slices import ImageSlices

#: Distance between the slices tried as anchors, in mm.
STRIDE_MM = 8.0
#: An anchor that fits less well than this is none: the structure is judged not to be there.
FOUND = 0.6


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
    slices: ImageSlices,
    supports: Sequence[ForeignSupport],
    candidates: range,
    cancel: Cancel = lambda: False,
) -> Anchor | None:
    """The best of the candidate slices, or None where nothing fits; ``cancel`` as in `follow`."""
    stride = max(1, round(STRIDE_MM / slices.volume.step(slices.axis)))
    best: Anchor | None = None
    tried = list(candidates[::stride])
    for finer in (False, True):
        if finer and best is not None:
            beside = range(best.at - stride + 1, best.at + stride)
            tried = [n for n in beside if n in candidates and n not in tried]
        for index, support in product(tried, supports):
            if cancel():
                return None
            anchor = _try(slices, index, support)
            if anchor and (best is None or anchor.score > best.score):
                best = anchor
        if best is None:
            break
    return best


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
    score = dice(back, remembered.inside)
    if proposal.presence is not None and proposal.quality is not None:
        # As much the generator's own word as the way back: each errs in cases of its own.
        score = (score * proposal.presence * proposal.quality) ** (1 / 3)
    return Anchor(index, mask, prompts, score)


def follow_foreign(
    slices: ImageSlices,
    supports: Sequence[ForeignSupport],
    wanted: range,
    cancel: Cancel = lambda: False,
    *,
    holding: bool = False,
) -> Iterator[Outcome]:
    """Segment the wanted slices of an image from annotated slices of another; as `follow`."""
    anchor = find_anchor(slices, supports, wanted, cancel)
    if cancel():
        return
    if anchor is None or (anchor.score < FOUND and not holding):
        score = anchor.score if anchor else 0.0
        empty = np.zeros(slices.image(0).shape, bool)
        for index in wanted:
            yield Outcome(index, empty, Prompts(), Verdict(score, 1 - score))
        return
    yield Outcome(anchor.at, anchor.mask, anchor.prompts, Verdict(anchor.score, anchor.score))
    for outcome in follow(slices, {anchor.at: anchor.mask}, set(), wanted, cancel, holding=holding):
        presence, confidence = outcome.verdict
        if outcome.mask.any():
            # No slice is surer than the anchor from which it was reached.
            presence, confidence = min(presence, anchor.score), min(confidence, anchor.score)
        yield replace(outcome, verdict=Verdict(presence, confidence))
