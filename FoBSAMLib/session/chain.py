"""Following one structure from slice to slice.

The generator matches each slice against the annotated one and the one found before, and the
segmenter draws the mask. Where carrying it straight back to the annotated slice does not meet the
annotation, the structure has ended or the mask is wrong.

Where the generator doubts its own mask, the one found before has a share in it, moved on by
registration: structures unlike those it was trained on keep their shape.

A generator that gives points alone, with no word on its own masks, is watched by a second, unlike
chain: it carries the mask along by registration and lets the generator's background points and
the random walker find its contour again. Where the two part, something is wrong, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.image.box import box_round
from FoBSAMLib.image.registration import carry
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.random_walker import CompactSegmenter
from FoBSAMLib.session.slices import ImageSlices

#: Slices found before that are remembered beside the annotated one.
RECENT = 1
#: A generator's word on its mask's Dice below which the mask found before has a share in it.
#: Less than one half: where the generator is certain, that counts. Chosen on development subjects,
#: see Testing/benchmarks/accuracy.md.
DOUBTFUL, HELD = 0.8, 0.45
#: The contour of a mask that registration has moved is found again between these distances inside
#: and outside of it, in pixels of the 256×256 grid.
MOVED_INSIDE, MOVED_OUTSIDE = 5.0, 3.0
#: Least standard deviation, in z-scores, by which intensities are compared.
FLAT = 0.15
#: At least this share of the mask's depth stays a seed, so that thin structures keep one.
CORE = 0.6


#: What else is known of a slice: another proposal for it, None where there is none.
Guide = Callable[[int], Proposal | None]


@dataclass(frozen=True)
class Evidence:
    """What speaks for or against the structure in a slice; see `presence.judge`.

    ``cycle`` and ``watch_cycle``: Dice with the annotation of each chain's mask carried straight
    back; ``agreement``: Dice of the two chains; both None where nothing watches; ``distance`` from
    the annotated slice in mm;
    ``shift``: how far the mask's mean intensity is from the annotated one's, in its standard
    deviations; ``presence`` and ``quality``: the generator's own word, and ``doubt``: the share of
    the mask that it doubts (`doubted_share`); all None where it has none.
    """

    cycle: float
    watch_cycle: float | None
    agreement: float | None
    distance: float
    shift: float
    presence: float | None
    quality: float | None
    doubt: float | None


@dataclass(frozen=True)
class Found:
    """One slice of a chain: probability and prompts on the slice's own pixels; ``quality`` as in
    `Evidence`, ``doubt`` as in `SliceResult`."""

    index: int
    probability: np.ndarray
    prompts: Prompts
    quality: float | None
    doubt: float


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two bool masks; 0 when both are empty."""
    size = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / size if size else 0.0


def doubted_area(probability: np.ndarray, spacing: tuple[float, float]) -> float:
    """In mm², expected to be wrong where each pixel [H, W] is taken for its likelier class."""
    return float(np.minimum(probability, 1 - probability).sum() * math.prod(spacing))


def doubted_share(doubt: float, mask: np.ndarray, spacing: tuple[float, float]) -> float:
    """The doubted area, in mm², as a share of it and the mask's, bool [H, W]: in [0, 1]. Nothing
    of an empty mask is certain."""
    area = np.count_nonzero(mask) * math.prod(spacing)
    return doubt / (doubt + area) if area else 1.0


class Chain:
    """Follows a structure outward from an annotated slice; call `step` for each slice in turn."""

    def __init__(
        self,
        slices: ImageSlices,
        source: int,
        mask: np.ndarray,
        others: list[Remembered],
        guide: Guide = lambda index: None,
    ) -> None:
        """``mask`` is bool [H, W] as drawn in slice ``source``; ``others`` are remembered beside
        it; ``guide`` has a say in every slice."""
        self.slices = slices
        self.source = source
        self.annotated = Remembered(slices.features(source), slices.grid.mask_to_network(mask))
        self.others = others
        self.guide = guide
        self.recent: list[Remembered] = []
        #: The second chain's probability in the slice it has come to, float32 [256, 256].
        self.watch = self.annotated.inside.astype(np.float32)
        self.at = source
        self.proposal: Proposal | None = None
        self.doubt = 0.0
        self.watched = False
        self.walker = CompactSegmenter()

    def step(self, index: int) -> Found:
        """The structure in the neighbouring slice ``index``."""
        slices = self.slices
        direction = 1 if index > self.source else -1
        features = slices.features(index, direction)
        memory = [*self.others, self.annotated, *self.recent]
        proposal = slices.generator.propose(features, memory)
        self.watched = proposal.quality is None
        if self.watched:
            self.watch = self._moved(index, self.watch >= 0.5, proposal.prompts)
        else:
            proposal = self._held(index, proposal)
        proposal = _guided(proposal, self.guide(index))
        prompts, probability = segment_slice(slices, index, proposal, direction)
        item = Remembered(features, slices.grid.mask_to_network(probability))
        self.recent = [*self.recent, item][-RECENT:]
        self.at, self.proposal = index, proposal
        if proposal.probability is None:
            self.doubt = doubted_area(probability, slices.grid.spacing)
        else:
            self.doubt = doubted_area(proposal.probability, slices.grid.network_spacing)
        return Found(index, probability, prompts, proposal.quality, self.doubt)

    def _held(self, index: int, proposal: Proposal) -> Proposal:
        """A proposal of doubtful quality, with the mask found before as a part of its own."""
        own, quality = proposal.probability, proposal.quality
        if own is None or quality is None or quality >= DOUBTFUL:
            return proposal
        before = self.recent[-1] if self.recent else self.annotated
        moved = self._moved(index, before.inside, proposal.prompts)
        if not moved.any():  # there is nothing to hold on to
            return proposal
        return replace(proposal, probability=(1 - HELD) * own + HELD * moved)

    def _moved(self, index: int, mask: np.ndarray, prompts: Prompts) -> np.ndarray:
        """A mask, bool [256, 256], of the slice come from: moved on to ``index`` by registration,
        its contour found again by walking from there and from background points; float32."""
        moved = carry(mask, self.slices.motion(index, self.at)) >= 0.5
        if not moved.any():
            return moved.astype(np.float32)
        box = box_round(moved, math.ceil(MOVED_OUTSIDE))
        depth = ndimage.distance_transform_edt(np.pad(moved[box], 1))[1:-1, 1:-1]
        away = ndimage.distance_transform_edt(~moved[box])
        near = np.full(away.shape, 0.5, np.float32)
        near[depth >= min(MOVED_INSIDE, CORE * depth.max())] = 1.0
        near[away >= MOVED_OUTSIDE] = 0.0
        prior = np.zeros(moved.shape, np.float32)
        prior[box] = near
        background = Prompts(background=prompts.background)
        return self.walker.segment(self.slices.network(index), background, prior)

    def weigh(self) -> Evidence:
        """What speaks for or against the structure in the slice of the last `step`."""
        last, proposal = self.recent[-1], self.proposal
        masks = [last.inside, *([self.watch >= 0.5] if self.watched else [])]
        back = carry_back(self.slices, self.source, self.annotated.features, last.features, masks)
        cycle, *watch_cycle = (dice(one, self.annotated.inside) for one in back)
        return Evidence(
            cycle=cycle,
            watch_cycle=watch_cycle[0] if self.watched else None,
            agreement=dice(*masks) if self.watched else None,
            distance=abs(self.at - self.source) * self.slices.volume.step(self.slices.axis),
            shift=self._shift(last.inside),
            presence=proposal.presence if proposal else None,
            quality=proposal.quality if proposal else None,
            doubt=None if self.watched else self._doubted(last.inside),
        )

    def _doubted(self, mask: np.ndarray) -> float:
        return doubted_share(self.doubt, mask, self.slices.grid.network_spacing)

    def _shift(self, mask: np.ndarray) -> float:
        annotated = self.slices.network(self.source)[self.annotated.inside]
        if not mask.any() or not annotated.size:
            return 0.0
        step = self.slices.network(self.at)[mask].mean() - annotated.mean()
        return float(abs(step) / max(annotated.std(), FLAT))


def _guided(own: Proposal, other: Proposal | None) -> Proposal:
    """Two proposals for one slice, each counting as much as it is sure of itself."""
    if other is None or own.probability is None or other.probability is None:
        return own
    mine, its = _worth(own), _worth(other)
    both = (mine * own.probability + its * other.probability) / max(mine + its, 1e-6)
    presence, quality = (
        None if a is None or b is None else (a + b) / 2
        for a, b in ((own.presence, other.presence), (own.quality, other.quality))
    )
    return replace(own, probability=both, presence=presence, quality=quality)


def _worth(proposal: Proposal) -> float:
    if proposal.presence is None or proposal.quality is None:
        return 1.0
    return proposal.presence * proposal.quality


def carry_back(
    slices: ImageSlices,
    index: int,
    features: Any,
    source: Any,
    masks: Sequence[np.ndarray],
    *,
    foreign: bool = False,
) -> list[np.ndarray]:
    """What is found in slice ``index``, of the first features, from each mask [256, 256] of the
    slice of the second ones alone: bool [256, 256] each."""
    known = [mask.astype(np.float32) for mask in masks]
    carried = slices.generator.carry(features, source, known, foreign=foreign)
    if carried is not None:
        return carried
    found = []
    for mask in known:
        if not mask.any():  # there is nothing to place points by
            found.append(mask > 0)
            continue
        item = Remembered(source, mask)
        back = slices.generator.propose(features, [item], foreign=foreign)
        _, probability = segment_slice(slices, index, back)
        found.append(slices.grid.mask_to_network(probability) >= 0.5)
    return found


def segment_slice(
    slices: ImageSlices, index: int, proposal: Proposal, direction: int = 0
) -> tuple[Prompts, np.ndarray]:
    """Prompts and probability [H, W] on a slice's own pixels, by the segmenter; ``direction`` as
    for `ImageSlices.embedding`."""
    grid = slices.grid
    prompts = prompts_on(slices, proposal)
    prior = None if proposal.probability is None else grid.from_network(proposal.probability)
    # Beside a prior, such a segmenter takes points for a user's corrections.
    given = Prompts() if prior is not None and slices.segmenter.draws_on_prior else prompts
    return prompts, slices.segmenter.segment(slices.embedding(index, direction), given, prior)


def prompts_on(slices: ImageSlices, proposal: Proposal) -> Prompts:
    """A proposal's prompts in the slices' own pixels."""
    return Prompts(
        slices.grid.points_from_network(proposal.prompts.background),
        slices.grid.points_from_network(proposal.prompts.foreground),
    )
