"""What a training is shown: subjects, organs left out, labels; and how weights tell it later.

The published settings: of five folds four are trained on (the tested one's cases are left out,
those it shares with a neighbour too); in Setting II every slice that holds a test organ is left
out; across domains one data set is trained on and another tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset, Fold
from FoBSAMLib.training.episodes import TrainingVolume

Setting = Literal["I", "II"]


@dataclass(frozen=True)
class Choice:
    """What the user asks for beside the data sets.

    ``fold``: 1 to 5, the published fold that is kept for testing. ``test_organs`` are left out in
    Setting II. ``labels``: whether organ labels are used; None leaves it to the configuration.
    ``all_subjects``: those kept for checking as well.
    """

    fold: int | None = None
    setting: Setting = "I"
    test_organs: tuple[str, ...] = ()
    labels: bool | None = None
    all_subjects: bool = False

    def __post_init__(self) -> None:
        if self.setting == "II" and not self.test_organs:
            raise FoBSAMError(
                "bad_request",
                "Setting II leaves out every slice that holds a test organ, and none is named.",
                "Name it: --test-organ liver (may be repeated).",
            )
        if self.setting == "I" and self.test_organs:
            raise FoBSAMError(
                "bad_request",
                f"Setting I leaves no organ out, and {', '.join(self.test_organs)} is named.",
                "Give --setting II, or leave --test-organ out.",
            )


@dataclass(frozen=True)
class Scope:
    """What a training is shown: ``subjects`` and the organs in ``leave_out`` by data set; whether
    organ ``labels`` are used; ``notes`` for the user, where something is not as he may think."""

    subjects: dict[str, list[int]]
    leave_out: dict[str, list[str]]
    labels: bool
    notes: tuple[str, ...] = ()

    def labelled(self, datasets: Iterable[Dataset]) -> dict[str, list[str]]:
        """The organs whose labels are used, by data set; none without ``labels``."""
        if not self.labels:
            return {}
        return {
            dataset.name: [
                organ
                for organ in dataset.organs
                if organ not in self.leave_out.get(dataset.name, ())
            ]
            for dataset in datasets
        }


def choose(
    datasets: Sequence[Dataset],
    choice: Choice,
    configured: Mapping[str, list[int]] = MappingProxyType({}),
    leave_out: Mapping[str, list[str]] = MappingProxyType({}),
) -> Scope:
    """What to train on.

    Args:
        datasets: those to train on; others are not shown (cross-domain).
        choice: what was asked for.
        configured: ids by data set that a configuration names; ``choice.fold`` and
            ``choice.all_subjects`` count more.
        leave_out: organs by data set that a configuration names; left out with the test organs.

    Raises:
        FoBSAMError: bad_request for subjects that are missing or kept for checking, for an
            unknown fold, and for a test organ that a data set has no labels of.
    """
    subjects: dict[str, list[int]] = {}
    all_left_out: dict[str, list[str]] = {}
    notes: list[str] = []
    for dataset in datasets:
        chosen = _subjects(dataset, choice, configured.get(dataset.name), notes)
        left_out = _left_out(dataset, [*choice.test_organs, *leave_out.get(dataset.name, ())])
        if left_out:
            all_left_out[dataset.name] = left_out
        if dataset.kind == "photograph":
            chosen = [n for n in chosen if dataset.classes[n] not in left_out]
        if not chosen:
            raise FoBSAMError(
                "bad_request",
                f"No subject of {dataset.name} is left to train on.",
                "Add images of its training subjects, or choose others.",
            )
        subjects[dataset.name] = chosen
    return Scope(subjects, all_left_out, bool(choice.labels), tuple(notes))


def without(
    volume: TrainingVolume, dataset: Dataset, organs: Sequence[str], slices: int
) -> TrainingVolume | None:
    """A volume without the slices that hold one of the organs, be it in one voxel.

    Labels are judged slice by slice as they were drawn, before they are laid on the network's
    grid, where a small part may get lost. None where no ``slices`` neighbouring slices remain,
    so that nothing could be shown.
    """
    if dataset.kind == "photograph":  # left out as a whole, by its class
        return volume
    volume = volume.without([dataset.description.organs[organ] for organ in organs])
    padded = np.r_[0, volume.usable.astype(np.int8), 0]
    changes = np.flatnonzero(np.diff(padded))
    longest = max((changes[1::2] - changes[::2]), default=0)
    return volume if longest >= slices else None


def record(
    model: str, scope: Scope, datasets: Iterable[Dataset], steps: int, command: str
) -> dict[str, Any]:
    """What is written into a weights file; `checkpoints.training_record` reads it."""
    return {
        "model": model,
        "trained_on": scope.subjects,
        "labels": scope.labelled(datasets),
        "leave_out": scope.leave_out,
        "steps": steps,
        "command": command,
    }


def _subjects(
    dataset: Dataset, choice: Choice, configured: list[int] | None, notes: list[str]
) -> list[int]:
    if choice.fold is not None:
        return _outside_fold(dataset, choice, notes)
    if choice.all_subjects:
        return list(dataset.subjects)
    if configured is not None:
        return _checked(dataset, configured)
    meant = dataset.description.train
    if not meant and not dataset.description.check:  # a set without a split
        return list(dataset.subjects)
    return [n for n in meant if n in dataset.files]


def _outside_fold(dataset: Dataset, choice: Choice, notes: list[str]) -> list[int]:
    fold = _fold(dataset, choice.fold)
    public = dataset.description.ids or dataset.subjects
    chosen = [n for n in public if n not in fold.subjects]
    kept = [] if choice.all_subjects else [n for n in chosen if dataset.split(n) == "check"]
    missing = [n for n in chosen if n not in dataset.files]
    if missing:
        notes.append(
            f"{dataset.name}: {len(missing)} of the {len(chosen)} subjects that fold {fold.name} "
            f"is trained on are not here ({_listed(missing)})."
        )
    here = [n for n in kept if n not in missing]
    if here:
        notes.append(
            f"{dataset.name} {_listed(here)} are kept for checking and left out; the published "
            "folds train on them: --all-subjects."
        )
    return [n for n in chosen if n not in missing and n not in kept]


def _fold(dataset: Dataset, number: int | None) -> Fold:
    # Of volumes the description's: a part of the set can be trained on, if not be evaluated.
    folds = dataset.description.folds() if dataset.kind == "volume" else dataset.folds()
    fold = next((one for one in folds if one.name == str(number)), None)
    if fold is None:
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} has no fold {number}.",
            f"Its folds are 1 to {len(folds)}." if folds else "It has no published folds.",
        )
    return fold


def _checked(dataset: Dataset, configured: list[int]) -> list[int]:
    wrong = [n for n in configured if dataset.split(n) == "check"]
    if wrong:
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} subjects {_listed(wrong)} are not for training.",
            "They are kept for checking; take them out of the configuration.",
        )
    missing = [n for n in configured if n not in dataset.files]
    if missing:
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} has no subject {_listed(missing)} here.",
            "Add their images, or give a configuration with other subjects.",
        )
    return sorted(set(configured))


def _left_out(dataset: Dataset, organs: Sequence[str]) -> list[str]:
    unknown = [organ for organ in organs if organ not in dataset.organs]
    if unknown:
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} has no labels of {', '.join(unknown)}: which slices hold it cannot "
            "be told.",
            f"There are {', '.join(dataset.organs)}.",
        )
    return list(dict.fromkeys(organs))


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
