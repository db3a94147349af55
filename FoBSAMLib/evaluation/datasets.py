"""Labelled data sets, subject by subject, with their split into training and check subjects.

Subjects are always in the order of their integer ids: sorting ids as text would silently
change which subject is a support (10 before 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.image.volume import Volume


@dataclass(frozen=True)
class DatasetDescription:
    """What a data set holds, wherever its files lie.

    ``organs`` maps the names used in tables to label values, in the tables' order; ``train``
    and ``check`` are subject ids; ``support`` is the subject whose annotated slices serve as
    supports for the check subjects across volumes.
    """

    name: str
    folder: str
    organs: Mapping[str, int]
    train: tuple[int, ...]
    check: tuple[int, ...]
    support: int


CHAOS = DatasetDescription(
    name="chaos",
    folder="chaos_t2",
    organs={"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4},
    train=(1, 2, 3, 5, 8, 10, 13, 15),
    check=(19, 20, 21, 22),
    support=3,
)
SABS = DatasetDescription(
    name="sabs",
    folder="sabs_ct",
    organs={"liver": 6, "right kidney": 2, "left kidney": 3, "spleen": 1},
    train=tuple(range(12)),
    check=tuple(range(12, 18)),
    support=2,
)
DATASETS = {description.name: description for description in (CHAOS, SABS)}


@dataclass(frozen=True)
class Subject:
    """One labelled image; ``masks`` maps each organ it holds to a bool [K, J, I] mask."""

    id: int
    volume: Volume
    masks: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """A data set found on disk: ``files`` maps subject ids to an image and a label file."""

    description: DatasetDescription
    files: Mapping[int, tuple[Path, Path]]

    @property
    def subjects(self) -> tuple[int, ...]:
        """Ids of the subjects on disk, ascending."""
        return tuple(sorted(self.files))

    def choose(self, subjects: Iterable[int] | None = None) -> tuple[int, ...]:
        """Ids to evaluate, ascending: those asked for, or every check subject.

        Raises `FoBSAMError` (bad_request) for a subject that is not on disk, and for a
        choice that mixes training and check subjects, whose mean would say nothing.
        """
        description = self.description
        wanted = tuple(sorted(set(description.check if subjects is None else subjects)))
        if not wanted:
            raise FoBSAMError("bad_request", "No subject was chosen.", "Leave the choice out.")
        missing = [subject for subject in wanted if subject not in self.files]
        if missing:
            raise FoBSAMError(
                "bad_request",
                f"{description.name} has no subject {_listed(missing)} here.",
                f"There are {_listed(self.subjects)}.",
            )
        trained_on = [subject for subject in wanted if subject not in description.check]
        if trained_on and len(trained_on) < len(wanted):
            raise FoBSAMError(
                "bad_request",
                f"{description.name} subjects {_listed(trained_on)} are training subjects and "
                "cannot be averaged with check subjects.",
                f"Check subjects are {_listed(description.check)}.",
            )
        return wanted

    def choose_organs(self, organs: Iterable[str] | None = None) -> tuple[str, ...]:
        """Organ names to evaluate, in the table's order; all of them if none is given."""
        known = tuple(self.description.organs)
        wanted = set(known if organs is None else organs)
        unknown = sorted(wanted - set(known))
        if unknown:
            raise FoBSAMError(
                "bad_request",
                f"{self.description.name} has no organ {', '.join(unknown)}.",
                f"There are {', '.join(known)}.",
            )
        return tuple(organ for organ in known if organ in wanted)

    def read(self, subject: int) -> Subject:
        """A subject's image and its organ masks; organs without a voxel are left out."""
        image_file, label_file = self.files[subject]
        volume = read_volume(image_file)
        segmentation = read_segmentation(label_file, like=volume)
        labels = segmentation.layers[0]
        masks = {organ: labels == label for organ, label in self.description.organs.items()}
        return Subject(
            subject, volume, {organ: mask for organ, mask in masks.items() if mask.any()}
        )


def find_dataset(name: str, folder: str | Path) -> Dataset:
    """Find a preprocessed data set: ``image_N.nii.gz`` beside ``label_N.nii.gz``.

    ``folder`` holds the files, or the folder that holds them. Raises `FoBSAMError`:
    bad_request for an unknown name, unreadable where the files are missing.
    """
    if name not in DATASETS:
        raise FoBSAMError(
            "bad_request", f"There is no data set '{name}'.", f"Use {' or '.join(DATASETS)}."
        )
    description = DATASETS[name]
    folder = Path(folder)
    if not folder.is_dir():
        raise FoBSAMError(
            "unreadable", f"{folder} is not a folder.", f"Give the folder of {name}'s images."
        )
    inside = folder / description.folder
    images = _images(inside if inside.is_dir() else folder)
    if not images:
        raise FoBSAMError(
            "unreadable",
            f"{folder} holds no image_N.nii.gz.",
            f"Give the folder of {name}'s images, or the one that holds {description.folder}.",
        )
    files = {}
    for subject, image in images.items():
        label = image.with_name(f"label_{subject}.nii.gz")
        if not label.is_file():
            raise FoBSAMError(
                "unreadable", f"{image} has no {label.name} beside it.", "Add it, or take it away."
            )
        files[subject] = (image, label)
    return Dataset(description, files)


def _images(folder: Path) -> dict[int, Path]:
    matches = (
        (re.fullmatch(r"image_(\d+)\.nii\.gz", path.name), path) for path in folder.iterdir()
    )
    return {int(match[1]): path for match, path in matches if match}


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
