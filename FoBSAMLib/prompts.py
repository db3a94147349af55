"""Point prompts: what a generator hands to a segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


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
