"""BTCV (SABS) as it is downloaded: abdominal CT in Hounsfield units, NIfTI.

``RawData/Training/img/imgNNNN.nii.gz`` and ``label/labelNNNN.nii.gz``, NNNN 0001–0010 and
0021–0040, which the few-shot papers number 0–29 in that order.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import dataset_grids as grids
from FoBSAMLib.image.geometry import geometry_of
from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.image.windows import CT_WINDOW

WANTED = "img/imgNNNN.nii.gz and label/labelNNNN.nii.gz (Training in RawData.zip)"

#: Numbers in the files' names, in the order of the subjects.
CASES = (*range(1, 11), *range(21, 41))
#: Pixels cut away at each side, and how much larger pixels become: 512 → 448 → 257.
MARGIN = 32
LARGER = 1.75


def find(folder: Path) -> dict[int, tuple[Path, Path]]:
    """Image and label file of each subject; empty where there is no ``imgNNNN.nii.gz``.

    The challenge's test images, which have no labels, are passed over. Raises FoBSAMError
    (unreadable) for an image without its labels, and for a file that is there twice.
    """
    images = _numbered(folder, "img")
    labels = _numbered(folder, "label")
    missing = [path for case, path in sorted(images.items()) if case not in labels]
    if missing:
        raise FoBSAMError(
            "unreadable",
            f"There are no labels for {missing[0]}"
            + (f" and {len(missing) - 1} more images." if len(missing) > 1 else "."),
            f"Add {missing[0].name.replace('img', 'label')}, or take the image away.",
        )
    return {CASES.index(case): (path, labels[case]) for case, path in sorted(images.items())}


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """Files of the 30 cases by their number."""
    found: dict[int, Path] = {}
    for path in sorted(folder.rglob(f"{prefix}[0-9][0-9][0-9][0-9].nii*")):
        match = re.fullmatch(rf"{prefix}(\d+)\.nii(\.gz)?", path.name)
        if not match or int(match[1]) not in CASES:
            continue
        if int(match[1]) in found:
            raise FoBSAMError(
                "unreadable",
                f"{path.name} is there twice: {found[int(match[1])]} and {path}.",
                "Give the folder of one of them.",
            )
        found[int(match[1])] = path
    return found


def read(image_file: Path, label_file: Path) -> tuple[Volume, np.ndarray]:
    """A subject on the published grid: uint8 [K, 257, 257], and its labels, uint8 of that shape.

    Clipped to [-125, 275] HU, stretched to 0–255, 32 pixels cut at each side, pixels 1.75 times
    as large. Raises FoBSAMError for files that are damaged or do not belong together, and for an
    image that is not in Hounsfield units or too small.
    """
    volume = read_volume(image_file)
    labels = read_segmentation(label_file)
    _check_same_grid(volume, labels.layers[0], labels.ijk_to_ras, label_file)
    if min(volume.shape[1:]) <= 2 * MARGIN:
        raise FoBSAMError(
            "bad_geometry",
            f"The slices of {image_file} have {volume.shape[2]}×{volume.shape[1]} pixels, and "
            f"{MARGIN} are cut at each side.",
            "Give the original image, of 512×512 pixels.",
        )
    window = np.clip(volume.array.astype(np.float32), *CT_WINDOW)
    low, high = float(window.min()), float(window.max())
    if low == high:
        raise FoBSAMError(
            "bad_request",
            f"{image_file} has one value within {CT_WINDOW[0]:g} to {CT_WINDOW[1]:g}.",
            "Give the original image, in Hounsfield units.",
        )
    image = grids.oriented((window - low) * (255 / (high - low)), volume.ijk_to_ras)
    i, j, k = image.GetSpacing()
    spacing = (i * LARGER, j * LARGER, k)
    smaller = grids.resampled(_without_margin(image), spacing)
    array = np.rint(sitk.GetArrayFromImage(smaller)).astype(np.uint8)
    cut = _without_margin(grids.oriented(labels.layers[0], volume.ijk_to_ras))
    case = CASES.index(int(re.sub(r"\D", "", image_file.name)))
    result = Volume(array, geometry_of(smaller), f"image_{case}", "8bit")
    return result, grids.resampled_labels(cut, spacing)


def _without_margin(image: sitk.Image) -> sitk.Image:
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN, :]


def _check_same_grid(
    volume: Volume, labels: np.ndarray, ijk_to_ras: np.ndarray, label_file: Path
) -> None:
    """Raise unless labels have the image's size, spacing and axes.

    Not its origin: headers of labels and image may say different things of it, and the voxels
    belong together all the same.
    """
    same_axes = np.allclose(volume.ijk_to_ras[:3, :3], ijk_to_ras[:3, :3], atol=0.01)
    if labels.shape != volume.shape or not same_axes:
        raise FoBSAMError(
            "bad_geometry",
            f"{label_file} is not on the grid of {volume.name}.",
            "Put the labels of this image beside it.",
        )
