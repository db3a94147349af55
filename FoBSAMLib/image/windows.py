"""Intensity windows by modality, and the normalisation the networks expect."""

from __future__ import annotations

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Modality, Volume, not_finite

#: Soft tissue in Hounsfield units, the window of the few-shot abdominal CT literature.
CT_WINDOW = (-125.0, 275.0)
#: Share of the brightest MR voxels that is clipped, in percent.
MR_CLIPPED_PERCENT = 0.5
#: Only air and lung lie below, and only in Hounsfield units do values go there.
AIR_HU = -200.0
#: Luminance of ITU-R BT.601.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def detect_modality(volume: Volume) -> Modality:
    """What kind of intensities a volume holds, judged by its voxels."""
    array = volume.array
    if array.ndim == 4:
        return "rgb"
    low, high = array.min(), array.max()
    if low < AIR_HU:
        return "ct"
    if array.dtype == np.uint8 or (array.dtype.kind in "biu" and low >= 0 and high <= 255):
        return "8bit"
    return "mr"


def normalise(volume: Volume) -> np.ndarray:
    """Voxels windowed by modality, then z-scored over the volume: float32 [K, J, I].

    CT is clipped to [-125, 275] HU, MR at its top 0.5 %, RGB becomes luminance, 8-bit stays.
    Raises FoBSAMError when nothing but one value is left, and for NaN or infinite voxels.
    """
    modality = detect_modality(volume) if volume.modality == "auto" else volume.modality
    result = _windowed(volume.array, modality)
    # Slice by slice, so that the sums are in float64 without a float64 copy of the volume.
    result -= np.float32(np.mean([plane.mean(dtype=np.float64) for plane in result]))
    variance = np.mean([np.square(plane, dtype=np.float64).mean() for plane in result])
    if not np.isfinite(variance):
        # Found here at no cost; where an image is read it is looked for, but not where a program
        # hands over voxels that it holds.
        bad = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
        raise not_finite(volume.name, bad, volume.array.size)
    if not variance > 0:
        raise FoBSAMError(
            "bad_request",
            f"{volume.name} is constant within the intensity window ({modality}).",
            "Check that the right file was given.",
        )
    result /= np.float32(np.sqrt(variance))
    return result


def to_uint8_rgb(image: np.ndarray) -> np.ndarray:
    """A slice [H, W] or [H, W, 3] as uint8 [H, W, 3], its range stretched to 0–255.

    8-bit RGB is a photograph already and stays as it is.
    """
    if image.ndim == 3 and image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    scaled = (image.astype(np.float32) - low) * (255.0 / ((high - low) or 1.0))
    grey = np.rint(scaled).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _windowed(array: np.ndarray, modality: Modality) -> np.ndarray:
    if array.ndim == 4:
        return np.stack([plane.astype(np.float32) @ LUMINANCE for plane in array])
    result = array.astype(np.float32)
    if modality == "ct":
        np.clip(result, *CT_WINDOW, out=result)
    elif modality == "mr":
        np.minimum(result, np.float32(np.percentile(array, 100 - MR_CLIPPED_PERCENT)), out=result)
    return result
