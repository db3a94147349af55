"""From the annotated slices of one structure to all others of the same volume."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

import numpy as np

from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.chain import Chain, Found, Guide, dice, doubted_area, doubted_share
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.presence import PRESENT, Between, Verdict, judge, judge_between
from FoBSAMLib.session.slices import ImageSlices
from FoBSAMLib.session.together import Cancel, together

#: Beyond an end the structure is ever less likely: its presence falls to 1/e within these mm. On
#: development subjects any value from 2 to 12 tells wrongly empty slices from others as well.
FADE_MM = 4.0
#: A way on which the masks were sure on the whole ends where one is surely wrong: of a structure
#: that is easy to follow, that is its end. Of a difficult one it says nothing.
SURE_WAY, WRONG = 0.5, 0.05
#: Between two annotated slices a side counts as much as it is near, times its quality to this
#: power: one that has lost the structure must not spoil what the other has found. 1 and 2 gain
#: less on development subjects; see Testing/benchmarks/accuracy.md.
STRICT = 4


@dataclass(frozen=True)
class Outcome:
    """One query slice: bool mask [H, W] (empty where absent), prompts, verdict, and doubt as in
    `SliceResult`."""

    index: int
    mask: np.ndarray
    prompts: Prompts
    verdict: Verdict
    doubt: float = 0.0


def follow(
    slices: ImageSlices,
    annotated: Mapping[int, np.ndarray],
    absent: set[int],
    wanted: range,
    cancel: Cancel = lambda: False,
    *,
    holding: bool = False,
    guide: Guide = lambda index: None,
) -> Iterator[Outcome]:
    """Segment the wanted slices, outward from the annotated ones, on two sides at once.

    Args:
        annotated: masks as drawn, bool [H, W], by slice index; none empty.
        absent: slices known not to hold the structure.
        wanted: the slices to give results for, step 1.
        cancel: asked between slices, in the caller's thread; True ends the run.
        holding: every wanted slice is known to hold the structure.
        guide: what else is known of the slices.

    Yields:
        An outcome for every wanted slice that is neither annotated nor known to be empty.
    """
    present = sorted(annotated)
    queries = [n for n in wanted if n not in annotated and n not in absent]
    done: set[int] = set()

    def ways(stop: Cancel) -> Iterator[Iterator[Outcome]]:
        for low, high in pairwise(present):
            inside = [n for n in queries if low < n < high]
            if inside and not any(low < n < high for n in absent):
                yield _between(slices, annotated, low, high, inside, stop, guide)
        for source, direction in [(n, d) for n in present for d in (-1, 1)]:
            way = _way_out(source, direction, present, absent, slices.count)
            if any(n in wanted for n in way):
                yield _outward(slices, annotated, source, way, wanted, stop, holding, guide)

    for outcome in together(ways, cancel, threaded=slices.threaded):
        done.add(outcome.index)
        yield outcome
    if cancel():
        return
    empty = np.zeros_like(next(iter(annotated.values())))
    for index in queries:
        if index not in done:  # between two slices known to be empty
            yield Outcome(index, empty, Prompts(), Verdict(0.0, 1.0))


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
    cancel: Cancel,
    holding: bool,
    guide: Guide,
) -> Iterator[Outcome]:
    """Follow the structure until it ends, or until no wanted slice lies ahead; one does."""
    ahead = [n for n in way if n in wanted]
    chain = Chain(slices, source, annotated[source], _others(slices, annotated, source), guide)
    confidences: list[float] = []
    for index in range(way.start, ahead[-1] + way.step, way.step):
        if cancel():
            return
        found = chain.step(index)
        verdict = judge(chain.weigh())
        mask = clean(found.probability >= 0.5)
        confidences.append(verdict.confidence)
        if verdict.confidence < WRONG and mean(confidences) > SURE_WAY:
            # No more is known then than that this is something else.
            verdict = verdict._replace(presence=min(verdict.presence, 0.5))
        if not holding and (verdict.presence < PRESENT or not mask.any()):
            for beyond in [n for n in ahead if (n - index) * way.step >= 0]:  # not walked
                prompts = found.prompts if beyond == index else Prompts()
                past = abs(beyond - index) * slices.volume.step(slices.axis)
                presence = verdict.presence * math.exp(-past / FADE_MM)
                faded = Verdict(presence, 1 - presence)
                doubt = found.doubt if beyond == index else 0.0
                yield Outcome(beyond, np.zeros_like(mask), prompts, faded, doubt)
            return
        if index in wanted:
            yield Outcome(index, mask, found.prompts, verdict, found.doubt)


def _between(
    slices: ImageSlices,
    annotated: Mapping[int, np.ndarray],
    low: int,
    high: int,
    wanted: list[int],
    cancel: Cancel,
    guide: Guide,
) -> Iterator[Outcome]:
    """Follow from both sides and weigh the two, slice by slice."""
    downward: dict[int, Found] = {}
    chain = Chain(slices, high, annotated[high], _others(slices, annotated, high), guide)
    for index in range(high - 1, wanted[0] - 1, -1):
        if cancel():
            return
        downward[index] = chain.step(index)
    chain = Chain(slices, low, annotated[low], _others(slices, annotated, low), guide)
    for index in range(low + 1, wanted[-1] + 1):
        if cancel():
            return
        up = chain.step(index)
        if index not in wanted:
            continue
        down = downward.pop(index)
        share = _share(up, down, (index - low) / (high - low))
        probability = (1 - share) * up.probability + share * down.probability
        mask = clean(probability >= 0.5)
        # What each side doubts by itself, and where the two differ.
        doubt = (1 - share) * up.doubt + share * down.doubt
        doubt += doubted_area(probability, slices.grid.spacing)
        evidence = Between(
            agreement=dice(up.probability >= 0.5, down.probability >= 0.5),
            distance=min(index - low, high - index) * slices.volume.step(slices.axis),
            doubt=None if up.quality is None else doubted_share(doubt, mask, slices.grid.spacing),
        )
        verdict = judge_between(evidence, held=bool(mask.any()))
        prompts = up.prompts if share <= 0.5 else down.prompts
        yield Outcome(index, mask, prompts, verdict, doubt)


def _share(up: Found, down: Found, way: float) -> float:
    """Of ``down`` in what both have found, ``way`` in [0, 1] nearer to where that comes from."""
    if up.quality is None or down.quality is None:
        return way
    mine, its = (1 - way) * up.quality**STRICT, way * down.quality**STRICT
    return its / (mine + its) if mine + its else way


def _others(
    slices: ImageSlices, annotated: Mapping[int, np.ndarray], source: int
) -> list[Remembered]:
    """The next nearest annotated slice, remembered beside the one a chain starts from."""
    rest = sorted((n for n in annotated if n != source), key=lambda n: abs(n - source))
    return [
        Remembered(slices.features(n), slices.grid.mask_to_network(annotated[n])) for n in rest[:1]
    ]
