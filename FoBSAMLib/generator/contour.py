"""Background points of the paper's ring, as released: one traced border, ten samples of it.

Kept as they are, because the released weights were trained on them, although ``ring.py`` does
better: of several ring components only the largest is sampled; where a mask touches the slice's
border the traced border runs along it *inside* the structure; the last straight stretch back to
the start carries no sample; and the points are put in order by the angle about the left-most of
them, so that neighbours in the list are not neighbours on the ring.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

POINTS = 10
#: Sides of the two square dilations whose difference is the ring, pixels.
OUTER_DILATION, INNER_DILATION = 21, 15

# E, NE, N, NW, W, SW, S, SE as (x, y): counter-clockwise on the screen, y pointing down.
_STEPS = np.array([(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)])
_WEST = 4


def background_points(mask: np.ndarray) -> np.ndarray:
    """Ten points on the outer border of the ring round a structure, at Chebyshev distance 10.

    Args:
        mask: bool [H, W].

    Returns:
        float32 [10, 2], whole pixels (x, y), in the order of their angle about the left-most;
        all (0, 0) where there is no ring (an empty mask, or one that leaves no room).
    """
    borders = [outer_border(part) for part in _components(_ring(mask))]
    if not borders:
        return np.zeros((POINTS, 2), np.float32)
    largest = max(borders, key=_polygon_area)  # of equal ones the first in raster order
    return sort_about_leftmost(_sample(largest)).astype(np.float32)


def sort_about_leftmost(points: np.ndarray) -> np.ndarray:
    """Points [n, 2] stably sorted by their angle about the left-most (the first of equals)."""
    x, y = (points - points[np.argmin(points[:, 0])]).T
    return points[np.argsort(np.arctan2(y, x), kind="stable")]


def outer_border(region: np.ndarray) -> np.ndarray:
    """Corners of the outer 8-connected border of a region, found by border following.

    Args:
        region: bool [H, W] with one 8-connected component.

    Returns:
        int [n, 2], (x, y) of the border pixels where the step direction changes: the first is
        the left-most pixel of the topmost row, the next lie down the left side (counter-clockwise
        on the screen). A pixel the border passes twice can be in it twice.
    """
    codes, start = _follow(region)
    pixels = start + np.cumsum(_STEPS[codes], axis=0) - _STEPS[codes]
    return pixels[codes != np.roll(codes, 1)] if len(codes) else start[None]


def _follow(region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (indices of ``_STEPS``) of a walk round the border, and the pixel it starts at."""
    padded = np.pad(region.astype(bool), 1)
    width = padded.shape[1]
    inside = padded.tobytes()
    steps = [int(x + y * width) for x, y in _STEPS]
    first = int(np.argmax(padded))
    start = np.array([first % width - 1, first // width - 1])
    # The walk ends when it comes back over the pixel next to the start, clockwise from the west.
    clockwise = [(_WEST - turn) % 8 for turn in range(1, 8)]
    last = next((code for code in clockwise if inside[first + steps[code]]), None)
    codes: list[int] = []
    if last is None:
        return np.array(codes, int), start
    here, back = first, last
    while True:
        # The first pixel of the region counter-clockwise from the one the walk came from.
        code = back
        while True:
            code = (code + 1) % 8
            if inside[here + steps[code]]:
                break
        codes.append(code)
        here, back = here + steps[code], (code + 4) % 8
        if here == first and back == last:
            return np.array(codes), start


def _ring(mask: np.ndarray) -> np.ndarray:
    mask = mask.astype(bool)
    outer, inner = (
        ndimage.maximum_filter(mask, size, mode="constant", cval=0)
        for size in (OUTER_DILATION, INNER_DILATION)
    )
    return outer & ~inner


def _components(region: np.ndarray) -> list[np.ndarray]:
    """The 8-connected components, each bool [H, W], in raster order of their first pixels."""
    labels, count = ndimage.label(region, np.ones((3, 3)))
    return [labels == label for label in range(1, count + 1)]


def _polygon_area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


def _sample(corners: np.ndarray) -> np.ndarray:
    """``POINTS`` points evenly along the open polyline, both ends included, as whole pixels."""
    lengths = np.r_[0.0, np.cumsum(np.hypot(*np.diff(corners, axis=0).T))]
    at = np.linspace(0.0, lengths[-1], POINTS)
    return np.round(np.stack([np.interp(at, lengths, axis) for axis in corners.T], axis=1))
