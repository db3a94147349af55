"""Point prompts: what a generator hands to a segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from FoBSAMLib.errors import FoBSAMError


def _no_points() -> np.ndarray:
    return np.zeros((0, 2), np.float32)


@dataclass(frozen=True)
class Prompts:
    """Background and foreground points of one slice.

    Points are float32 [n, 2] as (x, y): x along the slice's columns, y along its rows,
    in pixels, with the centre of the first pixel at (0, 0).
    """

    background: np.ndarray = field(default_factory=_no_points)
    foreground: np.ndarray = field(default_factory=_no_points)


def check_prompts(prompts: Prompts) -> Prompts:
    """The same as float32 [n, 2] each; raises FoBSAMError (``bad_request``) where they are not."""
    return Prompts(
        _check_points(prompts.background, "background"),
        _check_points(prompts.foreground, "foreground"),
    )


def _check_points(points: np.ndarray, kind: str) -> np.ndarray:
    try:
        array = np.asarray(points, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0, np.float32)
    else:
        if array.size == 0 and array.ndim <= 2:
            return np.zeros((0, 2), np.float32)
    if array.ndim != 2 or array.shape[1] != 2:
        raise FoBSAMError(
            "bad_request",
            f"The {kind} points are not a list of (x, y).",
            "Give an array [n, 2] of x along the slice's columns and y along its rows, in pixels.",
        )
    if not np.isfinite(array).all():
        raise FoBSAMError(
            "bad_request",
            f"A {kind} point has a coordinate that is NaN or infinite.",
            "Leave it out, or give it a place in the slice.",
        )
    return array
