"""Slices on the network's grid and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from FoBSAMLib.image.grid import NetworkGrid

# The machine may be busy: no deadline.
unhurried = settings(deadline=None, max_examples=60)

SIZES = st.integers(20, 700)
SPACINGS = st.floats(0.3, 8)
GRIDS = st.builds(NetworkGrid, st.tuples(SIZES, SIZES), st.tuples(SPACINGS, SPACINGS))


def disc(shape: tuple[int, int], spacing: tuple[float, float], share: float = 0.3) -> np.ndarray:
    """A disc in mm in the middle of a slice."""
    y, x = np.indices(shape)
    radius = share * min(np.multiply(shape, spacing))
    from_middle = np.hypot(
        (y - (shape[0] - 1) / 2) * spacing[0], (x - (shape[1] - 1) / 2) * spacing[1]
    )
    return from_middle < radius


@unhurried
@given(GRIDS, st.floats(0, 1), st.floats(0, 1))
def test_points_there_and_back(grid: NetworkGrid, across: float, down: float) -> None:
    height, width = grid.shape
    point = np.array([[across * (width - 1), down * (height - 1)]])
    there = grid.points_to_network(point)
    assert (there >= -0.5).all()
    assert (there <= grid.size - 0.5).all()
    np.testing.assert_allclose(grid.points_from_network(there), point, atol=1e-3)


@unhurried
@given(GRIDS)
def test_aspect_is_kept_and_the_longest_side_fills_the_grid(grid: NetworkGrid) -> None:
    height, width = grid.shape
    corners = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    (left, top), (right, bottom) = grid.points_to_network(corners)
    assert max(right - left, bottom - top) == pytest.approx(grid.size, abs=1e-3)
    # Centred to a pixel.
    assert (left + right) / 2 == pytest.approx((grid.size - 1) / 2, abs=0.51)
    assert (top + bottom) / 2 == pytest.approx((grid.size - 1) / 2, abs=0.51)


@pytest.mark.parametrize("shape", [(256, 256), (200, 256), (256, 131)])
def test_the_networks_own_pixels_are_not_interpolated(shape: tuple[int, int]) -> None:
    grid = NetworkGrid(shape, (0.7, 0.7))
    image = np.random.default_rng(0).normal(5, 300, shape).astype(np.float32)
    there = grid.image_to_network(image)
    y, x = np.round(grid.points_to_network([[0, 0]])[0, ::-1]).astype(int)
    assert (there[y : y + shape[0], x : x + shape[1]] == image).all()
    assert (grid.from_network(there) == image).all()


def test_padding_is_the_minimum_of_the_image() -> None:
    grid = NetworkGrid((100, 50), (1.0, 1.0))
    image = np.random.default_rng(0).uniform(-1000, 50, (100, 50)).astype(np.float32)
    there = grid.image_to_network(image)
    assert there.shape == (256, 256)
    assert (there[:, :60] == image.min()).all()
    assert (there[:, 200:] == image.min()).all()
    assert there[:, 70:180].std() > 100


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((512, 512), (0.8, 0.8)),
        ((257, 257), (1.2, 1.2)),
        ((128, 128), (3.0, 3.0)),
        ((34, 128), (10.0, 3.0)),
        ((450, 600), (1.0, 1.0)),
        ((97, 411), (2.1, 0.4)),
    ],
)
def test_position_and_shape_survive_at_sub_pixel_accuracy(
    shape: tuple[int, int], spacing: tuple[float, float]
) -> None:
    grid = NetworkGrid(shape, spacing)
    mask = disc(shape, spacing)
    there = grid.mask_to_network(mask)
    assert there.min() >= 0
    assert there.max() <= 1 + 1e-6
    # The centre of mass on the grid is where the points say.
    y, x = np.indices(there.shape)
    centre = [(x * there).sum() / there.sum(), (y * there).sum() / there.sum()]
    rows, columns = np.nonzero(mask)
    expected = grid.points_to_network([[columns.mean(), rows.mean()]])[0]
    np.testing.assert_allclose(centre, expected, atol=0.1)
    # Its area is that of the mask, and it comes back as it was.
    assert there.sum() == pytest.approx(mask.sum() * grid.scale.prod(), rel=0.02)
    back = grid.from_network(there) > 0.5
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.985


@unhurried
@given(GRIDS)
def test_structure_at_the_border_keeps_its_pixels(grid: NetworkGrid) -> None:
    mask = np.ones(grid.shape, bool)
    back = grid.from_network(grid.mask_to_network(mask))
    assert back.shape == grid.shape
    np.testing.assert_allclose(back, 1, atol=1e-5)


@unhurried
@given(GRIDS)
def test_the_padding_does_not_leak_into_the_slice(grid: NetworkGrid) -> None:
    inside = grid.mask_to_network(np.ones(grid.shape, bool))
    np.testing.assert_allclose(grid.from_network(inside * 3 - 7 * (inside == 0)), 3, atol=1e-4)


def test_one_pixel_is_not_lost_when_the_slice_shrinks() -> None:
    grid = NetworkGrid((1024, 1024), (0.2, 0.2))
    for at in (0, 1, 511, 514, 1023):
        mask = np.zeros((1024, 1024), bool)
        mask[at, 1023 - at] = True
        assert grid.mask_to_network(mask).sum() > 0.02


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (512, 256))
    there = NetworkGrid((512, 512), (1, 1)).image_to_network(stripes)
    np.testing.assert_allclose(there[:, 2:-2], 0.5, atol=1e-3)


def test_a_line_of_pixels_still_has_a_grid() -> None:
    grid = NetworkGrid((1, 500), (1.0, 1.0))
    image = np.linspace(0, 1, 500, dtype=np.float32)[np.newaxis]
    np.testing.assert_allclose(grid.from_network(grid.image_to_network(image)), image, atol=0.01)
