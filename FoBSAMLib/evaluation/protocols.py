"""What is asked of every method, and how the answers are scored, one subject at a time.

*interactive*: one slice of the volume itself is annotated, the organ's largest; then, one at a
time, further slices, answered by the truth ("absent" is an answer): those for which the tool asks,
or the middle of the widest gap. With several generators or segmenters the first pair leads, so
that all have the same slices.
*whole*: three slices of another subject are annotated, at 1/6, 1/2 and 5/6 of the organ.

In both, every slice of the volume that is not annotated is a query and none is told to hold the
organ: what is found outside the organ counts as false. The headline Dice is over the whole volume,
annotated slices included; ``dice_queries`` leaves them out. All other methods get the same
annotated slices, and decide presence twice: by their own rule (`CycleGate`) and by the tool's. In
*whole* neither rule takes for granted that the structure is where another subject's comes to lie.

*fob* (published): the same three slices of another subject, but only the query's slices that hold
the organ are asked for, in three equal parts, the first from the first annotated slice and so on,
and every method may rely on that.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from FoBSAMLib.evaluation import points
from FoBSAMLib.evaluation.ablation import ablated_points
from FoBSAMLib.evaluation.baselines import (
    BASELINES,
    Baseline,
    CycleGate,
    Step,
    StepOnce,
    interpolate,
    propagate,
)
from FoBSAMLib.evaluation.datasets import Subject
from FoBSAMLib.evaluation.registration import Alignment
from FoBSAMLib.evaluation.scoring import Answer, Given, Scored, score
from FoBSAMLib.evaluation.settings import ABLATION, METHODS, TOOL, Pair, Settings, Variant
from FoBSAMLib.evaluation.tool import Found, Tools, ToolSession
from FoBSAMLib.image.windows import normalise

__all__ = ["METHODS", "TOOL", "fob", "interactive", "whole"]

#: Where the annotated slices of another subject lie in its organ.
SUPPORT_SHARES = (1 / 6, 1 / 2, 5 / 6)

Masks = dict[int, np.ndarray]


class Query:
    """A subject under evaluation: what methods need of it, made once for all organs."""

    def __init__(
        self, subject: Subject, settings: Settings, tools: Tools, fold: str | None = None
    ) -> None:
        self.subject = subject
        self.settings = settings
        self.volume = subject.volume
        self.image = normalise(subject.volume)
        self.spacing = subject.volume.slice_spacing("k")
        self.fold = fold
        self._tools = tools

    @property
    def organs(self) -> list[str]:
        """Those wanted that the subject has."""
        return [organ for organ in self.settings.organs if organ in self.subject.masks]

    @property
    def baselines(self) -> Iterator[tuple[str, Baseline]]:
        """Those wanted that need no model."""
        return ((n, BASELINES[n]) for n in BASELINES if n in self.settings.methods)

    @property
    def places(self) -> Iterator[tuple[str, points.Place]]:
        """Those wanted that place points."""
        return ((n, points.PLACES[n]) for n in points.PLACES if n in self.settings.methods)

    @property
    def needs_models(self) -> bool:
        return self.settings.ablation or any(
            method not in BASELINES for method in self.settings.methods
        )

    def sessions(self, organ: str) -> Iterator[tuple[Pair, ToolSession]]:
        """The session of every pair, with the image set, and the pair's labels."""
        if self.needs_models:
            for pair in self.settings.pairs:
                session = self._tools.session(pair, self.fold, organ)
                session.look_at(self.volume)
                yield self.settings.label(pair), session

    def masks(self, found: Mapping[int, np.ndarray]) -> np.ndarray:
        """Masks of single slices as one, bool [K, J, I]."""
        whole = np.zeros(self.volume.shape, bool)
        for index, mask in found.items():
            whole[index] = mask
        return whole


def interactive(
    subject: Subject, settings: Settings, tools: Tools, fold: str | None = None
) -> Iterator[Scored]:
    """Score every method with 1, 2, … annotated slices of the subject itself."""
    query = Query(subject, settings, tools, fold)
    for suggestion in settings.suggestions:
        for organ in query.organs:
            truth = subject.masks[organ]
            largest = int(np.argmax(truth.sum(axis=(1, 2))))
            given = Given({largest: truth[largest]}, suggestion, fold)
            while True:
                lead: Found | None = None
                following: int | None = None
                for labels, session in query.sessions(organ):
                    found, answers = _from_own(query, organ, given, labels, session)
                    yield from (score(subject, organ, answer, given) for answer in answers)
                    if lead is None and found is not None:
                        lead = found
                        following = _next_slice(session, organ, given, found)
                for name, baseline in query.baselines:
                    for answer in _walk_image(query, name, baseline, given.annotated, lead):
                        yield score(subject, organ, answer, given)
                if following is None or len(given.annotated) == settings.slices_annotated:
                    break
                annotated = {**given.annotated, following: truth[following]}
                given = given._replace(annotated=annotated)


def _from_own(
    query: Query, organ: str, given: Given, labels: Pair, session: ToolSession
) -> tuple[Found | None, list[Answer]]:
    """What a pair of models finds from annotated slices of the volume itself."""
    found, answers = None, []
    if TOOL in query.settings.methods:
        found = session.find(query.volume, organ, given.annotated, query.volume)
        answers.append(_tool_answer(query, found, labels, session))
    slices = session.slices(query.volume)
    for name, place in query.places:
        step = points.chain(place, slices, given.annotated)
        walked = _walk(query, step, points.AGREEMENT, given.annotated, found, sure=True)
        answers += [
            Answer(name, presence, query.masks(masks), seconds, labels)
            for presence, masks, seconds in walked
        ]
    return found, answers


def _tool_answer(query: Query, found: Found, labels: Pair, session: ToolSession) -> Answer:
    seconds = found.seconds + session.preparing / len(query.settings.organs)
    return Answer(TOOL, "own", found.masks, seconds, labels, found.results)


def _next_slice(session: ToolSession, organ: str, given: Given, found: Found) -> int | None:
    if given.suggestion == "tool":
        return session.suggest(organ)
    return middle_of_widest_gap(found.holding, given.annotated)


def middle_of_widest_gap(held: Collection[int], annotated: Mapping[int, np.ndarray]) -> int | None:
    """The middle of the widest gap between known slices; None where there is none.

    Known are the annotated slices, and from where on nothing was found; ``held`` are the slices
    in which something was.
    """
    low, high = min(held) - 1, max(held) + 1
    known = sorted({low, high, *(n for n in annotated if low < n < high)})
    before, after = max(pairwise(known), key=lambda gap: gap[1] - gap[0])
    middle = (before + after) // 2
    return middle if before < middle < after else None


def _walk_image(
    query: Query,
    name: str,
    baseline: Baseline,
    start: Mapping[int, np.ndarray],
    told: Found | None,
    seconds: float = 0.0,
    *,
    sure: bool = True,
) -> Iterator[Answer]:
    """A baseline by its own presence rule and by the tool's; ``seconds`` is what ``start`` took."""
    step = baseline.on(query.image, query.spacing)
    between = interpolate(start, query.spacing) if baseline.interpolates else {}
    for presence, reached, took in _walk(query, step, baseline.agreement, start, told, sure=sure):
        masks = reached | {index: between[index] for index in between.keys() & reached.keys()}
        yield Answer(name, presence, query.masks(masks), took + seconds)


def _walk(
    query: Query,
    step: Step,
    agreement: float,
    start: Mapping[int, np.ndarray],
    told: Found | None,
    *,
    sure: bool,
) -> Iterator[tuple[str, Masks, float]]:
    """Presence rule, masks and seconds of a chain outward from masks of the volume itself.

    ``sure``: ``start`` was annotated. Else it was guessed, and the rule decides there, too.
    """
    within = range(len(query.image))
    once = StepOnce(step)
    for presence in ("own", "tool") if told else ("own",):
        started, spared = time.perf_counter(), once.spared
        if told and presence == "tool":
            walk = _by_annotation if sure else _by_guess
            masks = walk(once, start, told.holding, within)
        else:
            gate = CycleGate(query.image, start, query.spacing, agreement)
            masks = propagate(once, start, gate, within, sure=sure)
        yield presence, masks, time.perf_counter() - started + once.spared - spared


def _by_annotation(
    step: Step, start: Mapping[int, np.ndarray], holding: Collection[int], within: range
) -> Masks:
    """The chain through the slices that the tool holds, as far as they are without a gap."""
    return propagate(step, start, lambda index, *_: index in holding, within)


def _by_guess(
    step: Step, start: Mapping[int, np.ndarray], holding: Collection[int], within: range
) -> Masks:
    """Masks of the tool's slices alone. They are walked through wherever the chain begins, so that
    a start outside them can still reach them."""
    if not holding:
        return {}
    span = range(min(holding), max(holding) + 1)
    reached = propagate(step, start, lambda *_: True, span)
    return {index: mask for index, mask in reached.items() if index in holding}


class Other:
    """The annotated subject of protocols across subjects, laid over the query where needed."""

    def __init__(self, query: Query, subject: Subject) -> None:
        self.subject = subject
        self.volume = subject.volume
        self.alignment: Alignment | None = None
        started = time.perf_counter()
        if any(True for _ in query.baselines):
            self.alignment = Alignment(
                query.image, normalise(self.volume), query.volume.spacing, self.volume.spacing
            )
        self.seconds = (time.perf_counter() - started) / len(query.settings.organs)
        #: Those wanted that both subjects have; see `cases.lacking_notes` for the others.
        self.organs = [organ for organ in query.organs if organ in subject.masks]

    def supports(self, organ: str) -> list[tuple[int, np.ndarray]]:
        """The three annotated slices: index and mask; the same one twice in a tiny organ."""
        mask = self.subject.masks[organ]
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        indices = [int(slices[int(share * len(slices))]) for share in SUPPORT_SHARES]
        return [(index, mask[index]) for index in indices]

    def enter(
        self, query: Query, baseline: Baseline, support: tuple[int, np.ndarray], at: int | None
    ) -> Masks:
        """A support's mask in the query, by the baseline's own step from the support laid over it:
        in the slice ``at``, or where it comes to lie for None. Empty where it lies outside."""
        assert self.alignment is not None
        laid = self.alignment.lay(*support)
        if laid is None:
            return {}
        middle, shadow = laid
        index = middle if at is None else at
        mask = baseline.step(
            query.image[index], self.alignment.image[middle], shadow, query.spacing
        )
        return {index: mask} if mask.any() else {}


def whole(
    subject: Subject, other: Subject, settings: Settings, tools: Tools, fold: str | None = None
) -> Iterator[Scored]:
    """Score every method with three annotated slices of another subject."""
    query = Query(subject, settings, tools, fold)
    source = Other(query, other)
    given = Given({}, fold=fold, support=other.id)
    for organ in source.organs:
        supports = source.supports(organ)
        lead: Found | None = None
        for labels, session in query.sessions(organ):
            found, answers = _from_other(query, source, organ, supports, labels, session)
            yield from (score(subject, organ, answer, given) for answer in answers)
            lead = lead or found
        for name, baseline in query.baselines:
            started = time.perf_counter()
            start: Masks = {}
            for support in supports:
                start |= source.enter(query, baseline, support, None)
            seconds = time.perf_counter() - started + source.seconds
            for answer in _walk_image(query, name, baseline, start, lead, seconds, sure=False):
                yield score(subject, organ, answer, given)


def _from_other(
    query: Query,
    source: Other,
    organ: str,
    supports: Sequence[tuple[int, np.ndarray]],
    labels: Pair,
    session: ToolSession,
) -> tuple[Found | None, list[Answer]]:
    """What a pair of models finds from another subject's slices, nothing known of presence.

    Points alone start in the slice that fits a support best, as the tool does.
    """
    found, answers = None, []
    if TOOL in query.settings.methods:
        found = session.find(source.volume, organ, dict(supports), query.volume)
        answers.append(_tool_answer(query, found, labels, session))
    slices, others = session.slices(query.volume), session.slices(source.volume)
    known = [points.KnownSlice(others, index, mask) for index, mask in supports]
    for name, place in query.places:
        started = time.perf_counter()
        start = points.find_start(place, slices, known)
        seconds = time.perf_counter() - started
        step = points.chain(place, slices, start)
        walked = _walk(query, step, points.AGREEMENT, start, found, sure=False)
        answers += [
            Answer(name, presence, query.masks(masks), took + seconds, labels)
            for presence, masks, took in walked
        ]
    return found, answers


def fob(
    subject: Subject, other: Subject, settings: Settings, tools: Tools, fold: str | None = None
) -> Iterator[Scored]:
    """Score every method on the organ's slices alone, each third from one annotated slice."""
    query = Query(subject, settings, tools, fold)
    source = Other(query, other)
    for organ in source.organs:
        held = np.flatnonzero(subject.masks[organ].any(axis=(1, 2)))
        given = Given({}, fold=fold, support=other.id, asked=held.tolist())
        bounds = np.linspace(0, len(held), len(SUPPORT_SHARES) + 1).astype(int)
        parts = [
            Part(support, range(int(held[low]), int(held[high - 1]) + 1), held[low:high].tolist())
            for support, (low, high) in zip(source.supports(organ), pairwise(bounds), strict=True)
            if high > low
        ]
        for labels, session in query.sessions(organ):
            answers = _by_parts(query, source, organ, parts, labels, session)
            yield from (score(subject, organ, answer, given) for answer in answers)
        for name, baseline in query.baselines:
            answer = _baseline_by_parts(query, source, name, baseline, parts)
            yield score(subject, organ, answer, given)


class Part(NamedTuple):
    """A third of the organ's slices in the query, and the support (index, mask) for it.

    ``span`` goes from the first to the last of the ``slices`` that are asked for.
    """

    support: tuple[int, np.ndarray]
    span: range
    slices: list[int]


def _by_parts(
    query: Query,
    source: Other,
    organ: str,
    parts: Sequence[Part],
    labels: Pair,
    session: ToolSession,
) -> Iterator[Answer]:
    if TOOL in query.settings.methods:
        found = [
            session.find(source.volume, organ, dict([part.support]), query.volume, part.span)
            for part in parts
        ]
        together = Found(
            np.any([one.masks for one in found], axis=0),
            [result for one in found for result in one.results],
            sum(one.seconds for one in found),
        )
        yield _tool_answer(query, together, labels, session)._replace(presence="given")
    slices, others = session.slices(query.volume), session.slices(source.volume)
    asked = [
        (index, points.KnownSlice(others, *part.support)) for part in parts for index in part.slices
    ]
    for name, place in query.places:
        started = time.perf_counter()
        masks = {
            index: points.found_from(place, slices, index, support) for index, support in asked
        }
        seconds = time.perf_counter() - started
        yield Answer(name, "given", query.masks(masks), seconds, labels)
    if query.settings.ablation:
        variants: dict[Variant, Masks] = {}
        for index, support in asked:
            for variant, prompts in ablated_points(slices, index, support):
                variants.setdefault(variant, {})[index] = points.draw(slices, index, prompts)
        for variant, masks in variants.items():
            yield Answer(ABLATION, "given", query.masks(masks), 0.0, labels, (), variant)


def _baseline_by_parts(
    query: Query, source: Other, name: str, baseline: Baseline, parts: Sequence[Part]
) -> Answer:
    """Each support enters in the middle of its part, which is then walked without any doubt."""
    started = time.perf_counter()
    step = baseline.on(query.image, query.spacing)
    entered: Masks = {}
    masks: Masks = {}
    for part in parts:
        middle = part.slices[len(part.slices) // 2]
        start = source.enter(query, baseline, part.support, middle)
        entered |= start
        masks |= propagate(step, start, lambda *_: True, part.span)
    if baseline.interpolates:
        masks |= interpolate(entered, query.spacing)
    seconds = time.perf_counter() - started + source.seconds
    return Answer(name, "given", query.masks(masks), seconds)
