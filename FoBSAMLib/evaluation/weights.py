"""What the evaluated weights were trained on, and whether that fits what is asked of them.

`fobsam train` writes it into the weights file. Of other weights (those released with the paper)
nothing is known: they are evaluated, and the document says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pooch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.settings import Settings, labels
from FoBSAMLib.evaluation.tool import resolve
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.models.checkpoints import training_record
from FoBSAMLib.models.paths import resource

#: What the document repeats of a training record.
KEPT = ("trained_on", "labels", "leave_out", "steps")


def describe_models(
    dataset: str, settings: Settings, cases: Sequence[Case], *, allow_trained: bool
) -> dict[str, Any]:
    """Every model that the cases take, by its label, with what is known of its weights.

    ``generators`` maps labels to the weights files (one, or one a fold or group): ``name``,
    ``sha256`` and, from the training record, ``trained_on``, ``labels``, ``leave_out`` and
    ``steps`` (null where unknown). ``segmenters`` maps labels to ``sha256`` ("" where the name
    says which weights).

    Raises `FoBSAMError`: bad_request for weights that were trained on a subject asked about
    (unless ``allow_trained``) or do not fit the settings; else as the registry.
    """
    described = {}
    for asked in settings.generators:
        uses: dict[str, tuple[set[int], set[str]]] = {}
        for case, organ in product(cases, settings.organs):
            queries, organs = uses.setdefault(resolve(asked, case.fold, organ), (set(), set()))
            queries.add(case.query)
            organs.add(organ)
        described[labels(settings.generators)[asked]] = [
            _describe(dataset, settings, name, queries, organs, allow_trained)
            for name, (queries, organs) in uses.items()
        ]
    segmenters = {
        label: {"sha256": pooch.file_hash(file) if (file := name.partition(":")[2]) else ""}
        for name, label in labels(settings.segmenters).items()
    }
    return {"generators": described, "segmenters": segmenters}


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
    queries: set[int],
    organs: set[str],
    allow_trained: bool,
) -> dict[str, Any]:
    kind, _, file = name.partition(":")
    if kind not in generators.NAMES or not (file or kind in generators.SHIPPED):
        generators.create(name)  # says what is wrong
    path = Path(file).expanduser() if file else resource(generators.SHIPPED[kind])
    if not path.is_file():
        generators.create(name)
    record = training_record(path)
    if record is not None:
        if not allow_trained:
            _check_subjects(name, record, dataset, queries)
        _check_origin(name, record, settings, organs)
    known = {key: record.get(key) if record else None for key in KEPT}
    shown = f"{kind}:{path.name}" if file else kind
    return {"name": shown, "sha256": pooch.file_hash(str(path)), **known}


def _check_subjects(name: str, record: dict[str, Any], dataset: str, queries: set[int]) -> None:
    seen = sorted(queries & set(record["trained_on"].get(dataset, ())))
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
            f"The weights of {name} were trained on {_listed(sources)}, not on "
            f"{_listed(settings.train_on)}.",
            "Give other weights (--generator), or another --train-on.",
        )
    labelled = _organs(record, "labels", sources) & organs
    if settings.setting and labelled:
        raise FoBSAMError(
            "bad_request",
            f"The weights of {name} were trained with labels of {_listed(sorted(labelled))}: "
            f"Setting {settings.setting} knows none.",
            "Give other weights (--generator), or leave --setting out.",
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


def _organs(record: dict[str, Any], key: str, sources: Iterable[str]) -> set[str]:
    by_dataset = record.get(key) or {}
    return {organ for source in sources for organ in by_dataset.get(source, ())}


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names))
