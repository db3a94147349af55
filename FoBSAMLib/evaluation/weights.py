"""What the evaluated weights were trained on, and whether that fits what is asked of them.

`fobsam train` writes it into the weights file. Of other weights nothing is known: those released
with the paper are evaluated, and the document says so; others only when told to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pooch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.dataset_descriptions import DATASETS
from FoBSAMLib.evaluation.settings import Settings, labels
from FoBSAMLib.evaluation.tool import resolve
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.models.checkpoints import training_record
from FoBSAMLib.segmenters import registry as segmenters

#: What the document repeats of a training record.
KEPT = ("trained_on", "labels", "leave_out", "steps")
#: Subjects whose labels had a part in the rules of presence and confidence, and those on which one
#: way to work was chosen from two, as the model card of the shipped weights says
#: (Resources/weights/README.md). No shipped weights were trained on them.
RULES_FROM = {"chaos": [15], "sabs": [10, 11]}
CHOICES_FROM = {"chaos": [19], "sabs": [12, 14]}


@dataclass
class Use:
    """What one weights file is used for; ``unseen`` are the subjects it must not know."""

    queries: set[int] = field(default_factory=set)
    supports: set[int] = field(default_factory=set)
    unseen: set[int] = field(default_factory=set)
    folds: set[str | None] = field(default_factory=set)
    organs: set[str] = field(default_factory=set)

    def add(self, dataset: str, case: Case, organ: str) -> None:
        """One more case. A fold's support is as unknown to its weights as the queries are; the
        support of the development data is one of the subjects to train on."""
        self.queries.add(case.query)
        self.unseen.add(case.query)
        self.folds.add(case.fold)
        self.organs.add(organ)
        if case.support is not None:
            self.supports.add(case.support)
            if case.fold is not None or case.support not in DATASETS[dataset].train:
                self.unseen.add(case.support)

    def plain(self) -> dict[str, list[Any]]:
        """As the document holds it."""
        return {
            "queries": sorted(self.queries),
            "supports": sorted(self.supports),
            "folds": sorted(self.folds, key=str),
            "organs": sorted(self.organs),
        }


def describe_models(
    dataset: str, settings: Settings, cases: Sequence[Case], *, allow_trained: bool
) -> dict[str, Any]:
    """Every model that the cases take, by its label, with what is known of its weights.

    ``generators`` maps labels to the weights files (one, or one a fold or group): ``name``,
    ``sha256``, from the training record ``trained_on``, ``labels``, ``leave_out`` and ``steps``
    (null where unknown), and the cases it ``serves`` (queries, supports, folds, organs).
    ``segmenters`` maps labels to ``sha256`` ("" where the name says which weights).

    Raises `FoBSAMError`: bad_request for weights that were trained on a subject asked about or on
    the support of a fold, or that are fob-lite's and do not say (all unless ``allow_trained``);
    for those that do not fit the settings; else as the registries.
    """
    described = {}
    for asked in settings.generators:
        uses: dict[str, Use] = {}
        for case, organ in product(cases, settings.organs):
            use = uses.setdefault(resolve(asked, case.fold, organ), Use())
            use.add(dataset, case, organ)
        described[labels(settings.generators)[asked]] = [
            _describe(dataset, settings, name, use, allow_trained) for name, use in uses.items()
        ]
    segmenters_used = {
        label: {"sha256": _segmenter_sha256(name)}
        for name, label in labels(settings.segmenters).items()
    }
    return {"generators": described, "segmenters": segmenters_used}


def _segmenter_sha256(name: str) -> str:
    path = segmenters.weights_file(name)
    # Published weights are known by their name, and compared when they are read.
    return pooch.file_hash(str(path)) if path and ":" in name else ""


def trained_on(models: dict[str, Any]) -> dict[str, list[int]] | None:
    """Subjects by data set that any of the weights were trained on; None where one is unknown."""
    together: dict[str, set[int]] = {}
    for weights in (one for several in models["generators"].values() for one in several):
        if weights["trained_on"] is None:
            return None
        for dataset, subjects in weights["trained_on"].items():
            together.setdefault(dataset, set()).update(subjects)
    return {dataset: sorted(subjects) for dataset, subjects in together.items()}


def _describe(
    dataset: str,
    settings: Settings,
    name: str,
    use: Use,
    allow_trained: bool,
) -> dict[str, Any]:
    kind, _, file = name.partition(":")
    if kind not in generators.NAMES or not (file or kind in generators.SHIPPED):
        generators.create(name)  # says what is wrong
    path = generators.weights_file(name)
    if not path.is_file():
        generators.create(name)
    record = training_record(path)
    if record is None:
        _check_unknown(name, settings, allow_trained)
    else:
        if not allow_trained:
            _check_subjects(name, record, dataset, use.unseen)
        _check_origin(name, record, settings, use.organs)
    known = {key: record.get(key) if record else None for key in KEPT}
    shown = f"{kind}:{path.name}" if file and Path(file).name == path.name else name
    sha256 = pooch.file_hash(str(path))
    return {"name": shown, "sha256": sha256, **known, "serves": use.plain()}


def _check_unknown(name: str, settings: Settings, allow_trained: bool) -> None:
    """Weights of unknown origin fit no setting; the paper's own are evaluated without one."""
    if settings.setting or settings.train_on:
        option = "--setting" if settings.setting else "--train-on"
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} do not say what they were trained on: nobody can tell "
            f"whether {option} is true of them.",
            "Leave --setting and --train-on out, or give weights that fobsam train wrote.",
        )
    if name.partition(":")[0] in generators.SHIPPED and not allow_trained:
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} do not say what they were trained on: it may have been the "
            "subjects asked about.",
            "Give weights that fobsam train wrote, or --allow-trained.",
        )


def _check_subjects(name: str, record: dict[str, Any], dataset: str, unseen: set[int]) -> None:
    seen = sorted(unseen & set(record["trained_on"].get(dataset, ())))
    if seen:
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} were trained on {dataset} {_listed(seen)}: their figures "
            "would say nothing.",
            "Choose other subjects (--subject) or weights, or give --allow-trained.",
        )


def _check_origin(name: str, record: dict[str, Any], settings: Settings, organs: set[str]) -> None:
    """Whether weights were trained where and how the settings say."""
    sources = sorted(record["trained_on"])
    if settings.train_on is not None and sources != sorted(settings.train_on):
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} were trained on {_listed(sources)}; asked for are some of "
            f"{_listed(settings.train_on)} alone.",
            "Give other weights (--generator), or another --train-on.",
        )
    labelled = {organ for named in (record.get("labels") or {}).values() for organ in named}
    if settings.setting and labelled:
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} were trained with labels of {_listed(sorted(labelled))}: "
            f"in Setting {settings.setting} training knows no organ label.",
            "Give other weights (--generator fob-lite-self), or leave --setting out.",
        )
    shown = {
        organ
        for source in sources
        for organ in organs - set((record.get("leave_out") or {}).get(source, ()))
    }
    if settings.setting == "II" and shown:
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} may have been shown {_listed(sorted(shown))} in training: "
            "in Setting II every slice that holds an evaluated organ is left out.",
            "Give weights trained so (fobsam train), other organs (--organ), or --setting I.",
        )


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))
