"""Baselines on a disc that moves, grows and ends."""

from __future__ import annotations

import numpy as np
import pytest

from FoBSAMLib.evaluation.baselines import (
    BASELINES,
    Baseline,
    CycleGate,
    StepOnce,
    interpolate,
    propagate,
)
from FoBSAMLib.evaluation.metrics import dice
from FoBSAMLib.evaluation.registration import Alignment, carry_mask

SPACING = (1.5, 1.5)


def disc(row: float, column: float, radius: float = 10, size: int = 64) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def picture(mask: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.15, mask.shape)
    return (2.0 * mask + disc(31, 31, 29) + noise).astype(np.float32)


def series(masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The truth, bool [K, J, I], and an image of it."""
    return np.stack(masks), np.stack([picture(mask, seed) for seed, mask in enumerate(masks)])


def walk(baseline: Baseline, image: np.ndarray, annotated: dict, gate) -> np.ndarray:
    """Masks of the whole volume, bool [K, J, I], empty where the baseline did not come."""
    reached = propagate(baseline.on(image, SPACING), annotated, gate, range(len(image)))
    found = np.zeros(image.shape, bool)
    for index, mask in reached.items():
        found[index] = mask
    return found


def yes(index: int, mask: np.ndarray, source: int) -> bool:
    return True


@pytest.fixture
def moving() -> tuple[np.ndarray, np.ndarray]:
    """A disc that moves by 3 mm a slice."""
    return series([disc(24 + 2 * index, 32) for index in range(7)])


def test_registration_follows_the_motion(moving):
    truth, image = moving
    carried = carry_mask(image[1], image[0], truth[0], SPACING)
    assert dice(truth[1], carried) > 0.96 > dice(truth[1], truth[0])


def test_registration_returns_what_it_cannot_move(moving):
    truth, image = moving
    flat = np.zeros_like(image[0])
    assert (carry_mask(flat, flat, truth[0], SPACING) == truth[0]).all()
    assert not carry_mask(image[1], image[0], np.zeros_like(truth[0]), SPACING).any()


def test_every_baseline_but_copy_follows_the_structure(moving):
    truth, image = moving
    scores = {
        name: dice(truth, walk(baseline, image, {3: truth[3]}, yes))
        for name, baseline in BASELINES.items()
    }
    unmoved = ("copy", "interpolation")
    assert max(scores[name] for name in unmoved) < 0.85
    assert all(score > 0.93 for name, score in scores.items() if name not in unmoved)
    assert scores["registration+random-walker"] > 0.96


def test_the_cycle_gate_knows_a_mask_that_has_gone_astray(moving):
    truth, image = moving
    gate = CycleGate(image, {2: truth[2]}, SPACING, agreement=0.5)
    assert gate(4, truth[4], source=2)
    assert not gate(4, disc(32, 54, 8), source=2)
    assert not gate(4, disc(28, 32, 1), source=2)
    assert not gate(4, np.zeros_like(truth[4]), source=2)


def test_the_first_refused_slice_ends_the_way(moving):
    truth, image = moving
    annotated = {2: truth[2]}
    found = walk(BASELINES["copy"], image, annotated, lambda index, *_: index != 4)
    assert found.any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 3


def test_annotated_slices_meet_half_way_and_need_no_gate(moving):
    truth, image = moving
    annotated = {1: truth[1], 5: truth[5]}
    found = walk(BASELINES["copy"], image, annotated, lambda *_: False)
    sources = [1 if (mask == truth[1]).all() else 5 for mask in found[1:6]]
    assert sources == [1, 1, 1, 5, 5]
    assert not found[0].any()
    assert not found[6].any()


def test_between_guessed_masks_the_gate_is_asked(moving):
    truth, _ = moving
    start = {0: truth[0], 6: truth[6]}

    def carry(index: int, current: int, mask: np.ndarray, source: int) -> np.ndarray:
        return mask

    def near(index: int, mask: np.ndarray, source: int) -> bool:
        return abs(index - source) < 2

    assert sorted(propagate(carry, start, near, range(7), sure=False)) == [0, 1, 5, 6]
    assert sorted(propagate(carry, start, near, range(7))) == list(range(7))


def test_an_annotated_absent_slice_ends_the_way(moving):
    truth, image = moving
    annotated = {2: truth[2], 5: np.zeros_like(truth[5])}
    found = walk(BASELINES["copy"], image, annotated, yes)
    assert found.any(axis=(1, 2)).tolist() == [True] * 5 + [False] * 2


def test_annotated_slices_stay_as_drawn(moving):
    _, image = moving
    drawn = disc(40, 20, 5)
    for baseline in BASELINES.values():
        found = walk(baseline, image, {3: drawn}, yes)
        assert (found[3] == drawn).all()


def test_a_structure_of_one_pixel_is_no_trouble(moving):
    truth, image = moving
    point = np.zeros_like(truth[0])
    point[30, 30] = True
    for baseline in BASELINES.values():
        found = walk(baseline, image, {3: point}, yes)
        assert found.shape == image.shape


def test_supports_of_another_subject_are_laid_over_this_one():
    truth, image = series([disc(30, 26, 4 + index) for index in range(9)])
    other = np.roll(image, 4, axis=2)
    alignment = Alignment(image, other, (1.5, 1.5, 5), (1.5, 1.5, 5))
    assert alignment.image.shape == image.shape
    laid = alignment.lay(4, np.roll(truth[4], 4, axis=1))
    assert laid is not None
    index, mask = laid
    assert abs(index - 4) <= 1
    assert dice(truth[4], mask) > 0.85


@pytest.mark.parametrize("thin", [True, False])
def test_volumes_that_cannot_be_registered_are_laid_centre_on_centre(thin):
    """One slice, or no contrast."""
    _, image = series([disc(32, 32)] * (1 if thin else 12))
    if not thin:
        image = np.zeros_like(image)
    spacing = (1.5, 1.5, 8.0)
    alignment = Alignment(image, image, spacing, spacing)
    laid = alignment.lay(0, disc(32, 32))
    assert laid is not None
    index, mask = laid
    assert index == 0
    assert dice(disc(32, 32), mask) > 0.95


def test_nothing_is_walked_outside_the_slices_asked_for(moving):
    truth, image = moving
    step = BASELINES["copy"].on(image, SPACING)
    assert sorted(propagate(step, {3: truth[3]}, yes, range(2, 5))) == [2, 3, 4]


def test_a_second_rule_asks_for_no_step_again_and_finds_the_same(moving):
    truth, image = moving
    calls = []

    def step(index, current, mask, source):
        calls.append(index)
        return BASELINES["registration"].on(image, SPACING)(index, current, mask, source)

    once = StepOnce(step)
    short = propagate(once, {3: truth[3]}, lambda index, *_: index < 5, range(7))
    assert once.spared == 0
    made = len(calls)
    whole = propagate(once, {3: truth[3]}, yes, range(7))
    assert len(calls) == made + 1  # slice 6; slice 5 was made, and refused
    assert once.spared > 0
    alone = propagate(step, {3: truth[3]}, yes, range(7))
    assert all((whole[n] == alone[n]).all() for n in range(7))
    assert sorted(short) == [0, 1, 2, 3, 4]


def test_interpolation_is_half_way_between_two_annotated_slices():
    low, high = disc(32, 32, 6), disc(32, 32, 14)
    found = interpolate({2: low, 6: high}, SPACING)
    assert sorted(found) == [3, 4, 5]
    assert dice(found[4], disc(32, 32, 10)) > 0.98
    assert (low & ~found[3]).sum() == (found[5] & ~high).sum() == 0


def test_interpolation_needs_the_structure_on_both_sides(moving):
    truth, _ = moving
    assert interpolate({2: truth[2]}, SPACING) == {}
    assert interpolate({2: truth[2], 5: np.zeros_like(truth[5])}, SPACING) == {}
