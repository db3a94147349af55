"""The part of a slice that matters."""

from __future__ import annotations

import numpy as np

Box = tuple[slice, slice]


def box_round(mask: np.ndarray, margin: int) -> Box:
    """Rows and columns of a mask, bool [H, W] and not empty, with ``margin`` pixels round them as
    far as the slice goes."""
    sides = []
    for axis, length in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(1 - axis))
        sides.append(slice(max(int(used[0]) - margin, 0), min(int(used[-1]) + 1 + margin, length)))
    return sides[0], sides[1]
