"""What every prompt generator offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from FoBSAMLib.prompts import Prompts


class Remembered(NamedTuple):
    """A slice whose mask is known: its features and the mask's coverage, float32 [256, 256]."""

    features: Any
    mask: np.ndarray

    @property
    def inside(self) -> np.ndarray:
        """The mask, bool [256, 256]; a structure thinner than a pixel keeps its densest pixels."""
        return np.asarray((self.mask >= min(0.5, self.mask.max() / 2)) & (self.mask > 0))


@dataclass(frozen=True)
class Proposal:
    """What a generator says of a query slice.

    ``prompts`` are in pixels of the 256×256 grid. ``probability`` [256, 256] is the generator's
    own mask, or None where it gives points alone. ``presence`` and ``quality`` in [0, 1] are its
    own word on whether the slice holds the structure and on the Dice of its mask, None where it
    has none.
    """

    prompts: Prompts
    probability: np.ndarray | None = None
    presence: float | None = None
    quality: float | None = None


class Generator(Protocol):
    """Support slices with masks and a query slice in, prompts out."""

    name: str
    #: What identifies its weights: their sha256.
    weights: str
    #: Slices encoded together, where that is faster.
    ahead: int

    def encode(self, slices: np.ndarray) -> list[Any]:
        """Features of z-scored slices, float32 [n, 256, 256], one entry a slice."""

    def propose(
        self, query: Any, memory: Sequence[Remembered], *, foreign: bool = False
    ) -> Proposal:
        """Find the structure in a query slice.

        Args:
            query: one entry of what ``encode`` gave.
            memory: slices that hold the structure, the nearest to the query last.
            foreign: the memory is of another image, so places tell nothing.
        """

    def carry(
        self, query: Any, source: Any, masks: Sequence[np.ndarray], *, foreign: bool = False
    ) -> list[np.ndarray] | None:
        """Masks of one slice in another, bool [256, 256] each, found cheaply and without prompts;
        None where the generator has no such way.

        Args:
            query, source: entries of what ``encode`` gave.
            masks: of the source, float32 [256, 256] as in `Remembered`.
            foreign: the source is of another image.
        """
