"""Grids of the published preprocessing: direction, spacing and size of volumes and labels.

Sizes and interpolation are those of the scripts that the few-shot papers share (Ouyang et al.
2020), so that a raw download becomes what those papers evaluated; but what is cut away moves
the origin, so that the result lies where the patient lay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from FoBSAMLib.image.geometry import geometry_of, to_image

#: Indices run to the patient's left, front and head, as in the published volumes.
DIRECTION = "LAS"


def oriented(array: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    """Voxels [K, J, I] as an image whose axes run as `DIRECTION` says; no voxel changes."""
    return sitk.DICOMOrient(to_image(array, ijk_to_ras), DIRECTION)


def resampled(image: sitk.Image, spacing: Sequence[float]) -> sitk.Image:
    """An image with voxels of ``spacing`` mm along (i, j, k), linear, from the same first voxel.

    As in the published scripts there is one voxel more than fits, which is 0.
    """
    return sitk.Resample(
        image,
        _resampled_size(image, spacing),
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        list(spacing),
        image.GetDirection(),
    )


def resampled_labels(labels: sitk.Image, spacing: Sequence[float]) -> np.ndarray:
    """Labels on the grid of `resampled`, uint8 [K, J, I]: a voxel's is over half of it."""
    result = np.zeros(_resampled_size(labels, spacing)[::-1], np.uint8)
    values = np.unique(sitk.GetArrayViewFromImage(labels))
    for value in values[values > 0]:
        share = resampled(sitk.Cast(labels == int(value), sitk.sitkFloat32), spacing)
        result[sitk.GetArrayViewFromImage(share) > 0.5] = value
    return result


def _resampled_size(image: sitk.Image, spacing: Sequence[float]) -> list[int]:
    scale = np.divide(image.GetSpacing(), spacing)
    # Rounded: 256 must not become 255.9999999 for want of a last bit.
    size = np.floor(np.round(np.multiply(image.GetSize(), scale), 6)).astype(int) + 1
    return [int(n) for n in size]


def centred(array: np.ndarray, size: int, fill: float) -> np.ndarray:
    """The middle ``size``×``size`` pixels of slices [K, J, I], filled up where they are smaller."""
    result = np.full((len(array), size, size), fill, array.dtype)
    kept, place = zip(*(_overlap(n, size) for n in array.shape[1:]), strict=True)
    result[:, place[0], place[1]] = array[:, kept[0], kept[1]]
    return result


def centred_geometry(image: sitk.Image, size: int) -> np.ndarray:
    """The geometry of `centred` slices of an image."""
    columns, rows, _ = image.GetSize()
    result = geometry_of(image)
    result[:3, 3] += result[:3, :3] @ (columns // 2 - size // 2, rows // 2 - size // 2, 0)
    return result


def _overlap(length: int, size: int) -> tuple[slice, slice]:
    """What of ``length`` pixels is kept, and where in ``size`` it goes."""
    first = length // 2 - size // 2
    start, stop = max(first, 0), min(first + size, length)
    return slice(start, stop), slice(start - first, stop - first)
