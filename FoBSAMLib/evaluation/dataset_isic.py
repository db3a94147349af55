"""ISIC 2018 task 1, dermoscopy photographs: files, classes and folds.

``ISIC_NNNNNNN.jpg`` (ISIC2018_Task1-2_Training_Input) and ``ISIC_NNNNNNN_segmentation.png``
(ISIC2018_Task1_Training_GroundTruth), or ``ISIC_NNNNNNN_mask.png`` beside the photograph.
Task 1 comes without classes. They are taken from any CSV file in the folder that has them: the
metadata of the ISIC archive (``diagnosis``, ``diagnosis_3``), the ground truth of ISIC 2017 part
3 (``melanoma`` and ``seborrheic_keratosis`` 0 or 1, nevus where both are 0), or a list of two
columns, image and class, as few-shot papers use it (``class_id.csv``).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.dataset_descriptions import LESION
from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.image.volume import Volume

WANTED = (
    "ISIC_NNNNNNN.jpg (ISIC2018_Task1-2_Training_Input) and ISIC_NNNNNNN_segmentation.png "
    "(ISIC2018_Task1_Training_GroundTruth)"
)

#: The folds of the published Setting I, by class, as their authors give them out.
FOLDS_FILE = "isic_in_5_folds.json"
FOLDS = 5

CLASSES = ("melanoma", "nevus", "seborrheic keratosis")
_TRAINING_INPUT = "ISIC2018_Task1-2_Training_Input"
_ID_COLUMNS = ("image_id", "isic_id", "image", "id", "name")
_CLASS_COLUMNS = ("class", "diagnosis", "diagnosis_3", "meta.clinical.diagnosis")
_ONE_HOT = {"melanoma": CLASSES[0], "nevus": CLASSES[1], "seborrheic_keratosis": CLASSES[2]}


def find(folder: Path) -> dict[int, tuple[Path, Path]]:
    """Photograph and mask of each subject, by the number in the name; empty where there is none.

    Of the download only the training input is taken; validation and test have no classes.
    Raises FoBSAMError (unreadable) for a photograph without a mask.
    """
    photographs = dict(_numbered(folder, r"ISIC_(\d+)\.jpe?g"))
    training = {n: path for n, path in photographs.items() if _TRAINING_INPUT in path.parts}
    photographs = training or photographs
    masks = dict(_numbered(folder, r"ISIC_(\d+)_segmentation\.png"))
    found: dict[int, tuple[Path, Path]] = {}
    missing = []
    for number, path in sorted(photographs.items()):
        mask = masks.get(number) or path.with_name(f"{path.stem}_mask.png")
        if not mask.is_file():
            missing.append(path)
        found[number] = (path, mask)
    if missing:
        raise FoBSAMError(
            "unreadable",
            f"There is no mask of {missing[0]}"
            + (f" and {len(missing) - 1} more photographs." if len(missing) > 1 else "."),
            f"Add {missing[0].stem}_segmentation.png, or take the photograph away.",
        )
    return found


def read(photograph: Path, mask: Path) -> tuple[Volume, np.ndarray]:
    """A photograph, uint8 [1, H, W, 3], and its mask, uint8 [1, H, W] of 0 and 255."""
    volume = read_volume(photograph)
    lesion = read_segmentation(mask, like=volume).layers[0] > 0
    return volume, lesion.astype(np.uint8) * np.uint8(255)


def classes(folder: Path, subjects: Iterable[int]) -> dict[int, str]:
    """The class of each photograph, as the folder's files say; "lesion" where they do not.

    Raises FoBSAMError (unreadable) for files that cannot be read, and where two disagree.
    """
    known: dict[int, str] = {}
    for path in sorted(folder.rglob("*.csv")):
        for number, name in _classes_of(path):
            if known.setdefault(number, name) != name:
                raise FoBSAMError(
                    "unreadable",
                    f"{path} has ISIC_{number:07d} as {name}, another file as {known[number]}.",
                    "Leave one of the files in the folder.",
                )
    for fold in published_folds(folder):
        for name, numbers in fold.items():
            known.update(dict.fromkeys(numbers, name))
    return {subject: known.get(subject, LESION) for subject in subjects}


def published_folds(folder: Path) -> list[dict[str, tuple[int, ...]]]:
    """Photographs of each fold by class, from `FOLDS_FILE`; none where it is not there."""
    path = next(iter(sorted(folder.rglob(FOLDS_FILE))), None)
    if path is None:
        return []
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        return [
            {_class_of(name) or LESION: tuple(map(_number, ids)) for name, ids in fold.items()}
            for _, fold in sorted(folds.items(), key=lambda item: _number(item[0]))
        ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise FoBSAMError(
            "unreadable",
            f"{path} does not hold folds of photographs.",
            'It should map "fold_1" … to classes, and these to names of photographs.',
        ) from error


def even_folds(known: Mapping[int, str]) -> list[tuple[int, ...]]:
    """Folds where none are published: every fifth photograph of a class, in the order of ids."""
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    for name in CLASSES:
        for place, number in enumerate(sorted(n for n, one in known.items() if one == name)):
            folds[place % FOLDS].append(number)
    return [tuple(sorted(fold)) for fold in folds]


def _numbered(folder: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    """Files of a name by their number; the least deep last, so that it wins."""
    paths = sorted(folder.rglob("ISIC_*"), key=lambda path: (-len(path.parts), path))
    for path in paths:
        if match := re.fullmatch(pattern, path.name, re.IGNORECASE):
            yield int(match[1]), path


def _classes_of(path: Path) -> Iterator[tuple[int, str]]:
    """Photographs and classes of a CSV file; none of one that is about other things."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            rows = csv.DictReader(stream)
            columns = {name.strip().lower(): name for name in rows.fieldnames or ()}
            ids = next((columns[name] for name in _ID_COLUMNS if name in columns), None)
            if ids is None:
                return
            for row in rows:
                match = re.search(r"ISIC_(\d+)", row[ids] or "", re.IGNORECASE)
                name = _class_in(row, columns)
                if match and name:
                    yield int(match[1]), name
    except (OSError, csv.Error) as error:
        raise FoBSAMError(
            "unreadable", f"{path} cannot be read: {error}.", "Check the file, or take it away."
        ) from error


def _class_in(row: Mapping[str, str | None], columns: Mapping[str, str]) -> str | None:
    for column in _CLASS_COLUMNS:
        if column in columns and (name := _class_of(row[columns[column]] or "")):
            return name
    if not {"melanoma", "seborrheic_keratosis"} <= columns.keys():
        return None
    set_to_one = [
        name
        for column, name in _ONE_HOT.items()
        if column in columns and re.fullmatch(r"1(\.0*)?", (row[columns[column]] or "").strip())
    ]
    if not set_to_one and "nevus" not in columns:
        return "nevus"
    return set_to_one[0] if len(set_to_one) == 1 else None


def _class_of(diagnosis: str) -> str | None:
    """The class that a diagnosis belongs to, as "Melanoma, NOS" to melanoma."""
    words = diagnosis.lower().replace("_", " ").strip()
    return next((name for name in CLASSES if words.startswith(name)), None)


def _number(name: str) -> int:
    match = re.search(r"(\d+)$", name)
    if not match:
        raise ValueError(name)
    return int(match[1])
