"""One image as another one lies."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from FoBSAMLib.image.orientation import oriented_like
from FoBSAMLib.image.volume import Volume


def turned(volume: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same voxels at the same places, stored along other axes."""
    places = {}
    for k, j, i in np.ndindex(volume.shape):
        places[tuple(np.round(volume.ijk_to_ras @ [i, j, k, 1], 6)[:3])] = volume.array[k, j, i]
    ijk_to_ras = volume.ijk_to_ras.copy()
    ijk_to_ras[:, :3] = volume.ijk_to_ras[:, order]
    sizes = [volume.shape[::-1][n] for n in order]
    for n, sign in enumerate(signs):
        if sign < 0:
            ijk_to_ras[:3, 3] += ijk_to_ras[:3, n] * (sizes[n] - 1)
            ijk_to_ras[:3, n] *= -1
    array = np.zeros(sizes[::-1], volume.array.dtype)
    for k, j, i in np.ndindex(array.shape):
        array[k, j, i] = places[tuple(np.round(ijk_to_ras @ [i, j, k, 1], 6)[:3])]
    return Volume(array, ijk_to_ras, volume.name)


@pytest.fixture(scope="module")
def volume() -> Volume:
    turn = np.deg2rad(20)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, :3] *= [0.7, 0.9, 3.0]
    matrix[:3, 3] = [-20, 5, 100]
    return Volume(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6), matrix)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_any_storage_order_is_undone(volume, order, signs):
    found = oriented_like(turned(volume, order, signs), volume.ijk_to_ras)
    assert found.same_grid(volume.shape, volume.ijk_to_ras)
    np.testing.assert_array_equal(found.array, volume.array)


@pytest.mark.parametrize(("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (1, 1, 1))])
def test_nothing_is_copied(volume, order, signs):
    given = turned(volume, order, signs)
    assert np.shares_memory(oriented_like(given, volume.ijk_to_ras).array, given.array)


def test_an_image_that_lies_alike_is_left_as_it_is(volume):
    tilted = volume.ijk_to_ras.copy()
    tilted[:3, 3] += 40
    assert oriented_like(volume, tilted) is volume


def test_photographs_keep_their_colours_together():
    picture = Volume(np.arange(1 * 4 * 5 * 3, dtype=np.uint8).reshape(1, 4, 5, 3), np.eye(4))
    flipped = oriented_like(picture, np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(flipped.array, picture.array[:, :, ::-1])
