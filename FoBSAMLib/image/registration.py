"""Deformation between neighbouring slices, which carries masks along."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from FoBSAMLib.image.box import box_round

ITERATIONS = 15
SMOOTHING = 1.5
#: The field is found at half the resolution: organs move smoothly, and it is five times as fast.
SHRINK = 2


def displacement(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Field that takes pixels of ``fixed`` to their place in ``moving``, by symmetric demons.

    Both are float [H, W] of one size and intensity scale; the field is float32 [2, h, w] as
    (x, y), in pixels, on a grid of half the resolution.
    """
    images = []
    for slice_ in (fixed, moving):
        image = sitk.GetImageFromArray(slice_.astype(np.float32))
        images.append(sitk.BinShrink(image, [SHRINK, SHRINK]))
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(ITERATIONS)
    demons.SetStandardDeviations(SMOOTHING)
    demons.SetNumberOfThreads(1)
    images[1].CopyInformation(images[0])
    field = sitk.GetArrayFromImage(demons.Execute(*images))
    return np.ascontiguousarray(field.transpose(2, 0, 1), np.float32)


def carry(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Values ≥ 0, [H, W], of ``moving`` brought onto ``fixed`` by a field of `displacement`."""
    carried = np.zeros(values.shape, np.float32)
    if not values.any():
        return carried
    # Further away nothing can come from.
    box = box_round(values > 0, int(np.ceil(np.abs(field).max())) + 1)
    rows, columns = (places.astype(np.float32) for places in np.mgrid[box])
    scale = np.divide(field.shape[1:], values.shape)
    coarse = ((rows + 0.5) * scale[0] - 0.5, (columns + 0.5) * scale[1] - 0.5)
    x, y = (ndimage.map_coordinates(part, coarse, order=1, mode="nearest") for part in field)
    places = (rows + y, columns + x)
    carried[box] = ndimage.map_coordinates(
        values.astype(np.float32), places, order=1, mode="nearest"
    )
    return carried
