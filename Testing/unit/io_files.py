"""Files to read and write, for tests of images and segmentations as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Segmentation, Structure

CHEST = slicerio.get_testdata_file("CTChest4.nrrd")
DRAWN = slicerio.get_testdata_file("Segmentation.seg.nrrd")
OVERLAPPING = slicerio.get_testdata_file("SegmentationOverlapping.seg.nrrd")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(-500, 1500, (4, 6, 5)).astype(np.int16)


def blob(shape: tuple[int, int, int] = (4, 6, 5)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1, 1:4, 2:5] = True
    return mask


def one_structure(matrix: np.ndarray, mask: np.ndarray | None = None) -> Segmentation:
    return Segmentation.from_masks(
        matrix,
        [(Structure("liver", 3, color=(0.5, 0.25, 0.125)), blob() if mask is None else mask)],
    )


def save(path: Path, array: np.ndarray, **geometry: tuple[float, ...]) -> Path:
    """Write an image with SimpleITK; geometry in its own frame, LPS."""
    image = sitk.GetImageFromArray(array, isVector=False)
    for what, value in geometry.items():
        getattr(image, f"Set{what.capitalize()}")(value)
    sitk.WriteImage(image, str(path))
    return path


def refusal(call: Callable[[], object]) -> FoBSAMError:
    """The error a call raises, which must be one line with something to do."""
    with pytest.raises(FoBSAMError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value
