"""Data sets preprocessed already: ``image_N.nii.gz`` beside ``label_N.nii.gz``; samples."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.image.volume import Volume

#: Image and labels of each subject of the TotalSegmentator samples.
SAMPLES = {
    1: ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
    2: ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz"),
}


def find_numbered(folder: Path, folders: Iterable[str]) -> dict[int, tuple[Path, Path]]:
    """Image and label file of each subject; empty where there is no ``image_N.nii.gz``.

    They lie in ``folder``, or in one of the ``folders`` in it. Raises FoBSAMError (unreadable)
    for an image without its labels.
    """
    folder = _inside(folder, folders)
    found = {}
    for image in folder.iterdir():
        match = re.fullmatch(r"image_(\d+)\.nii\.gz", image.name)
        if not match:
            continue
        label = image.with_name(f"label_{match[1]}.nii.gz")
        _check_beside(image, label)
        found[int(match[1])] = (image, label)
    return found


def find_samples(folder: Path, folders: Iterable[str]) -> dict[int, tuple[Path, Path]]:
    """Image and label file of each of the TotalSegmentator samples that are there."""
    folder = _inside(folder, folders)
    found = {}
    for subject, (image, label) in SAMPLES.items():
        if (folder / image).is_file():
            _check_beside(folder / image, folder / label)
            found[subject] = (folder / image, folder / label)
    return found


def read(
    image_file: Path, label_file: Path, known: Collection[int] | None = None
) -> tuple[Volume, np.ndarray]:
    """A volume as it is, [K, J, I], and its labels of that shape.

    ``known``: the labels that can be. Raises FoBSAMError (``bad_request``) for others: files of
    several data sets have the same names.
    """
    volume = read_volume(image_file)
    labels = read_segmentation(label_file, like=volume).layers[0]
    if known:
        others = sorted({int(one) for one in np.unique(labels)} - {0, *known})
        if others:
            raise FoBSAMError(
                "bad_request",
                f"{label_file} has the labels {', '.join(map(str, others))}, where "
                f"{min(known)} to {max(known)} are looked for.",
                "Check that the folder is this data set's.",
            )
    return volume, labels


def _inside(folder: Path, folders: Iterable[str]) -> Path:
    return next((folder / name for name in folders if (folder / name).is_dir()), folder)


def _check_beside(image: Path, label: Path) -> None:
    if not label.is_file():
        raise FoBSAMError(
            "unreadable", f"{image} has no {label.name} beside it.", "Add it, or take it away."
        )
