"""What an evaluation asks, and the records it gets for answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.baselines import BASELINES

#: The tool's name among the methods.
TOOL = "fobsam"
#: Points alone with the same segmenter: FoB's own, and those of a similarity map.
FOB_PROMPTS, PROTOTYPE_PROMPTS = POINT_METHODS = ("fob-prompts", "prototype-prompts")
METHODS = (TOOL, *BASELINES, *POINT_METHODS)
#: The name in records of what `--ablation` adds.
ABLATION = "ablation"

ProtocolName = Literal["fob", "whole", "interactive", "skin"]
PROTOCOLS: tuple[ProtocolName, ...] = ("fob", "whole", "interactive", "skin")
#: The published protocols: every slice asked for is known to hold the structure.
HOLDING_PROTOCOLS = ("fob", "skin")
#: Rules that choose the further annotated slices.
SUGGESTIONS = ("tool", "middle")


class Pair(NamedTuple):
    """A generator and a segmenter, as they were asked for."""

    generator: str
    segmenter: str


@dataclass(frozen=True)
class Settings:
    """What to evaluate.

    ``slices_annotated`` is the most that `interactive` annotates, the further ones chosen by
    each of ``suggestions`` in turn. Every one of ``generators`` (names of the registry, in which
    ``{fold}``, ``{cv}`` and ``{group}`` are filled in, see `tool.resolve`) works with every one of
    ``segmenters``. ``setting`` and ``train_on`` say how the weights should have come to be.
    """

    organs: tuple[str, ...]
    methods: tuple[str, ...] = METHODS
    slices_annotated: int = 1
    suggestions: tuple[str, ...] = ("tool",)
    generators: tuple[str, ...] = ("fob-lite",)
    segmenters: tuple[str, ...] = ("compact",)
    device: str = "auto"
    setting: Literal["I", "II"] | None = None
    train_on: tuple[str, ...] | None = None
    ablation: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - set(METHODS))
        if unknown:
            raise FoBSAMError(
                "bad_request",
                f"There is no method {', '.join(unknown)}.",
                f"There are {', '.join(METHODS)}.",
            )
        unknown = sorted(set(self.suggestions) - set(SUGGESTIONS))
        if unknown or not self.suggestions:
            raise FoBSAMError(
                "bad_request",
                f"There is no suggestion {', '.join(unknown) or 'at all'}.",
                f"There are {', '.join(SUGGESTIONS)}.",
            )
        if not self.generators or not self.segmenters:
            raise FoBSAMError(
                "bad_request", "A generator and a segmenter are needed.", "Leave the choice out."
            )
        if self.slices_annotated < 1:
            raise FoBSAMError("bad_request", "At least one slice has to be annotated.")
        if self.slices_annotated > 1 and TOOL not in self.methods:
            raise FoBSAMError(
                "bad_request",
                "Further annotated slices are chosen by what the tool finds.",
                f"Add {TOOL} to the methods, or annotate one slice.",
            )

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every generator with every segmenter."""
        return tuple(Pair(*names) for names in product(self.generators, self.segmenters))

    def label(self, pair: Pair) -> Pair:
        """Its names for tables: without the folders of weights files, unless two are alike."""
        return Pair(
            labels(self.generators)[pair.generator], labels(self.segmenters)[pair.segmenter]
        )


def labels(names: tuple[str, ...]) -> dict[str, str]:
    """Names of models as tables show them, by the names asked for."""
    short = {name: _without_folder(name) for name in names}
    count = Counter(short.values())
    return {name: label if count[label] == 1 else name for name, label in short.items()}


def _without_folder(name: str) -> str:
    kind, colon, file = name.partition(":")
    return f"{kind}{colon}{Path(file).name}" if file else kind


@dataclass(frozen=True)
class SliceScore:
    """One query slice: pixels of the truth and of what was found, their Dice (1 where both are
    empty), and what the tool said of it."""

    index: int
    truth: int
    found: int
    dice: float
    presence: float
    confidence: float


@dataclass(frozen=True)
class Variant:
    """An ablation: how many background points, refined or not, with or without the
    background-centric context."""

    points: int
    refinement: bool
    context: bool


@dataclass(frozen=True)
class Record:
    """One method on one organ of one subject.

    ``fold`` and ``support`` (the annotated subject) where there are any. ``presence`` is the rule
    that decided it: "own", "tool", or "given" where every slice asked for holds the organ;
    ``absent`` are those of the ``annotated`` slices that do not hold the organ; times are
    wall-clock, the reading of files excepted; ``found_slices`` counts query slices with a mask
    that is not empty; distances of surfaces are None for photographs. ``slices`` are the query
    slices of a method that gives confidence.
    """

    subject: int
    organ: str
    method: str
    presence: str
    generator: str
    segmenter: str
    suggestion: str
    fold: str | None
    support: int | None
    annotated: tuple[int, ...]
    absent: tuple[int, ...]
    dice: float
    dice_queries: float
    hd95_mm: float | None
    surface_dice: float | None
    seconds: float
    query_slices: int
    found_slices: int
    ablation: Variant | None = None
    slices: tuple[SliceScore, ...] = ()
