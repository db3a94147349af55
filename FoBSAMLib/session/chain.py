"""Following one structure from slice to slice, by two unlike chains.

The first chain finds the contour: the generator matches each slice against the annotated one and
those found before, and the segmenter draws the mask. The second watches: it carries the mask
along by registration and lets the generator's background points and the random walker find its
contour again. Where the two part, or where carrying the mask straight back to the annotated
slice does not meet the annotation, the structure has ended or the mask is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.image.registration import carry
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.random_walker import CompactSegmenter
from FoBSAMLib.session.slices import ImageSlices

#: Slices found before that are remembered beside the annotated one.
RECENT = 2
#: The watching chain decides between these distances inside and outside the carried mask, in
#: pixels of the 256×256 grid.
WATCH_INSIDE, WATCH_OUTSIDE = 5.0, 3.0
#: At least this share of the mask's depth stays a seed, so that thin structures keep one.
CORE = 0.6


@dataclass(frozen=True)
class Evidence:
    """What speaks for or against the structure in a slice; see `presence.judge`.

    ``cycle`` and ``watch_cycle``: Dice with the annotation of each chain's mask carried straight
    back; ``agreement``: Dice of the two chains; ``margin``: see `Proposal`; ``certainty``: mean
    probability inside the mask; ``area``: its area over the annotated one's.
    """

    cycle: float
    watch_cycle: float
    agreement: float
    margin: float
    certainty: float
    area: float


@dataclass(frozen=True)
class Found:
    """One slice of a chain: probability and prompts on the slice's own pixels."""

    index: int
    probability: np.ndarray
    prompts: Prompts
    evidence: Evidence


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two bool masks; 0 when both are empty."""
    size = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / size if size else 0.0


class Chain:
    """Follows a structure outward from an annotated slice; call `step` for each slice in turn."""

    def __init__(
        self,
        slices: ImageSlices,
        source: int,
        mask: np.ndarray,
        others: list[Remembered],
        *,
        watched: bool,
    ) -> None:
        """``mask`` is bool [H, W] as drawn in slice ``source``; ``others`` are remembered beside
        it; ``watched`` runs the second chain."""
        self.slices = slices
        self.source = source
        self.annotated = Remembered(slices.features(source), slices.grid.mask_to_network(mask))
        self.others = others
        self.recent: list[Remembered] = []
        self.watched = watched
        self.watch = self.annotated.mask >= 0.5
        self.at = source
        self.watch_walker = CompactSegmenter()

    def step(self, index: int) -> Found:
        """The structure in the neighbouring slice ``index``."""
        slices = self.slices
        direction = 1 if index > self.source else -1
        features = slices.features(index, direction)
        memory = [*self.others, self.annotated, *self.recent]
        proposal = slices.generator.propose(features, memory)
        prompts, probability = segment_slice(slices, index, proposal)
        coverage = slices.grid.image_to_network(probability)
        item = Remembered(features, coverage)
        if self.watched:
            self._carry_watch(index, proposal.prompts)
        evidence = self._weigh(item, proposal)
        self.recent = [*self.recent, item][-RECENT:]
        self.at = index
        return Found(index, probability, prompts, evidence)

    def _carry_watch(self, index: int, prompts: Prompts) -> None:
        """Move the watching mask on by registration; its contour is found again by walking."""
        moved = carry(self.watch, self.slices.motion(index, self.at)) >= 0.5
        if not moved.any():
            self.watch = moved
            return
        depth = ndimage.distance_transform_edt(np.pad(moved, 1))[1:-1, 1:-1]
        away = ndimage.distance_transform_edt(~moved)
        prior = np.full(moved.shape, 0.5, np.float32)
        prior[depth >= min(WATCH_INSIDE, CORE * depth.max())] = 1.0
        prior[away >= WATCH_OUTSIDE] = 0.0
        background = Prompts(background=prompts.background)
        walked = self.watch_walker.segment(self.slices.network(index), background, prior)
        self.watch = walked >= 0.5

    def _weigh(self, item: Remembered, proposal: Proposal) -> Evidence:
        mask = item.mask >= 0.5
        truth = self.annotated.mask >= 0.5
        inside = item.mask[mask]
        return Evidence(
            cycle=self._cycle(item) if mask.any() else 0.0,
            watch_cycle=(
                self._cycle(Remembered(item.features, self.watch.astype(np.float32)))
                if self.watched and self.watch.any()
                else 0.0
            ),
            agreement=dice(mask, self.watch) if self.watched else 0.0,
            margin=proposal.margin,
            certainty=float(inside.mean()) if len(inside) else 0.0,
            area=float(mask.sum() / max(truth.sum(), 1)),
        )

    def _cycle(self, item: Remembered) -> float:
        """Dice with the annotation of the mask carried straight back to the annotated slice."""
        back = carry_back(self.slices, self.source, self.annotated.features, item)
        return dice(back, self.annotated.mask >= 0.5)


def carry_back(
    slices: ImageSlices, index: int, features: Any, item: Remembered, *, foreign: bool = False
) -> np.ndarray:
    """The structure found in slice ``index`` from ``item`` alone, bool [256, 256]."""
    carried = slices.generator.carry(features, item, foreign=foreign)
    if carried is not None:
        return carried
    back = slices.generator.propose(features, [item], foreign=foreign)
    _, probability = segment_slice(slices, index, back)
    return slices.grid.image_to_network(probability) >= 0.5


def segment_slice(
    slices: ImageSlices, index: int, proposal: Proposal
) -> tuple[Prompts, np.ndarray]:
    """Prompts and probability [H, W] on a slice's own pixels, by the segmenter."""
    grid = slices.grid
    prompts = Prompts(
        grid.points_from_network(proposal.prompts.background),
        grid.points_from_network(proposal.prompts.foreground),
    )
    prior = None if proposal.probability is None else grid.from_network(proposal.probability)
    given = Prompts() if prior is not None and slices.segmenter.name == "compact" else prompts
    return prompts, slices.segmenter.segment(slices.embedding(index), given, prior)
