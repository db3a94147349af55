"""CHAOS as it is downloaded: MR T2-SPIR as DICOM slices, organs as grey values of PNG slices.

``Train_Sets/MR/<id>/T2SPIR/DICOM_anon/*.dcm`` and ``Ground/*.png``, one of the same name for
each slice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from skimage.io import imread

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import dataset_grids as grids
from FoBSAMLib.image.dicom import read_series
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.image.windows import MR_CLIPPED_PERCENT

WANTED = "MR/<id>/T2SPIR with DICOM_anon/*.dcm and Ground/*.png (CHAOS_Train_Sets.zip)"

SPACING_MM = (1.25, 1.25, 7.7)
SIZE = 256
#: Grey values of background, liver, right kidney, left kidney and spleen are multiples of it.
GREY_STEP = 63
ORGANS = 4

#: How deep below the folder that the user names subjects may lie.
_DEPTH = 4


def find(folder: Path) -> dict[int, tuple[Path, Path]]:
    """DICOM and PNG folder of each subject with labels; empty where there is no T2SPIR folder.

    The challenge's test sets, which have no labels, are passed over. Raises FoBSAMError
    (unreadable) for a subject that lacks either folder, and for one that is there twice.
    """
    found: dict[int, tuple[Path, Path]] = {}
    patterns = ("*/" * depth + "T2SPIR" for depth in range(_DEPTH + 1))
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        subject = path.resolve().parent.name
        if not subject.isdecimal() or "Test_Sets" in path.resolve().parts:
            continue
        files = path / "DICOM_anon", path / "Ground"
        for needed in files:
            if not needed.is_dir():
                raise FoBSAMError(
                    "unreadable",
                    f"{path} has no folder {needed.name}.",
                    "Add it, or take the subject away.",
                )
        if int(subject) in found:
            raise FoBSAMError(
                "unreadable",
                f"Subject {subject} is there twice: {found[int(subject)][0].parent} and {path}.",
                "Give the folder of one of them.",
            )
        found[int(subject)] = files
    return found


def read(slices: Path, ground: Path) -> tuple[Volume, np.ndarray]:
    """A subject on the published grid, [K, 256, 256], and its labels, uint8 of that shape.

    Clipped at the top 0.5 % of the histogram, resampled to 1.25×1.25×7.7 mm, cut or filled up
    to 256×256 around the middle. Raises FoBSAMError for slices and masks that are damaged,
    missing, of different size or do not belong together.
    """
    volume = read_volume(slices)
    files, _ = read_series(slices)
    labels = _labels(pair(map(Path, files), ground), volume.shape[1:], ground)
    highest = np.percentile(volume.array, 100 - MR_CLIPPED_PERCENT)
    clipped = np.minimum(volume.array, volume.array.dtype.type(highest))
    image = grids.resampled(grids.oriented(clipped, volume.ijk_to_ras), SPACING_MM)
    array = sitk.GetArrayFromImage(image)
    organs = grids.resampled_labels(grids.oriented(labels, volume.ijk_to_ras), SPACING_MM)
    result = Volume(
        grids.centred(array, SIZE, array.min()),
        grids.centred_geometry(image, SIZE),
        f"image_{slices.resolve().parents[1].name}",
        "mr",
    )
    return result, grids.centred(organs, SIZE, 0)


def pair(slices: Iterable[Path], ground: Path) -> list[Path]:
    """The mask of each DICOM slice, in the order of the slices.

    By the name of the file; where no name fits, by the number in the mask's name, which then
    is the slice's InstanceNumber. Raises FoBSAMError (unreadable) unless each has exactly one.
    """
    slices = list(slices)
    masks = [path for path in ground.iterdir() if path.suffix.lower() == ".png"]
    names = [path.stem for path in slices]
    by_name: dict[object, Path] = {path.stem: path for path in masks}
    if by_name.keys().isdisjoint(names):
        numbered: dict[object, Path] = {_number(path): path for path in masks}
        numbers = [_instance_number(path) for path in slices]
        if len(numbered) == len(masks) and not numbered.keys().isdisjoint(numbers):
            return _one_each(slices, numbers, numbered, ground)
    return _one_each(slices, names, by_name, ground)


def _one_each(
    slices: list[Path], keys: Iterable[object], masks: Mapping[object, Path], ground: Path
) -> list[Path]:
    keys = list(keys)
    without = [path.name for path, key in zip(slices, keys, strict=True) if key not in masks]
    left = [path.name for key, path in masks.items() if key not in keys]
    if without or left or len(set(keys)) < len(keys):
        what = [
            *([f"{_some(without)} without a mask"] if without else []),
            *([f"{_some(left)} without a DICOM slice"] if left else []),
        ]
        raise FoBSAMError(
            "unreadable",
            f"{ground.parent} has {' and '.join(what) or 'several slices of one number'}.",
            "Unpack the download anew: each slice has one mask of its name in Ground.",
        )
    return [masks[key] for key in keys]


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _number(path: Path) -> int | None:
    """The last number in a file's name."""
    numbers = re.findall(r"\d+", path.stem)
    return int(numbers[-1]) if numbers else None


def _instance_number(path: Path) -> int | None:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["InstanceNumber"])
    number = header.get("InstanceNumber")
    return None if number is None else int(number)


def _labels(masks: list[Path], shape: tuple[int, ...], ground: Path) -> np.ndarray:
    """Masks as labels, uint8 [K, J, I]: 0 background, 1 liver, 2 and 3 kidneys, 4 spleen.

    Grey values in ascending order; a subject that lacks one of the organs has it by the values
    that the challenge gives to each.
    """
    greys = np.stack([_grey(path, shape) for path in masks])
    values = np.unique(greys)
    if len(values) == ORGANS + 1:
        return np.searchsorted(values, greys).astype(np.uint8)
    if len(values) == 1 or np.any(values % GREY_STEP) or values.max() > ORGANS * GREY_STEP:
        listed = ", ".join(map(str, values[:10])) + (" …" if len(values) > 10 else "")
        raise FoBSAMError(
            "unreadable",
            f"The masks in {ground} have the grey values {listed}.",
            f"Background and {ORGANS} organs are 0, 63, 126, 189 and 252: unpack them anew.",
        )
    return (greys // GREY_STEP).astype(np.uint8)


def _grey(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        grey = np.asarray(imread(path))
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow says of a damaged PNG
        raise FoBSAMError(
            "unreadable", f"{path} cannot be read: it is damaged.", "Unpack the download anew."
        ) from error
    if grey.ndim == 3:
        grey = grey[..., 0]
    if grey.shape != shape:
        raise FoBSAMError(
            "bad_geometry",
            f"{path} has {grey.shape[1]}×{grey.shape[0]} pixels, its slice {shape[1]}×{shape[0]}.",
            "Put the masks of this subject's slices beside them.",
        )
    return grey
