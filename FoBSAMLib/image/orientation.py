"""One image as another one lies: axes swapped and turned round, never resampled."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from FoBSAMLib.image.volume import Volume


def oriented_like(volume: Volume, ijk_to_ras: np.ndarray) -> Volume:
    """The same voxels, a view, with every index axis along the nearest of another grid's.

    A slice of a query then shows what a slice of the support shows, the same side up, however
    the two were acquired. ``ijk_to_ras`` is the other grid's matrix, 4×4.
    """
    cosines = _directions(ijk_to_ras).T @ _directions(volume.ijk_to_ras)
    order = max(permutations(range(3)), key=lambda p: np.abs(cosines[range(3), p]).sum())
    flipped = [cosines[n, order[n]] < 0 for n in range(3)]
    matrix = volume.ijk_to_ras.copy()
    matrix[:, :3] = volume.ijk_to_ras[:, order]
    # Arrays are (K, J, I), matrices (i, j, k).
    last = 2
    axes = [last - order[last - n] for n in range(3)]
    array = np.transpose(volume.array, [*axes, *range(3, volume.array.ndim)])
    for n in range(3):
        if flipped[n]:
            size = array.shape[last - n]
            matrix[:3, 3] += matrix[:3, n] * (size - 1)
            matrix[:3, n] *= -1
            array = np.flip(array, last - n)
    if order == (0, 1, 2) and not any(flipped):
        return volume
    return Volume(array, matrix, volume.name, volume.modality)


def _directions(matrix: np.ndarray) -> np.ndarray:
    """The index axes' unit vectors, the columns of [3, 3]."""
    axes = matrix[:3, :3]
    return np.asarray(axes / np.linalg.norm(axes, axis=0))
