"""From masks to records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from FoBSAMLib.evaluation.datasets import Subject
from FoBSAMLib.evaluation.metrics import dice, surface_agreement
from FoBSAMLib.evaluation.settings import Pair, Record, SliceScore, Variant
from FoBSAMLib.session.results import SliceResult

NO_PAIR = Pair("", "")
#: Of an image [K, J, I, RGB].
COLOUR_DIMENSIONS = 4


class Answer(NamedTuple):
    """What a method found in a subject: masks bool [K, J, I], and how it came to them.

    ``pair`` are the labels of its models; ``results`` those of a method that gives confidence.
    """

    method: str
    presence: str
    masks: np.ndarray
    seconds: float
    pair: Pair = NO_PAIR
    results: Iterable[SliceResult] = ()
    ablation: Variant | None = None


class Given(NamedTuple):
    """What every method was given: annotated slices of the subject itself (by the rule
    ``suggestion``), or a support subject; and the slices asked for, all for None."""

    annotated: Mapping[int, np.ndarray]
    suggestion: str = ""
    fold: str | None = None
    support: int | None = None
    asked: Collection[int] | None = None


class Scored(NamedTuple):
    """A record, and the answer it is about."""

    record: Record
    answer: Answer


def score(subject: Subject, organ: str, answer: Answer, given: Given) -> Scored:
    """How well an answer agrees with the truth; both count only in the slices asked for."""
    truth, found = subject.masks[organ], answer.masks
    asked = np.ones(len(truth), bool)
    if given.asked is not None:
        asked[:] = False
        asked[list(given.asked)] = True
        truth, found = (mask & asked[:, None, None] for mask in (truth, found))
    queries = asked.copy()
    queries[list(given.annotated)] = False
    # A photograph has one slice, and its pixels no size.
    is_photograph = subject.volume.array.ndim == COLOUR_DIMENSIONS
    surface = None if is_photograph else surface_agreement(truth, found, subject.volume.spacing)
    record = Record(
        subject=subject.id,
        organ=organ,
        method=answer.method,
        presence=answer.presence,
        generator=answer.pair.generator,
        segmenter=answer.pair.segmenter,
        suggestion=given.suggestion,
        fold=given.fold,
        support=given.support,
        annotated=tuple(given.annotated),
        absent=tuple(index for index, mask in given.annotated.items() if not mask.any()),
        dice=dice(truth, found),
        dice_queries=dice(truth[queries], found[queries]),
        hd95_mm=surface.hd95_mm if surface else None,
        surface_dice=surface.surface_dice if surface else None,
        seconds=answer.seconds,
        query_slices=int(queries.sum()),
        found_slices=int(found[queries].any(axis=(1, 2)).sum()),
        ablation=answer.ablation,
        slices=tuple(
            _score_slice(truth[result.index], result)
            for result in sorted(answer.results, key=lambda result: result.index)
            if queries[result.index]
        ),
    )
    return Scored(record, answer)


def _score_slice(truth: np.ndarray, result: SliceResult) -> SliceScore:
    return SliceScore(
        index=result.index,
        truth=int(truth.sum()),
        found=int(result.mask.sum()),
        dice=round(dice(truth, result.mask), 4),
        presence=round(float(result.presence), 4),
        confidence=round(float(result.confidence), 4),
    )
