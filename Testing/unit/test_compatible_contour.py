"""The paper's ring points, held to border lists of an established contour tracer."""

from __future__ import annotations

import json
from pathlib import Path

import fob_reference as reference
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from FoBSAMLib.generator.contour import background_points, outer_border, sort_about_leftmost

FACTS = json.loads((Path(__file__).parents[1] / "data" / "ring_points.json").read_text())


def draw(discs: list[list[int]]) -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= r * r for cx, cy, r in discs], axis=0)


@pytest.mark.parametrize("fact", FACTS["regions"])
def test_borders_are_those_of_the_known_tracer(fact: dict) -> None:
    region = np.array([[pixel == "#" for pixel in row] for row in fact["rows"]])
    labels, _ = ndimage.label(region, np.ones((3, 3)))
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    assert outer_border(largest).tolist() == fact["border"]


@pytest.mark.parametrize("fact", FACTS["rings"], ids=lambda fact: fact["name"])
def test_ring_points_are_those_of_the_known_tracer(fact: dict) -> None:
    mask = draw(fact["discs"])
    assert background_points(mask).tolist() == fact["points"]
    assert [list(point) for point in reference.ring_points(mask)] == fact["points"]


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_borders_are_those_of_the_cracks_between_pixels(region: np.ndarray) -> None:
    for start, part in reference._parts(region):
        only = np.zeros_like(region)
        only[tuple(np.array(sorted(part)).T[::-1])] = True
        expected = reference._corners(reference._border(start, part))
        assert [tuple(pixel) for pixel in outer_border(only).tolist()] == expected


def test_points_lie_on_the_ring_ten_pixels_out() -> None:
    mask = draw([[128, 128, 25]])
    distance = ndimage.distance_transform_cdt(~mask, "chessboard")
    x, y = background_points(mask).astype(int).T
    assert set(distance[y, x]) == {10}


def test_only_the_larger_of_two_parts_is_sampled_and_the_first_of_equals() -> None:
    larger = draw([[180, 180, 30]])
    both = larger | draw([[50, 50, 20]])
    np.testing.assert_array_equal(background_points(both), background_points(larger))
    upper = draw([[180, 60, 20]])
    both = upper | draw([[60, 180, 20]])
    np.testing.assert_array_equal(background_points(both), background_points(upper))


@pytest.mark.parametrize("mask", [np.ones((256, 256), bool), np.zeros((256, 256), bool)])
def test_without_a_ring_all_points_are_at_the_origin(mask: np.ndarray) -> None:
    points = background_points(mask)
    assert points.shape == (10, 2)
    assert points.dtype == np.float32
    assert not points.any()


def test_sorting_is_stable_about_the_first_of_the_leftmost() -> None:
    points = np.array([[5, 5], [2, 9], [2, 1], [5, 9], [8, 9], [2, 9]], np.float32)
    # About (2, 9): itself, everything level with it to the right and its double share angle 0.
    assert sort_about_leftmost(points).tolist() == [
        [2, 1],
        [5, 5],
        [2, 9],
        [5, 9],
        [8, 9],
        [2, 9],
    ]
