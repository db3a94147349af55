"""Background points on a ring round a structure, done right.

Unlike the paper's ring the contour is closed with its end point excluded, starts at a fixed
angle about the centroid, is cut where it leaves the slice and shares its points among all
components in proportion to their length.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import measure

from FoBSAMLib.image.box import box_round

#: Distance of the ring from the structure, pixels of the 256×256 grid (paper: 10).
DISTANCE = 10.0
POINTS = 10


def _contours(mask: np.ndarray, distance: float) -> list[np.ndarray]:
    """Polylines (x, y) at a distance outside the mask, cut at the slice's border."""
    rows, columns = np.nonzero(mask)
    margin = int(np.ceil(distance)) + 4
    top, left = rows.min() - margin, columns.min() - margin
    box = np.zeros((np.ptp(rows) + 2 * margin + 1, np.ptp(columns) + 2 * margin + 1), bool)
    box[rows - top, columns - left] = True
    # The distance is smooth: every other pixel of it gives the same contour in a third of the time.
    away = ndimage.distance_transform_edt(~box)[::2, ::2]
    height, width = mask.shape
    pieces = []
    for contour in measure.find_contours(away, distance):
        points = 2 * contour[:, ::-1] + (left, top)
        inside = np.all((points >= 0) & (points <= (width - 1, height - 1)), axis=1)
        if inside.all():
            pieces.append(points)
            continue
        # Start at a cut, so that one arc is not split where the polyline happens to begin.
        points, inside = points[:-1], inside[:-1]
        start = int(np.argmin(inside))
        points, inside = np.roll(points, -start, 0), np.roll(inside, -start)
        edges = np.flatnonzero(np.diff(np.r_[0, inside.astype(np.int8), 0]))
        pieces += [points[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1]
    return pieces


def _lengths(points: np.ndarray) -> np.ndarray:
    return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]


def _sample(points: np.ndarray, count: int) -> np.ndarray:
    """``count`` points evenly along a polyline; a closed one starts at angle -π of its centroid."""
    if np.allclose(points[0], points[-1]):
        x, y = (points[:-1] - points[:-1].mean(0)).T
        points = np.roll(points[:-1], -int(np.argmin(np.arctan2(y, x))), axis=0)
        points = np.r_[points, points[:1]]
        along = np.arange(count) / count
    else:
        along = (np.arange(count) + 0.5) / count
    lengths = _lengths(points)
    at = along * lengths[-1]
    return np.stack([np.interp(at, lengths, points[:, axis]) for axis in (0, 1)], axis=1)


def sample_ring(mask: np.ndarray, distance: float = DISTANCE, count: int = POINTS) -> np.ndarray:
    """Background points round a structure.

    Args:
        mask: bool [H, W].
        distance: pixels between the mask and the ring.
        count: number of points.

    Returns:
        float32 [count, 2] as (x, y); [0, 2] where there is no room for a ring (an empty mask, or
        one that leaves nothing outside).
    """
    if not mask.any():
        return np.zeros((0, 2), np.float32)
    pieces = _contours(mask, distance)
    if not pieces:
        return np.zeros((0, 2), np.float32)
    pieces.sort(key=lambda piece: -_lengths(piece)[-1])
    length = np.array([_lengths(piece)[-1] for piece in pieces])
    share = count * length / length.sum()
    counts = np.floor(share).astype(int)
    for piece in np.argsort(counts - share, kind="stable")[: count - counts.sum()]:
        counts[piece] += 1
    rings = [_sample(p, int(n)) for p, n in zip(pieces, counts, strict=True) if n]
    return np.concatenate(rings).astype(np.float32)


def spread_points(mask: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Foreground points spread over a mask: the deepest pixel, then farthest-point sampling.

    Args:
        mask: bool [H, W].

    Returns:
        float32 [n, 2] as (x, y), n ≤ count.
    """
    if not mask.any():
        return np.zeros((0, 2), np.float32)
    rows, columns = box_round(mask, 0)
    depth = ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1))[1:-1, 1:-1]
    # Stay off the border where the mask is least sure, as far as its thickness allows.
    y, x = np.nonzero(depth >= min(3.0, depth.max()))
    chosen = [int(np.argmax(depth[y, x]))]
    x, y = (x + columns.start).astype(np.float32), (y + rows.start).astype(np.float32)
    nearest = np.full(len(x), np.inf, np.float32)
    for _ in range(min(count, len(x)) - 1):
        np.minimum(nearest, (x - x[chosen[-1]]) ** 2 + (y - y[chosen[-1]]) ** 2, out=nearest)
        farthest = int(np.argmax(nearest))
        if nearest[farthest] <= 0:
            break
        chosen.append(farthest)
    return np.stack([x[chosen], y[chosen]], axis=1)
