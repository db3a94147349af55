"""From the annotated slices of one structure to all others of the same volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.chain import Chain, Found, dice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.presence import PRESENT, Verdict, judge, judge_between
from FoBSAMLib.session.slices import ImageSlices


@dataclass(frozen=True)
class Outcome:
    """One query slice: bool mask [H, W] (empty where absent), prompts and verdict."""

    index: int
    mask: np.ndarray
    prompts: Prompts
    verdict: Verdict


def follow(
    slices: ImageSlices, annotated: Mapping[int, np.ndarray], absent: set[int], wanted: range
) -> Iterator[Outcome]:
    """Segment the wanted slices, outward from the annotated ones.

    Args:
        annotated: masks as drawn, bool [H, W], by slice index; none empty.
        absent: slices known not to hold the structure.
        wanted: the slices to give results for, step 1.

    Yields:
        An outcome for every wanted slice that is neither annotated nor known to be empty.
    """
    present = sorted(annotated)
    queries = [n for n in wanted if n not in annotated and n not in absent]
    done: set[int] = set()
    for low, high in pairwise(present):
        inside = [n for n in queries if low < n < high]
        if inside and not any(low < n < high for n in absent):
            for outcome in _between(slices, annotated, low, high):
                if outcome.index in inside:
                    done.add(outcome.index)
                    yield outcome
    for source, direction in [(n, d) for n in present for d in (-1, 1)]:
        way = _way_out(source, direction, present, absent, slices.count)
        for outcome in _outward(slices, annotated, source, way, wanted):
            done.add(outcome.index)
            yield outcome
    shape = next(iter(annotated.values())).shape
    for index in queries:
        if index not in done:
            yield Outcome(index, np.zeros(shape, bool), Prompts(), Verdict(0.0, 1.0))


def _way_out(
    source: int, direction: int, present: list[int], absent: set[int], count: int
) -> range:
    """Slices from an annotated one to the next known to be empty, or the end of the volume; none
    where the next known one holds the structure."""
    ahead = [n for n in [*present, *absent] if (n - source) * direction > 0]
    nearest = min(ahead, key=lambda n: abs(n - source), default=None)
    if nearest in present:
        return range(0)
    end = nearest if nearest is not None else (count if direction > 0 else -1)
    return range(source + direction, end, direction)


def _outward(
    slices: ImageSlices,
    annotated: Mapping[int, np.ndarray],
    source: int,
    way: range,
    wanted: range,
) -> Iterator[Outcome]:
    """Follow the structure until it ends, or until no wanted slice lies ahead."""
    ahead = [n for n in way if n in wanted]
    if not ahead:
        return
    chain = Chain(slices, source, annotated[source], _others(slices, annotated, source))
    for index in range(way.start, ahead[-1] + way.step, way.step):
        found = chain.step(index)
        verdict = judge(chain.weigh())
        mask = clean(found.probability >= 0.5)
        if verdict.presence < PRESENT or not mask.any():
            # Where the structure ends is known: what lies beyond is not walked again.
            if index in wanted:
                empty = Verdict(verdict.presence, 1 - verdict.presence)
                yield Outcome(index, np.zeros_like(mask), found.prompts, empty)
            return
        if index in wanted:
            yield Outcome(index, mask, found.prompts, verdict)


def _between(
    slices: ImageSlices, annotated: Mapping[int, np.ndarray], low: int, high: int
) -> Iterator[Outcome]:
    """Follow from both sides and weigh the two by how near their annotated slices are."""
    upward = _walk(slices, annotated, low, high)
    downward = _walk(slices, annotated, high, low)
    for index in range(low + 1, high):
        up, down = upward[index], downward[index]
        share = (index - low) / (high - low)
        probability = (1 - share) * up.probability + share * down.probability
        agreement = dice(up.probability >= 0.5, down.probability >= 0.5)
        nearer = up if share <= 0.5 else down
        mask = clean(probability >= 0.5)
        yield Outcome(index, mask, nearer.prompts, judge_between(agreement))


def _walk(
    slices: ImageSlices, annotated: Mapping[int, np.ndarray], source: int, end: int
) -> dict[int, Found]:
    step = 1 if end > source else -1
    others = _others(slices, annotated, source)
    chain = Chain(slices, source, annotated[source], others)
    return {index: chain.step(index) for index in range(source + step, end, step)}


def _others(
    slices: ImageSlices, annotated: Mapping[int, np.ndarray], source: int
) -> list[Remembered]:
    """The next nearest annotated slice, remembered beside the one a chain starts from."""
    rest = sorted((n for n in annotated if n != source), key=lambda n: abs(n - source))
    return [
        Remembered(slices.features(n), slices.grid.mask_to_network(annotated[n])) for n in rest[:1]
    ]
