"""Labelled data sets, subject by subject, with their folds and their split.

Subjects are always in the order of their integer ids: sorting ids as text would silently
change which subject is a support (10 before 2). A data set is read as it was downloaded, and
preprocessed then, or as it was preprocessed before; `find_dataset` sees which.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import dataset_btcv, dataset_chaos, dataset_files, dataset_isic
from FoBSAMLib.evaluation.dataset_descriptions import (
    CHAOS,
    DATASETS,
    ISIC,
    LESION,
    SABS,
    TOTALSEG,
    DatasetDescription,
    Fold,
    Kind,
)
from FoBSAMLib.image.geometry import to_image
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.image.volume import Volume

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetDescription",
    "Fold",
    "Subject",
    "find_dataset",
]

Files = Mapping[int, tuple[Path, Path]]


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    ``find`` gives the two files or folders of each subject in a folder, none where the layout
    is another one; ``read`` makes of them a volume [K, J, I] or [1, H, W, 3] and its label
    values [K, J, I]. ``wanted`` says in words what is looked for, ``raw`` whether reading
    preprocesses.
    """

    wanted: str
    find: Callable[[Path], Files]
    read: Callable[[Path, Path], tuple[Volume, np.ndarray]]
    raw: bool = False


def _preprocessed(description: DatasetDescription) -> Layout:
    return Layout(
        f"image_N.nii.gz beside label_N.nii.gz, in it or in {description.folders[0]}",
        partial(dataset_files.find_numbered, folders=description.folders),
        partial(dataset_files.read, known=tuple(description.organs.values())),
    )


#: Layouts of each data set, in the order they are looked for.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    CHAOS.name: (
        _preprocessed(CHAOS),
        Layout(dataset_chaos.WANTED, dataset_chaos.find, dataset_chaos.read, raw=True),
    ),
    SABS.name: (
        _preprocessed(SABS),
        Layout(dataset_btcv.WANTED, dataset_btcv.find, dataset_btcv.read, raw=True),
    ),
    ISIC.name: (Layout(dataset_isic.WANTED, dataset_isic.find, dataset_isic.read),),
    TOTALSEG.name: (
        Layout(
            "example_ct.nii.gz or example_mr_sm.nii.gz",
            partial(dataset_files.find_samples, folders=TOTALSEG.folders),
            dataset_files.read,
        ),
    ),
}


@dataclass(frozen=True)
class Subject:
    """One labelled image; ``masks`` maps each organ it holds to a bool [K, J, I] mask."""

    id: int
    volume: Volume
    masks: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Dataset:
    """A data set found on disk.

    ``files`` maps subject ids to an image and its labels, files or folders as the ``layout``
    has them. Of photographs, ``classes`` maps them to their class, and ``fold_subjects`` are
    their folds. ``notes`` say what a reader of figures from it should know.
    """

    description: DatasetDescription
    files: Files
    layout: Layout
    classes: Mapping[int, str] = field(default_factory=dict)
    fold_subjects: tuple[tuple[int, ...], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def kind(self) -> Kind:
        return self.description.kind

    @property
    def subjects(self) -> tuple[int, ...]:
        """Ids of the subjects on disk, ascending."""
        return tuple(sorted(self.files))

    @property
    def organs(self) -> tuple[str, ...]:
        """Organs that can be chosen: all that are labelled, or classes that are there."""
        names = tuple(self.description.organs)
        if self.kind == "volume":
            return names
        there = set(self.classes.values())
        return tuple(name for name in names if name in there)

    @property
    def support(self) -> int:
        """The subject whose annotated slices serve the check subjects across volumes.

        Raises `FoBSAMError` (bad_request) where the set has none, or it is not on disk.
        """
        support = self.description.support
        if support is None:
            raise FoBSAMError(
                "bad_request",
                f"{self.name} has no subject to be annotated for the others.",
                "Use a protocol that annotates the subject itself.",
            )
        self._check_there([support])
        return support

    def split(self, subject: int) -> Literal["train", "check"] | None:
        """Whether a subject is one to develop with, or one to check on; None for neither."""
        if subject in self.description.train:
            return "train"
        return "check" if subject in self.description.check else None

    def folds(self) -> tuple[Fold, ...]:
        """The folds of the published protocol, in their order.

        Raises `FoBSAMError` (bad_request) unless all of the public set is on disk: of a part
        of it, other subjects would be supports.
        """
        if self.kind == "photograph":
            folds = tuple(
                Fold(str(number), None, subjects)
                for number, subjects in enumerate(self.fold_subjects, 1)
            )
        else:
            folds = self.description.folds()
        if not any(fold.queries for fold in folds):
            raise FoBSAMError(
                "bad_request",
                f"{self.name} has no published folds"
                + (" without classes." if self.kind == "photograph" else "."),
                f"Add {dataset_isic.FOLDS_FILE} or a CSV file with classes to the folder."
                if self.kind == "photograph"
                else "Use another protocol.",
            )
        needed = {*self.description.ids, *(n for fold in folds for n in fold.subjects)}
        missing = sorted(needed - self.files.keys())
        if missing:
            hint = f"Add subject {_listed(missing)}"
            if self.description.check:
                hint += f", or use the check subjects ({_listed(self.description.check)})"
            raise FoBSAMError(
                "bad_request",
                f"The folds of {self.name} are of its {len(needed)} public subjects; here are "
                f"{len(needed) - len(missing)} of them.",
                f"{hint}.",
            )
        return folds

    def check_fold(self) -> Fold:
        """The check subjects with the support of the development data, in place of a fold.

        Raises `FoBSAMError` (bad_request) where one of them is not on disk or none is meant.
        """
        fold = Fold("check", self.support, self.description.check)
        self._check_there(fold.subjects)
        return fold

    def choose(self, subjects: Iterable[int] | None = None) -> tuple[int, ...]:
        """Ids to evaluate, ascending: those asked for, or every check subject.

        Of a set without check subjects, every subject. Raises `FoBSAMError` (bad_request) for a
        subject that is not on disk, and for a choice that mixes training and check subjects,
        whose mean would say nothing.
        """
        description = self.description
        default = description.check or self.subjects
        wanted = tuple(sorted(set(default if subjects is None else subjects)))
        if not wanted:
            raise FoBSAMError("bad_request", "No subject was chosen.", "Leave the choice out.")
        self._check_there(wanted)
        trained_on = [subject for subject in wanted if self.split(subject) == "train"]
        if trained_on and any(self.split(subject) == "check" for subject in wanted):
            raise FoBSAMError(
                "bad_request",
                f"{description.name} subjects {_listed(trained_on)} are training subjects and "
                "cannot be averaged with check subjects.",
                f"Check subjects are {_listed(description.check)}.",
            )
        return wanted

    def choose_organs(self, organs: Iterable[str] | None = None) -> tuple[str, ...]:
        """Organ names to evaluate, in the table's order; those of the table if none is given.

        Where no photograph has a known class, that is "lesion". Raises `FoBSAMError`
        (bad_request) for a name that is not among `organs`.
        """
        known = self.organs
        if organs is None:
            in_table = [name for name in known if name in self.description.table_organs]
            return tuple(in_table) or known
        wanted = set(organs)
        unknown = sorted(wanted - set(known))
        if unknown:
            hint = f"There are {', '.join(known)}."
            if self.kind == "photograph" and LESION in known:
                hint += f" Classes come from a CSV file or {dataset_isic.FOLDS_FILE} in the folder."
            raise FoBSAMError(
                "bad_request", f"{self.name} has no organ {', '.join(unknown)}.", hint
            )
        return tuple(organ for organ in known if organ in wanted)

    def read(self, subject: int) -> Subject:
        """A subject's image and its organ masks; organs without a voxel are left out.

        Raises `FoBSAMError` where files are damaged or do not belong together.
        """
        self._check_there([subject])
        volume, labels = self.layout.read(*self.files[subject])
        organs = dict(self.description.organs)
        if self.kind == "photograph":
            organs = {name: organs[name] for name in [self.classes[subject]]}
        masks = {organ: labels == label for organ, label in organs.items()}
        return Subject(
            subject, volume, {organ: mask for organ, mask in masks.items() if mask.any()}
        )

    def as_files(self, subject: int, cache: Path) -> tuple[Path, Path]:
        """A subject's image and labels as files that `read_volume` and `read_segmentation` read.

        What is preprocessed lies there already; of a raw download it is kept in ``cache``, and
        made anew where the download is newer. Raises `FoBSAMError` for files that cannot be
        read, and for a cache that cannot be written.
        """
        self._check_there([subject])
        if not self.layout.raw:
            return self.files[subject]
        folder = cache / self.description.folders[0]
        kept = folder / f"image_{subject}.nii.gz", folder / f"label_{subject}.nii.gz"
        newest = max(map(_changed, self.files[subject]))
        with contextlib.suppress(FileNotFoundError):
            if min(path.stat().st_mtime_ns for path in kept) > newest:
                return kept
        volume, labels = self.layout.read(*self.files[subject])
        with contextlib.suppress(OSError):  # atomic_path says what is wrong with the folder
            folder.mkdir(parents=True, exist_ok=True)
        for path, array in zip(kept, (volume.array, labels), strict=True):
            with atomic_path(path) as partly:
                sitk.WriteImage(to_image(array, volume.ijk_to_ras), str(partly), True)
        return kept

    def _check_there(self, subjects: Iterable[int]) -> None:
        missing = [subject for subject in subjects if subject not in self.files]
        if missing:
            raise FoBSAMError(
                "bad_request",
                f"{self.name} has no subject {_listed(missing)} here.",
                f"There are {_listed(self.subjects)}.",
            )


def find_dataset(name: str, folder: str | Path) -> Dataset:
    """Find a data set in a folder, preprocessed or as it was downloaded.

    ``folder`` holds the files, or the folders that hold them. Raises `FoBSAMError`:
    bad_request for an unknown name, unreadable where files are missing.
    """
    if name not in DATASETS:
        *others, last = DATASETS
        raise FoBSAMError(
            "bad_request",
            f"There is no data set '{name}'.",
            f"Use {', '.join(others)} or {last}.",
        )
    description = DATASETS[name]
    folder = Path(folder)
    if not folder.is_dir():
        raise FoBSAMError(
            "unreadable", f"{folder} is not a folder.", f"Give the folder of {name}'s images."
        )
    for other in DATASETS.values():
        if other.name != name and folder.resolve().name in other.folders:
            raise FoBSAMError(
                "bad_request",
                f"{folder} is the folder of {other.name}, not of {name}.",
                f"Give {name}'s, or the one that holds both.",
            )
    for layout in LAYOUTS[name]:
        files = layout.find(folder)
        if files and description.kind == "photograph":
            return _photographs(description, files, layout, folder)
        if files:
            return Dataset(description, files, layout)
    wanted = "; or ".join(layout.wanted for layout in LAYOUTS[name])
    raise FoBSAMError(
        "unreadable",
        f"{folder} holds no images of {name}.",
        f"Give the folder that holds {wanted}.",
    )


def _photographs(
    description: DatasetDescription, files: Files, layout: Layout, folder: Path
) -> Dataset:
    classes = dataset_isic.classes(folder, files)
    folds = [
        tuple(sorted(number for name in fold for number in fold[name]))
        for fold in dataset_isic.published_folds(folder)
    ]
    notes = []
    if not folds:
        folds = dataset_isic.even_folds(classes)
        notes.append(
            f"Without {dataset_isic.FOLDS_FILE} a fold is every fifth photograph of a class, "
            "not the published one."
        )
    unknown = sum(name == LESION for name in classes.values())
    if unknown:
        notes.append(f"{unknown} of {len(files)} photographs are of no known class.")
    return Dataset(description, files, layout, classes, tuple(folds), tuple(notes))


def _changed(path: Path) -> int:
    """When a file, or a folder or a file in it, was changed last, in ns."""
    inside = path.iterdir() if path.is_dir() else ()
    return max(one.stat().st_mtime_ns for one in (path, *inside))


def _listed(numbers: Iterable[int]) -> str:
    """Numbers with commas between; of a long list the first ones."""
    numbers = list(numbers)
    shown = ", ".join(map(str, numbers[:40]))
    return shown + (f" and {len(numbers) - 40} more" if len(numbers) > 40 else "")
