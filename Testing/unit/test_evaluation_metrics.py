"""Metrics against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from FoBSAMLib.evaluation.metrics import dice, summarise, surface_agreement

# surface-distance still calls SciPy by names that SciPy has moved.
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SHAPE = (12, 14, 16)
EMPTY = np.zeros(SHAPE, bool)


def cube(k: int, j: int, i: int, size: int = 4) -> np.ndarray:
    mask = EMPTY.copy()
    mask[k : k + size, j : j + size, i : i + size] = True
    return mask


def test_dice_counts_the_overlap():
    assert dice(cube(2, 2, 2), cube(2, 2, 3)) == pytest.approx(0.75)
    assert dice(cube(2, 2, 2), cube(2, 2, 2)) == 1
    assert dice(cube(2, 2, 2), cube(7, 7, 7)) == 0


@pytest.mark.parametrize(
    ("shifted", "distance"), [(cube(4, 2, 2), 10.0), (cube(2, 4, 2), 3.0), (cube(2, 2, 4), 2.0)]
)
def test_surface_distances_are_in_millimetres_along_each_axis(shifted, distance):
    agreement = surface_agreement(cube(2, 2, 2), shifted, (1.0, 1.5, 5.0))
    assert agreement.hd95_mm == pytest.approx(distance)
    # Two millimetres are within tolerance, three are not.
    assert (agreement.surface_dice == 1) == (distance <= 2)


def test_the_same_mask_agrees_perfectly():
    agreement = surface_agreement(cube(1, 2, 3), cube(1, 2, 3), (1, 1, 3))
    assert (agreement.hd95_mm, agreement.surface_dice) == (0, 1)


def test_hd95_leaves_out_a_speck_of_surface():
    found = cube(2, 2, 2, size=8)
    found[11, 13, 15] = True
    assert surface_agreement(cube(2, 2, 2, size=8), found, (1, 1, 1)).hd95_mm < 1


def test_two_empty_masks_agree():
    assert dice(EMPTY, EMPTY) == 1
    agreement = surface_agreement(EMPTY, EMPTY, (1, 1, 1))
    assert (agreement.hd95_mm, agreement.surface_dice) == (0, 1)


def test_one_empty_mask_is_the_worst_case():
    for truth, found in ((EMPTY, cube(2, 2, 2)), (cube(2, 2, 2), EMPTY)):
        assert dice(truth, found) == 0
        agreement = surface_agreement(truth, found, (2, 1, 3))
        assert agreement.surface_dice == 0
        assert agreement.hd95_mm == pytest.approx(np.sqrt((12 * 3) ** 2 + 14**2 + (16 * 2) ** 2))


def test_spread_is_the_sample_standard_deviation():
    summary = summarise([1.0, 2.0, 3.0])
    assert (summary.mean, summary.std, summary.count) == (2, 1, 3)
    assert summarise([0.5]).std == 0
