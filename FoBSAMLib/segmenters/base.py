"""What every segmenter offers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from FoBSAMLib.prompts import Prompts


class Segmenter(Protocol):
    """Turns the prompts of one slice into the structure's mask.

    ``embed`` is called once a slice and may be costly; ``segment`` is called for every
    structure and every correction with what ``embed`` returned, and depends on nothing else.
    """

    name: str
    #: Whether the mask is drawn from the prior where there is one; points given beside it are then
    #: a user's corrections. Else the prompts alone make the mask.
    draws_on_prior: bool
    #: How many slices `embed_all` is best given; with 1 it is not called.
    ahead: int

    def embed(self, image: np.ndarray) -> Any:
        """Keep what is needed of a slice: [H, W], or [H, W, 3] for colour.

        What is returned has ``nbytes``, the memory that it takes.
        """

    def embed_all(self, images: list[np.ndarray]) -> list[Any]:
        """`embed` for several slices of one shape at once."""

    def segment(
        self, embedding: Any, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """The structure's probability, float32 [H, W] on the slice's own pixels.

        ``prompts`` are in the slice's pixels; points outside the slice are left out.
        ``prior`` is the generator's own probability of the structure, [H, W] in [0, 1], or
        None where the generator gives points alone.
        """


def inside(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The (x, y) points [n, 2] that lie on a pixel of a slice of ``shape`` (H, W, ...)."""
    points = np.asarray(points, np.float64).reshape(-1, 2)
    return points[((points >= -0.5) & (points < np.array(shape[1::-1]) - 0.5)).all(axis=1)]
