"""Planes, the grids of slices parallel to them, and volumes on these grids."""

from __future__ import annotations

import numpy as np
import pytest

from FoBSAMLib.image.oblique import (
    covers,
    fit_plane,
    plane_grid,
    plane_step,
    resample_steps,
    voxel_width,
)
from FoBSAMLib.image.volume import Volume

SHAPE = (20, 50, 60)


def turned(degrees: float, spacing: tuple[float, float, float], flip: int = 1) -> np.ndarray:
    """A geometry turned about two axes; with ``flip`` −1 left-handed."""
    a = np.radians(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = x @ z * np.multiply(spacing, (1, 1, flip))
    matrix[:3, 3] = 11, -5, 70
    return matrix


GEOMETRIES = [turned(0, (1, 1, 1)), turned(33, (0.7, 0.9, 2.5)), turned(-70, (0.8, 0.5, 3), -1)]
NORMALS = [(0, 0, 1), (0.1, -0.05, 1), (1, 1, 1), (-0.9, 0.1, 0.3)]


def corners(matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    ends = [(0, n - 1) for n in shape[::-1]]
    ijk = np.stack(np.meshgrid(*ends), axis=-1).reshape(-1, 3)
    return ijk @ matrix[:3, :3].T + matrix[:3, 3]


def resampled(volume: Volume, matrix: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    steps = resample_steps(volume, matrix, shape)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("normal", NORMALS)
def test_a_plane_is_found_again(normal):
    unit = np.array(normal) / np.linalg.norm(normal)
    rng = np.random.default_rng(0)
    across = np.linalg.svd(unit[np.newaxis])[2][1:]
    flat = rng.uniform(-1, 1, (5000, 2)) * (30, 20)
    points = flat @ across + np.outer(rng.uniform(-0.5, 0.5, 5000), unit) + (5, 6, 7)
    plane = fit_plane(points)
    assert abs(plane.normal @ unit) > np.cos(np.radians(0.1))
    assert abs((plane.centre - (5, 6, 7)) @ unit) < 0.05
    assert plane.thickness == pytest.approx(1, abs=0.05)
    assert plane.width == pytest.approx(40, rel=0.1)


def test_how_much_of_a_direction_a_voxel_covers():
    matrix = np.diag([1.0, 1.0, 3.0, 1.0])
    diagonal = np.array([1, 0, 1]) / np.sqrt(2)
    assert voxel_width(matrix, np.array([0, 0, 1.0])) == pytest.approx(3)
    assert voxel_width(matrix, diagonal) == pytest.approx(4 / np.sqrt(2))
    assert plane_step(matrix, np.array([0, 0, 1.0])) == pytest.approx(3)
    assert plane_step(np.eye(4), diagonal) == pytest.approx(1)


@pytest.mark.parametrize("matrix", GEOMETRIES)
@pytest.mark.parametrize("normal", NORMALS)
def test_the_grid_covers_the_volume_with_a_slice_in_the_plane(matrix, normal):
    unit = np.array(normal) / np.linalg.norm(normal)
    point = corners(matrix, SHAPE).mean(axis=0) + np.array([0.3, 0.2, -0.4])
    grid, shape = plane_grid(matrix, SHAPE, point, unit)
    steps = np.linalg.norm(grid[:3, :3], axis=0)
    axes = grid[:3, :3] / steps
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert abs(axes[:, 2] @ unit) == pytest.approx(1)
    assert steps[0] == pytest.approx(steps[1])
    k = (np.linalg.inv(grid) @ [*point, 1])[2]
    assert k == pytest.approx(round(k), abs=1e-9)
    indices = (corners(matrix, SHAPE) - grid[:3, 3]) @ np.linalg.inv(grid[:3, :3]).T
    assert (indices > -1).all()
    assert (indices < shape[::-1]).all()
    assert covers(grid, shape, matrix, SHAPE)
    assert not covers(grid, (shape[0] + 2, *shape[1:]), matrix, SHAPE)
    assert not covers(grid, shape, matrix, (SHAPE[0] + 9, *SHAPE[1:]))


@pytest.mark.parametrize("matrix", GEOMETRIES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_across_an_index_axis_it_is_the_volumes_own_grid(matrix, axis):
    """So pictures are neither turned round nor blurred."""
    normal = matrix[:3, axis] / np.linalg.norm(matrix[:3, axis])
    grid, shape = plane_grid(matrix, SHAPE, matrix[:3, 3], -normal)
    first, second = (n for n in range(3) if n != axis)
    cosines = np.sum(grid[:3, :3] * matrix[:3, [first, second, axis]], axis=0)
    assert (cosines > 0).all()
    assert shape[0] == SHAPE[2 - axis]
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    assert np.linalg.norm(grid[:3, 0]) == pytest.approx(min(spacing[first], spacing[second]))
    assert np.linalg.norm(grid[:3, 2]) == pytest.approx(spacing[axis])


@pytest.mark.parametrize("matrix", GEOMETRIES)
def test_resampling_is_linear_inside_and_the_lowest_value_outside(matrix):
    k, j, i = np.indices(SHAPE)
    volume = Volume(100.0 + 3 * i - 2 * j + 7 * k, matrix, "ramp", "mr")
    point = corners(matrix, SHAPE).mean(axis=0)
    grid, shape = plane_grid(matrix, SHAPE, point, np.array([0.36, 0.48, 0.8]))
    result = resampled(volume, grid, shape)
    assert (result.name, result.modality, result.shape) == ("ramp", "mr", shape)
    np.testing.assert_allclose(result.ijk_to_ras, grid)
    to_volume = np.linalg.inv(matrix) @ grid
    z, y, x = np.indices(shape)
    ijk = np.stack([x, y, z], axis=-1) @ to_volume[:3, :3].T + to_volume[:3, 3]
    inside = ((ijk >= 0) & (ijk <= np.array(SHAPE[::-1]) - 1)).all(axis=-1)
    np.testing.assert_allclose(
        result.array[inside], 100 + ijk[inside] @ np.array([3, -2, 7]), rtol=1e-9
    )
    well_out = ((ijk < -1) | (ijk > SHAPE[::-1])).any(axis=-1)
    assert np.unique(result.array[well_out]).tolist() == [volume.array[::4, ::4, ::4].min()]


def test_types_and_colours_are_kept():
    rng = np.random.default_rng(1)
    for dtype, channels in [(np.int16, ()), (np.uint8, (3,))]:
        voxels = rng.integers(0, 200, (*SHAPE, *channels)).astype(dtype)
        volume = Volume(voxels, np.eye(4))
        result = resampled(volume, np.eye(4), SHAPE)
        assert result.array.dtype == dtype
        np.testing.assert_array_equal(result.array, voxels)
