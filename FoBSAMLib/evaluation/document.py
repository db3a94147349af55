"""The document of an evaluation: what was asked, by what, on what, and every record."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.cost import Cost
from FoBSAMLib.evaluation.datasets import Dataset
from FoBSAMLib.evaluation.settings import ProtocolName, Record, Settings, labels
from FoBSAMLib.evaluation.weights import trained_on
from FoBSAMLib.version import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "SimpleITK", "surface-distance")
OUTPUT_OPTIONS = ("--json", "--markdown", "--html")

#: Everything a run found out, ready for JSON.
Document = dict[str, Any]


def describe(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    cases: Sequence[Case],
    models: dict[str, Any],
    jobs: int,
) -> Document:
    """A document without records.

    ``question`` is what was asked, ``subjects`` of whom; ``models`` is as
    `weights.describe_models` gives it, and ``trained_on`` its summary; ``notes`` say what a
    reader should know of the data.
    """
    question = {
        "dataset": dataset.name,
        "protocol": protocol,
        **plain(settings),
        "generators": list(labels(settings.generators).values()),
        "segmenters": list(labels(settings.segmenters).values()),
        "folds": sorted({case.fold for case in cases if case.fold is not None}) or None,
    }
    return {
        "question": question,
        "subjects": sorted({case.query for case in cases}),
        "command": shlex.join(["fobsam", *_without_folders(sys.argv[1:])]),
        "versions": {
            "fobsam": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "jobs": jobs,
            "threads": threads(jobs),
        },
        "models": models,
        "trained_on": trained_on(models),
        "notes": list(dataset.notes),
        "records": [],
    }


def take_over(document: Document, file: Path, cases: Iterable[Case]) -> None:
    """Records of an earlier run that asked the same of the same weights.

    Raises `FoBSAMError`: unreadable for another file, bad_request for another question.
    """
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        same = all(earlier[key] == document[key] for key in ("question", "models"))
        records = earlier["records"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FoBSAMError(
            "unreadable", f"{file} is not the result of an evaluation.", "Start without --resume."
        ) from error
    if not same:
        raise FoBSAMError(
            "bad_request",
            f"{file} answers another question (data set, protocol, organs, methods or models).",
            "Give another --json file, or start without --resume.",
        )
    wanted = set(cases)
    document["records"] = [record for record in records if case_of(record) in wanted]
    if "cost" in earlier:
        document["cost"] = earlier["cost"]


def case_of(record: dict[str, Any]) -> Case:
    """The case that a record answers."""
    return Case(record["subject"], record["support"], record["fold"])


def text(document: Document) -> str:
    """The document as JSON, a record a line."""
    head = json.dumps({**document, "records": []}, indent=1)
    lines = ",\n  ".join(json.dumps(record) for record in document["records"])
    before, after = head.rsplit('"records": []', 1)
    return f'{before}"records": [\n  {lines}\n ]{after}\n' if lines else f"{head}\n"


def plain(values: Settings | Record | Cost) -> dict[str, Any]:
    """A dataclass as it will be read from JSON again, with lists for tuples."""
    copy: dict[str, Any] = json.loads(json.dumps(asdict(values)))
    return copy


def threads(jobs: int) -> int:
    """Of each process, where several share the processor."""
    return max(1, (os.cpu_count() or 1) // jobs)


def _without_folders(arguments: Iterable[str]) -> list[str]:
    """Arguments for others to see: where on this machine the output files lie is left out."""
    shown: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if equals and option in OUTPUT_OPTIONS:
            shown.append(f"{option}={_name_if_absolute(value)}")
        elif shown and shown[-1] in OUTPUT_OPTIONS:
            shown.append(_name_if_absolute(argument))
        else:
            shown.append(argument)
    return shown


def _name_if_absolute(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path
