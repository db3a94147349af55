"""Whether two grids are the same, how they differ, and what SimpleITK makes of them.

SimpleITK's patient frame is left-posterior-superior, ours right-anterior-superior.
A geometry is the 4×4 matrix ``ijk_to_ras`` of `Volume`.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import GRID_TOLERANCE, Volume

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_to_lps(matrix: np.ndarray) -> np.ndarray:
    """A geometry with its millimetres in the other frame; the same both ways."""
    # Adding zero turns -0.0 into 0.0.
    return _LPS_RAS @ matrix + 0.0


def geometry_of(image: sitk.Image) -> np.ndarray:
    """The geometry of a 3-D SimpleITK image."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    return ras_to_lps(matrix)


def to_image(array: np.ndarray, ijk_to_ras: np.ndarray) -> sitk.Image:
    """A SimpleITK image of voxels [K, J, I] with a geometry."""
    image = sitk.GetImageFromArray(array)
    place(image, ijk_to_ras)
    return image


def place(image: sitk.Image, ijk_to_ras: np.ndarray) -> None:
    """Give a 3-D image a geometry."""
    matrix = ras_to_lps(ijk_to_ras)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())


def embed(layers: np.ndarray, ijk_to_ras: np.ndarray, like: Volume) -> np.ndarray | None:
    """Layers [L, k, j, i] of a box of an image's voxels, on all of them: [L, K, J, I].

    None where the box's voxels are not voxels of the image's grid.
    Raises FoBSAMError where something is drawn outside the image.
    """
    if not np.all(np.isfinite(ijk_to_ras)):
        return None
    to_like = np.linalg.inv(like.ijk_to_ras) @ ijk_to_ras
    start = np.rint(to_like[:3, 3]).astype(int)[::-1]
    shifted = like.ijk_to_ras.copy()
    shifted[:3, 3] += shifted[:3, :3] @ start[::-1]
    if not Volume(layers[0], shifted).same_grid(layers.shape[1:], ijk_to_ras):
        return None
    first = np.maximum(start, 0)
    last = np.maximum(np.minimum(start + layers.shape[1:], like.shape), first)
    result = np.zeros((len(layers), *like.shape), layers.dtype)
    result[_box(first, last)] = layers[_box(first - start, last - start)]
    outside = np.count_nonzero(layers) - np.count_nonzero(result)
    if outside:
        raise FoBSAMError(
            "bad_geometry",
            f"{outside} voxels of the segmentation lie outside the image.",
            "Crop it to the image's extent.",
        )
    return result


def difference(like: Volume, shape: tuple[int, ...], ijk_to_ras: np.ndarray) -> str:
    """In words, how a grid differs from an image's: size, spacing, origin, direction."""
    other = Volume(np.broadcast_to(np.uint8(0), shape), ijk_to_ras)
    parts = []
    if other.shape != like.shape:
        parts.append(f"size {_times(shape[::-1])} instead of {_times(like.shape[::-1])}")
    # Over the whole image the tolerance is a fraction of a voxel, so here it is finer.
    if not np.allclose(other.spacing, like.spacing, rtol=GRID_TOLERANCE / max(like.shape)):
        parts.append(f"spacing {_times(other.spacing)} instead of {_times(like.spacing)} mm")
    off = float(np.linalg.norm(other.ijk_to_ras[:3, 3] - like.ijk_to_ras[:3, 3]))
    if off > GRID_TOLERANCE * min(like.spacing):
        parts.append(f"origin {off:.3g} mm away")
    cosines = (_directions(other) * _directions(like)).sum(axis=0)
    angle = float(np.degrees(np.arccos(np.clip(cosines, -1, 1)).max()))
    if angle > 0.01:
        parts.append(f"direction {angle:.3g}° off")
    return ", ".join(parts) or "its voxels lie between those of the image"


def _box(first: np.ndarray, last: np.ndarray) -> tuple[slice, ...]:
    """Index of voxels from first to before last, in all layers."""
    return (slice(None), *(slice(a, b) for a, b in zip(first, last, strict=True)))


def _directions(volume: Volume) -> np.ndarray:
    return np.asarray(volume.ijk_to_ras[:3, :3] / volume.spacing)


def _times(numbers: tuple[float, ...]) -> str:
    return "×".join(f"{number:.4g}" for number in numbers)
