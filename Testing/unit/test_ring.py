"""Background points on a ring and foreground points inside, done right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from FoBSAMLib.generator.ring import sample_ring, spread_points


def disc(x: float, y: float, radius: float, shape: tuple[int, int] = (256, 256)) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def distances(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Distance of each point to the mask, in pixels."""
    away = ndimage.distance_transform_edt(~mask)
    return ndimage.map_coordinates(away, points[:, ::-1].T, order=1)


@settings(max_examples=30, deadline=None)
@given(st.floats(60, 190), st.floats(60, 190), st.floats(3, 45))
def test_the_ring_of_a_disc_lies_ten_pixels_outside_and_is_even(x, y, radius):
    mask = disc(x, y, radius)
    ring = sample_ring(mask)
    assert ring.shape == (10, 2)
    assert ring.dtype == np.float32
    assert np.abs(distances(ring, mask) - 10).max() < 0.8
    gaps = np.linalg.norm(ring - np.roll(ring, -1, 0), axis=1)
    # A closed ring: the gap between the last point and the first is like the others.
    assert gaps.max() < 1.1 * gaps.min()


def test_points_move_with_the_structure():
    still, moved = sample_ring(disc(100, 100, 20)), sample_ring(disc(117, 93, 20))
    np.testing.assert_allclose(moved - still, np.tile([17, -7], (10, 1)), atol=1e-3)


def test_the_ring_is_cut_at_the_slices_border():
    mask = disc(10, 128, 25)
    ring = sample_ring(mask)
    assert len(ring) == 10
    assert (ring >= 0).all()
    assert (ring <= 255).all()
    assert np.abs(distances(ring, mask) - 10).max() < 0.8


def test_all_parts_get_points_in_proportion():
    large, small = disc(80, 128, 40), disc(200, 128, 10)
    ring = sample_ring(large | small)
    near_small = np.linalg.norm(ring - (200, 128), axis=1) < 30
    # Circumferences at 10 pixels: 2π·50 and 2π·20.
    assert near_small.sum() == 3
    assert len(ring) == 10


@pytest.mark.parametrize("mask", [np.zeros((256, 256), bool), np.ones((256, 256), bool)])
def test_no_ring_where_there_is_no_outside(mask):
    assert sample_ring(mask).shape == (0, 2)


def test_a_single_pixel_has_a_ring():
    mask = np.zeros((256, 256), bool)
    mask[50, 70] = True
    ring = sample_ring(mask)
    np.testing.assert_allclose(np.linalg.norm(ring - (70, 50), axis=1), 10, atol=0.3)


def test_foreground_points_are_inside_and_spread():
    mask = disc(100, 120, 30) | disc(180, 120, 12)
    points = spread_points(mask)
    assert len(points) == 10
    columns, rows = points.astype(int).T
    assert mask[rows, columns].all()
    assert mask[rows, columns].sum() == 10
    # Both parts are reached, and no two points crowd together.
    assert (columns > 160).any()
    between = np.linalg.norm(points[:, None] - points[None], axis=2) + 1e9 * np.eye(10)
    assert between.min() > 8


def test_foreground_points_of_little():
    mask = np.zeros((256, 256), bool)
    assert spread_points(mask).shape == (0, 2)
    mask[3, 5] = True
    np.testing.assert_array_equal(spread_points(mask), [[5, 3]])
