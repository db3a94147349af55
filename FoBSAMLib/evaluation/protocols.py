"""What is asked of every method, and how the answers are scored, one subject at a time.

*interactive*: one slice of the volume itself is annotated, the organ's largest; then, one at a
time, the slices for which the tool asks, answered by the truth ("absent" is an answer).
*whole*: three slices of another subject are annotated, at 1/6, 1/2 and 5/6 of the organ.

Every slice of the volume that is not annotated is a query and none is told to hold the organ:
what is found outside the organ counts as false. The headline Dice is over the whole volume,
annotated slices included; ``dice_queries`` leaves them out. Baselines get the same annotated
slices, and decide presence twice: by their own rule (`CycleGate`) and by the tool's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.baselines import BASELINES, CycleGate, PresenceGate, propagate
from FoBSAMLib.evaluation.datasets import Subject
from FoBSAMLib.evaluation.metrics import dice, surface_agreement
from FoBSAMLib.evaluation.registration import Alignment
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.session.local import LocalSession
from FoBSAMLib.session.support import Support

#: The tool's name among the methods.
TOOL = "fobsam"
METHODS = (TOOL, *BASELINES)
#: Where the annotated slices of another subject lie in its organ.
SUPPORT_SHARES = (1 / 6, 1 / 2, 5 / 6)

Masks = dict[int, np.ndarray]


@dataclass(frozen=True)
class Settings:
    """What to evaluate; ``slices_annotated`` is the most that `interactive` annotates."""

    organs: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    slices_annotated: int = 1
    generator: str = "fob-lite"
    segmenter: str = "compact"
    device: str = "auto"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise FoBSAMError(
                "bad_request",
                f"There is no method {', '.join(unknown)}.",
                f"There are {', '.join(METHODS)}.",
            )
        if self.slices_annotated < 1:
            raise FoBSAMError("bad_request", "At least one slice has to be annotated.")
        if self.slices_annotated > 1 and TOOL not in self.methods:
            raise FoBSAMError(
                "bad_request",
                "Further annotated slices are those for which the tool asks.",
                f"Add {TOOL} to the methods, or annotate one slice.",
            )

    def session(self) -> LocalSession:
        return LocalSession(self.generator, self.segmenter, self.device)


@dataclass(frozen=True)
class Record:
    """One method on one organ of one subject.

    ``presence`` is the rule that decided it ("own" or "tool"); ``absent`` are those of the
    ``annotated`` slices that do not hold the organ; times are wall-clock, the reading of files
    excepted; ``found_slices`` counts query slices with a mask that is not empty.
    """

    subject: int
    organ: str
    method: str
    presence: str
    annotated: tuple[int, ...]
    absent: tuple[int, ...]
    dice: float
    dice_queries: float
    hd95_mm: float
    surface_dice: float
    seconds: float
    query_slices: int
    found_slices: int


def interactive(subject: Subject, settings: Settings) -> Iterator[Record]:
    """Score every method with 1, 2, … annotated slices of the subject itself."""
    volume = subject.volume
    image = normalise(volume)
    session, preparing = _open_session(volume, settings)
    for organ in _chosen(subject, settings):
        truth = subject.masks[organ]
        largest = int(np.argmax(truth.sum(axis=(1, 2))))
        annotated = {largest: truth[largest]}
        while True:
            kept: Callable[[int], bool] | None = None
            if session is not None:
                found, seconds = _run_tool(session, volume, organ, annotated)
                seconds += preparing / len(settings.organs)
                kept = _slices_of(found)
                yield _score(subject, organ, TOOL, "own", annotated, found, seconds)
            for method, presence, found, seconds in _run_baselines(
                settings, image, volume, annotated, kept
            ):
                yield _score(subject, organ, method, presence, annotated, found, seconds)
            if session is None or len(annotated) == settings.slices_annotated:
                break
            following = session.suggest(organ)
            if following is None:
                break
            annotated[following] = truth[following]


def whole(subject: Subject, other: Subject, settings: Settings) -> Iterator[Record]:
    """Score every method with three annotated slices of another subject."""
    volume = subject.volume
    image = normalise(volume)
    session, preparing = _open_session(volume, settings)
    started = time.perf_counter()
    alignment = None
    if set(settings.methods) != {TOOL}:
        alignment = Alignment(image, normalise(other.volume), volume.spacing, other.volume.spacing)
    aligning = time.perf_counter() - started
    for organ in _chosen(subject, settings):
        supports = _supports_of(other, organ)
        kept: Callable[[int], bool] | None = None
        if session is not None:
            found, seconds = _run_tool(session, other.volume, organ, supports, volume)
            seconds += preparing / len(settings.organs)
            kept = _slices_of(found)
            yield _score(subject, organ, TOOL, "own", {}, found, seconds)
        if alignment is None:
            continue
        started = time.perf_counter()
        laid = alignment.lay(supports)
        laying = time.perf_counter() - started + aligning / len(settings.organs)
        for method, presence, found, seconds in _run_baselines(
            settings, image, volume, laid, kept, alignment.image
        ):
            yield _score(subject, organ, method, presence, {}, found, seconds + laying)


def _open_session(volume: Volume, settings: Settings) -> tuple[LocalSession | None, float]:
    """The tool with the image set, and the seconds that took; models are loaded before."""
    if TOOL not in settings.methods:
        return None, 0.0
    session = settings.session()
    started = time.perf_counter()
    session.set_image(volume)
    return session, time.perf_counter() - started


def _chosen(subject: Subject, settings: Settings) -> list[str]:
    return [organ for organ in settings.organs if organ in subject.masks]


def _supports_of(subject: Subject, organ: str) -> Masks:
    if organ not in subject.masks:
        raise FoBSAMError(
            "bad_request", f"The support, subject {subject.id}, has no {organ}.", "Leave it out."
        )
    mask = subject.masks[organ]
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    indices = {int(slices[int(share * len(slices))]) for share in SUPPORT_SHARES}
    return {index: mask[index] for index in sorted(indices)}


def _run_tool(
    session: LocalSession,
    annotated_volume: Volume,
    organ: str,
    annotated: Mapping[int, np.ndarray],
    query: Volume | None = None,
) -> tuple[np.ndarray, float]:
    """The tool's masks, bool [K, J, I] on the query's grid, and the seconds they took."""
    drawn = np.zeros(annotated_volume.shape, bool)
    for index, mask in annotated.items():
        drawn[index] = mask
    absent = tuple(index for index, mask in annotated.items() if not mask.any())
    found = drawn if query is None else np.zeros(query.shape, bool)
    started = time.perf_counter()
    session.set_supports(
        Support.from_masks(annotated_volume, {organ: drawn}, axis="k", absent={organ: absent})
    )
    for result in session.segment():
        found[result.index] = result.mask
    return found, time.perf_counter() - started


def _run_baselines(
    settings: Settings,
    image: np.ndarray,
    volume: Volume,
    annotated: Mapping[int, np.ndarray],
    kept: Callable[[int], bool] | None,
    other_image: np.ndarray | None = None,
) -> Iterator[tuple[str, str, np.ndarray, float]]:
    """Method, presence rule, masks and seconds of each baseline.

    With ``other_image``, the annotated slices are another subject's, laid over this one: each
    baseline first makes its own step from there.
    """
    spacing = volume.slice_spacing("k")
    for method, baseline in BASELINES.items():
        if method not in settings.methods:
            continue
        for presence in ("own", "tool") if kept else ("own",):
            started = time.perf_counter()
            start = dict(annotated)
            if other_image is not None:
                for index, mask in annotated.items():
                    start[index] = baseline.step(image[index], other_image[index], mask, spacing)
            gate: PresenceGate = (
                _told(kept)
                if kept and presence == "tool"
                else CycleGate(image, start, spacing, baseline.agreement)
            )
            found = propagate(baseline.step, image, spacing, start, gate)
            yield method, presence, found, time.perf_counter() - started


def _slices_of(found: np.ndarray) -> Callable[[int], bool]:
    held = set(np.flatnonzero(found.any(axis=(1, 2))).tolist())
    return held.__contains__


def _told(kept: Callable[[int], bool]) -> PresenceGate:
    def gate(index: int, mask: np.ndarray, source: int) -> bool:
        return kept(index)

    return gate


def _score(
    subject: Subject,
    organ: str,
    method: str,
    presence: str,
    annotated: Mapping[int, np.ndarray],
    found: np.ndarray,
    seconds: float,
) -> Record:
    truth = subject.masks[organ]
    surface = surface_agreement(truth, found, subject.volume.spacing)
    queries = np.ones(len(truth), bool)
    queries[list(annotated)] = False
    return Record(
        subject=subject.id,
        organ=organ,
        method=method,
        presence=presence,
        annotated=tuple(annotated),
        absent=tuple(index for index, mask in annotated.items() if not mask.any()),
        dice=dice(truth, found),
        dice_queries=dice(truth[queries], found[queries]),
        hd95_mm=surface.hd95_mm,
        surface_dice=surface.surface_dice,
        seconds=seconds,
        query_slices=int(queries.sum()),
        found_slices=int(found[queries].any(axis=(1, 2)).sum()),
    )
