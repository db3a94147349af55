"""The document of an evaluation: what was asked, by what, on what, and every record."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import FoBSAMLib
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.cost import Cost
from FoBSAMLib.evaluation.datasets import Dataset
from FoBSAMLib.evaluation.settings import ProtocolName, Record, Settings, labels
from FoBSAMLib.evaluation.weights import CHOICES_FROM, RULES_FROM, trained_on
from FoBSAMLib.version import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "SimpleITK", "surface-distance")
#: Parts of the package that figures come from.
CODE = ("evaluation", "generator", "image", "models", "segmenters", "session")
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

    ``question`` is what was asked, ``subjects`` of whom; ``cases`` says how many of all are done
    (one that lacks every organ has no record); ``models`` is as
    `weights.describe_models` gives it, and ``trained_on`` its summary; ``rules_from`` and
    ``choices_from`` are subjects whose labels had another part; ``notes`` say what a reader
    should know of the data.
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
        "cases": {"done": 0, "all": len(cases)},
        "command": shlex.join(["fobsam", *_without_folders(sys.argv[1:])]),
        "versions": {
            "fobsam": __version__,
            "code": code_digest(),
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
        "rules_from": RULES_FROM,
        "choices_from": CHOICES_FROM,
        "notes": list(dataset.notes),
        "records": [],
    }


def take_over(document: Document, file: Path, cases: Iterable[Case]) -> None:
    """Records of an earlier run that asked the same of the same weights and the same code.

    Raises `FoBSAMError`: unreadable for another file, bad_request for another question, other
    weights or another version.
    """
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        same = earlier["question"] == document["question"]
        same = same and _weights(earlier) == _weights(document)
        made_by, now = (_version(one) for one in (earlier, document))
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
    if made_by != now:
        raise FoBSAMError(
            "bad_request",
            f"{file} was made by another version of FoBSAM ({made_by}; this is {now}): its "
            "figures do not go together with new ones.",
            "Start without --resume, or go on with that version.",
        )
    wanted = set(cases)
    document["records"] = [record for record in records if case_of(record) in wanted]
    if "cost" in earlier:
        document["cost"] = earlier["cost"]


def _weights(document: Document) -> dict[str, dict[str, list[str]]]:
    """SHA-256 of the files of each model, whoever was asked about."""
    models = document["models"]
    return {
        "generators": {
            name: [one["sha256"] for one in several]
            for name, several in models["generators"].items()
        },
        "segmenters": {name: [one["sha256"]] for name, one in models["segmenters"].items()},
    }


def _version(document: Document) -> str:
    versions = document["versions"]
    return f"{versions['fobsam']}, code {versions.get('code', 'unknown')}"


@cache
def code_digest() -> str:
    """Tells apart states of the code that have a part in figures: the start of a SHA-256."""
    digest = hashlib.sha256()
    for part in CODE:
        for path in sorted((Path(FoBSAMLib.__file__).parent / part).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


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
    """Of each process, where several share the processor: as many as ``OMP_NUM_THREADS`` says
    where it is set, as torch has it by itself."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # one a level, of OpenMP
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
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


def check_replaceable(file: Path) -> None:
    """Raise `FoBSAMError` (bad_request) where a file holds results that would be lost."""
    try:
        held = {record["subject"] for record in json.loads(file.read_text())["records"]}
    except (OSError, ValueError, KeyError, TypeError):
        return  # no results of an evaluation
    if held:
        raise FoBSAMError(
            "bad_request",
            f"{file} holds the results of {len(held)} subjects.",
            "Go on there with --resume, remove it, or name another file.",
        )
