"""Planes drawn in oblique views: found in a mask, and the grid of slices parallel to them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import product

import numpy as np

from FoBSAMLib.image.volume import Volume

#: Pixels interpolated in one step of `resample_steps`: a few milliseconds.
PIXELS_A_STEP = 1 << 16

#: A grid's outermost pixels may lie so far out of the volume, in pixels.
EDGE = 0.01


@dataclass(frozen=True)
class Plane:
    """A plane in mm: a point on it, its unit normal, and of what it was fitted to the thickness
    along the normal and the width in the plane, where that is narrowest."""

    centre: np.ndarray
    normal: np.ndarray
    thickness: float
    width: float


def fit_plane(points: np.ndarray) -> Plane:
    """The plane through points [N, 3] with the least squared distance to them.

    Thickness and width are how far the farthest points lie apart.
    """
    centre = points.mean(axis=0)
    offsets = points - centre
    _, axes = np.linalg.eigh(offsets.T @ offsets)
    thickness, width, _ = np.ptp(offsets @ axes, axis=0)
    return Plane(centre, axes[:, 0], float(thickness), float(width))


def voxel_width(ijk_to_ras: np.ndarray, normal: np.ndarray) -> float:
    """How many mm of a normal one voxel covers: a drawn plane's voxels are no thicker."""
    return float(np.abs(normal @ ijk_to_ras[:3, :3]).sum())


def plane_step(ijk_to_ras: np.ndarray, direction: np.ndarray) -> float:
    """The distance in mm at which a volume is sampled along a unit direction."""
    return float(1 / np.linalg.norm(np.linalg.inv(ijk_to_ras[:3, :3]) @ direction))


def plane_grid(
    volume_to_ras: np.ndarray,
    volume_shape: tuple[int, int, int],
    point: np.ndarray,
    normal: np.ndarray,
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The matrix and shape (K, J, I) of a grid covering a volume, its slices along k parallel to
    a plane and one of them exactly in it.

    Pixels are as fine as the volume's sampling in the plane at its finest, slices as far apart
    as its sampling along the normal. Axes point as those of the volume's slices nearest to the
    plane do, so that pictures are not turned round.
    """
    columns = volume_to_ras[:3, :3]
    units = columns / np.linalg.norm(columns, axis=0)
    facing = units.T @ normal
    across = int(np.argmax(np.abs(facing)))
    normal = normal * np.sign(facing[across])
    first, second = (n for n in range(3) if n != across)
    right = units[:, first] - normal * (normal @ units[:, first])
    right /= np.linalg.norm(right)
    down = np.cross(normal, right)
    down *= np.sign(down @ units[:, second])
    plane = np.stack([right, down], axis=1)
    pixel = 1 / np.linalg.svd(np.linalg.inv(columns) @ plane, compute_uv=False)[0]
    steps = np.array([pixel, pixel, plane_step(volume_to_ras, normal)])
    axes = np.stack([right, down, normal], axis=1) * steps
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = point
    begin, end = _reach(volume_to_ras, volume_shape, matrix)
    # A rounding error must not take a slice away that shows the volume's edge.
    low = np.ceil(begin - EDGE)
    count = np.floor(end + EDGE) - low + 1
    matrix[:3, 3] += axes @ low
    # A plane that only grazes the volume still has its one slice.
    width, height, depth = (max(1, int(n)) for n in count)
    return matrix, (depth, height, width)


def covers(
    ijk_to_ras: np.ndarray,
    shape: tuple[int, int, int],
    volume_to_ras: np.ndarray,
    volume_shape: tuple[int, int, int],
) -> bool:
    """Whether a grid of ``shape`` (K, J, I) covers a volume and no more: it was made for it."""
    first, last = _reach(volume_to_ras, volume_shape, ijk_to_ras)
    over = np.abs([first, last - np.array(shape[::-1]) + 1])
    return bool(over.max() < 1 + EDGE)


def resample_steps(
    volume: Volume, ijk_to_ras: np.ndarray, shape: tuple[int, int, int]
) -> Generator[None, None, Volume]:
    """A volume on another grid of ``shape`` (K, J, I), interpolated; yields every few ms.

    Voxels outside the volume have its lowest value (among a sample); the type is kept. The
    result is the generator's return value.
    """
    from scipy.ndimage import affine_transform

    result = np.empty(shape + volume.array.shape[3:], volume.array.dtype)
    # A colour image is as many images.
    pairs = [(volume.array, result)]
    if result.ndim == 4:
        pairs = [(volume.array[..., n], result[..., n]) for n in range(3)]
    to_volume = np.linalg.inv(volume.ijk_to_ras) @ ijk_to_ras
    # scipy counts axes as the array does, k first.
    matrix, offset = to_volume[2::-1, 2::-1], to_volume[2::-1, 3]
    outside = volume.array[::4, ::4, ::4].min()
    depth, height, width = shape
    rows = max(1, PIXELS_A_STEP // width)
    for k, row, (source, target) in product(range(depth), range(0, height, rows), pairs):
        part = target[k : k + 1, row : row + rows]
        start = offset + matrix @ (k, row, 0)
        affine_transform(source, matrix, start, part.shape, part, order=1, cval=outside)
        yield
    return Volume(result, ijk_to_ras, volume.name, volume.modality)


def _reach(
    volume_to_ras: np.ndarray, volume_shape: tuple[int, int, int], ijk_to_ras: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From where to where a volume's voxels lie in a grid's indices (i, j, k)."""
    corners = np.array(list(product(*((0, n - 1) for n in volume_shape[::-1]), (1,))))
    indices = (np.linalg.inv(ijk_to_ras) @ volume_to_ras @ corners.T)[:3]
    return indices.min(axis=1), indices.max(axis=1)
