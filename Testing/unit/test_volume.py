"""Volumes: geometry, slices, keys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Volume

# The machine may be busy: no deadline.
unhurried = settings(deadline=None, max_examples=60)

RAMP = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


@st.composite
def geometries(draw: st.DrawFn) -> np.ndarray:
    """IJK→RAS matrices: any rotation, flips, anisotropic spacing."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    flips = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 20)] * 3))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flips * spacing
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return matrix


@unhurried
@given(geometries())
def test_spacing_of_any_direction(matrix: np.ndarray) -> None:
    volume = Volume.from_array(RAMP, ijk_to_ras=matrix)
    steps = [np.linalg.norm(matrix @ unit) for unit in np.eye(4)[:3]]
    np.testing.assert_allclose(volume.spacing, steps)


def test_slices_are_views_with_rows_and_columns_as_documented() -> None:
    volume = Volume.from_array(RAMP, spacing=(0.5, 2.0, 7.0))
    k, j, i = volume.take("k", 1), volume.take("j", 2), volume.take("i", 3)
    assert (k == RAMP[1]).all()
    assert (j == RAMP[:, 2]).all()
    assert (i == RAMP[:, :, 3]).all()
    assert all(np.shares_memory(view, volume.array) for view in (k, j, i))
    assert [volume.slice_count(axis) for axis in "kji"] == [3, 4, 5]
    assert volume.slice_spacing("k") == (2.0, 0.5)
    assert volume.slice_spacing("j") == (7.0, 0.5)
    assert volume.slice_spacing("i") == (7.0, 2.0)
    assert [volume.step(axis) for axis in "ijk"] == [0.5, 2.0, 7.0]


def test_color_slices_keep_their_channels() -> None:
    volume = Volume.from_array(np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), np.uint8))
    assert volume.shape == (3, 4, 5)
    assert volume.take("i", 0).shape == (3, 4, 3)


def test_one_slice_is_a_volume() -> None:
    assert Volume.from_array(RAMP[0]).shape == (1, 4, 5)


def test_content_key_tells_voxels_type_and_geometry_but_not_name_or_layout() -> None:
    key = Volume.from_array(RAMP).content_key()
    assert Volume.from_array(np.asfortranarray(RAMP), name="other").content_key() == key
    changed = RAMP.copy()
    changed[2, 3, 4] += 1
    others = [
        Volume.from_array(changed),
        Volume.from_array(RAMP.astype(np.int32)),
        Volume.from_array(RAMP, spacing=(1, 1, 1.5)),
        Volume.from_array(RAMP.reshape(3, 5, 4)),
    ]
    assert len({key, *(volume.content_key() for volume in others)}) == 5


@unhurried
@given(geometries())
def test_same_grid_forgives_rounding_only(matrix: np.ndarray) -> None:
    volume = Volume.from_array(RAMP, ijk_to_ras=matrix)
    assert volume.same_grid(RAMP.shape, matrix.astype(np.float32).astype(np.float64))
    assert not volume.same_grid((3, 4, 6), matrix)
    for column in range(3):
        moved = matrix.copy()
        moved[:3, 3] += 0.2 * matrix[:3, column]
        assert not volume.same_grid(RAMP.shape, moved)
        flipped = matrix.copy()
        flipped[:3, column] *= -1
        assert not volume.same_grid(RAMP.shape, flipped)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 3, 4)), "constant"),
        (np.zeros((2, 3, 4, 5)), "2×3×4×5"),
        (np.zeros((0, 3, 4)), "no voxels"),
        (RAMP.astype(np.complex64), "complex"),
        (np.where(RAMP < 2, np.nan, RAMP), "2 of 60 voxels"),
        (np.where(RAMP == 7, np.inf, RAMP), "1 of 60 voxels"),
    ],
)
def test_unusable_voxels_are_named_in_one_line(array: np.ndarray, says: str) -> None:
    with pytest.raises(FoBSAMError) as caught:
        Volume.from_array(array, name="scan")
    assert caught.value.code == "bad_request"
    assert says in str(caught.value)
    assert "scan" in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
