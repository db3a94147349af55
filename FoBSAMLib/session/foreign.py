"""From annotated slices of another image: where in this one is the structure?

Every support is matched with slices throughout the query volume. The slice in which the generator
is surest, and whose mask, carried back to the support, fits best, becomes the structure's anchor;
from it the structure is followed as from an annotated slice, while the supports keep a say in
every slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.chain import carry_back, dice, prompts_on, segment_slice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.follow import Outcome, follow
from FoBSAMLib.session.presence import Verdict
from FoBSAMLib.session.slices import ImageSlices
from FoBSAMLib.session.together import WAYS, Cancel, together

#: Distance between the slices tried as anchors, in mm.
STRIDE_MM = 8.0
#: An anchor that fits less well than this is none: the structure is judged not to be there. Taken
#: over from an earlier generator, not tuned for this one.
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


class Sighting(NamedTuple):
    """What a support finds in a query slice; ``score`` in [0, 1] says how well it fits."""

    at: int
    support: ForeignSupport
    mask: np.ndarray
    proposal: Proposal
    score: float


def survey(
    slices: ImageSlices,
    supports: Sequence[ForeignSupport],
    candidates: range,
    cancel: Cancel = lambda: False,
) -> list[Sighting]:
    """What is seen throughout the candidate slices, in each by its best support, best first."""
    stride = max(1, round(STRIDE_MM / slices.volume.step(slices.axis)))
    tried = candidates[::stride]

    def looks(stop: Cancel) -> Iterator[Iterator[Sighting]]:
        for part in range(WAYS):
            yield (best_of(index) for index in tried[part::WAYS] if not stop())

    def best_of(index: int) -> Sighting:
        return max((_look(slices, index, one) for one in supports), key=lambda seen: seen.score)

    best = list(together(looks, cancel, threaded=slices.threaded))
    return [] if cancel() else sorted(best, key=lambda sighting: -sighting.score)


def _look(slices: ImageSlices, index: int, support: ForeignSupport) -> Sighting:
    """The structure in one slice: of the masks that can be made of what the generator says, the
    one that fits best when it is carried back."""
    remembered = support.remembered()
    features = slices.features(index)
    proposal = slices.generator.propose(features, [remembered], foreign=True)
    masks = [mask for mask in _masks(slices, index, proposal) if mask.any()]
    if not masks:
        return Sighting(index, support, np.zeros(slices.image(0).shape, bool), proposal, 0.0)
    back = carry_back(
        support.slices,
        support.at,
        remembered.features,
        features,
        [slices.grid.mask_to_network(mask) for mask in masks],
        foreign=True,
    )
    fits = [dice(one, remembered.inside) for one in back]
    score, mask = max(zip(fits, masks, strict=True), key=lambda one: one[0])
    if proposal.presence is not None and proposal.quality is not None:
        # As much the generator's own word as the way back: each errs in cases of its own.
        score = (score * proposal.presence * proposal.quality) ** (1 / 3)
    return Sighting(index, support, mask, proposal, score)


def _masks(slices: ImageSlices, index: int, proposal: Proposal) -> Iterator[np.ndarray]:
    """The segmenter's mask, and that of the points alone where it goes by the generator's
    probability: in another patient's tissue the points often lie right where the probability
    covers a part only."""
    prompts, probability = segment_slice(slices, index, proposal)
    yield clean(probability >= 0.5)
    if proposal.probability is not None and slices.segmenter.draws_on_prior:
        by_points = slices.segmenter.segment(slices.embedding(index), prompts)
        yield clean(by_points >= 0.5)


def follow_foreign(
    slices: ImageSlices,
    supports: Sequence[ForeignSupport],
    wanted: range,
    cancel: Cancel = lambda: False,
    *,
    holding: bool = False,
) -> Iterator[Outcome]:
    """Segment the wanted slices of an image from annotated slices of another; as `follow`."""
    sightings = survey(slices, supports, wanted, cancel)
    if cancel():
        return
    if not sightings:
        return
    anchor = sightings[0]
    if not anchor.mask.any() or (anchor.score < FOUND and not holding):
        empty = np.zeros(slices.image(0).shape, bool)
        for index in wanted:
            # Where it is known to be, not to have found it is no certainty.
            sure = 0.0 if holding else 1 - anchor.score
            yield Outcome(index, empty, Prompts(), Verdict(anchor.score, sure))
        return
    prompts = prompts_on(slices, anchor.proposal)
    yield Outcome(anchor.at, anchor.mask, prompts, Verdict(anchor.score, anchor.score))
    seen = {sighting.at: sighting for sighting in sightings}

    def guide(index: int) -> Proposal:
        nearest = min(sightings, key=lambda sighting: abs(sighting.at - index))
        if index not in seen:
            seen[index] = _look(slices, index, nearest.support)
        sighting = seen[index]
        return replace(sighting.proposal, probability=slices.grid.mask_to_network(sighting.mask))

    start = {anchor.at: anchor.mask}
    for outcome in follow(slices, start, set(), wanted, cancel, holding=holding, guide=guide):
        # A slice is right, or rightly empty, if it is so beside its anchor and the anchor is.
        presence, confidence = outcome.verdict
        presence = min(presence, anchor.score) if outcome.mask.any() else presence
        yield replace(outcome, verdict=Verdict(presence, confidence * anchor.score))
