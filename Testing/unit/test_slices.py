"""Which axis a support was drawn along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.slices import annotated_slices, check_axis, find_axis
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis


def drawn(axis: Axis, slices: Sequence[int], shape: tuple[int, int, int] = (6, 7, 8)) -> np.ndarray:
    """A square of three by three voxels on some slices along an axis."""
    mask = np.zeros(shape, bool)
    np.moveaxis(mask, ARRAY_AXIS[axis], 0)[slices, 1:4, 2:5] = True
    return mask


@pytest.mark.parametrize("axis", ["i", "j", "k"])
@pytest.mark.parametrize("slices", [[3], [0, 5]])
def test_axis_with_fewest_slices(axis: Axis, slices: list[int]) -> None:
    mask = drawn(axis, slices)
    assert find_axis(mask) == axis
    assert annotated_slices(mask, axis) == tuple(slices)


def test_photograph_has_one_axis() -> None:
    mask = drawn("k", [0], (1, 40, 50))
    assert find_axis(mask) == "k"


def test_single_slice_along_another_axis() -> None:
    assert find_axis(drawn("j", [0], (6, 1, 8))) == "j"


def test_structure_that_fills_the_slice_is_a_support() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[2] = True
    assert find_axis(mask) == "k"


def error_of(mask: np.ndarray) -> str:
    with pytest.raises(FoBSAMError) as caught:
        find_axis(mask)
    assert caught.value.code == "bad_request"
    return str(caught.value)


def test_two_axes_equally_likely() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[2, :, 3] = True
    assert error_of(mask) == (
        "The support could be drawn along i or k (1 slice each). Give --axis."
    )


def test_one_voxel_could_be_drawn_along_any_axis() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[2, 3, 4] = True
    assert "along i or j or k" in error_of(mask)
    check_axis(mask, "j")


@pytest.mark.parametrize("shape", [(6, 7, 8), (1, 7, 8)])
def test_empty_support(shape: tuple[int, int, int]) -> None:
    message = error_of(np.zeros(shape, bool))
    assert message == "The support is empty. Paint the structure on at least one slice."


def test_support_on_every_slice_leaves_nothing_to_find() -> None:
    mask = drawn("k", range(3), (3, 7, 8))
    mask[:, 1:6, 1:7] = True
    assert "all 3 slices along k: nothing is left to find" in error_of(mask)
    check_axis(mask, "i")
