"""`fobsam evaluate`: a data folder in, a table out."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cost import Cost, measure_cost
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.evaluation.protocols import METHODS, TOOL, Record, Settings, interactive, whole
from FoBSAMLib.evaluation.tables import markdown
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.version import __version__

ProtocolName = Literal["interactive", "whole"]
PROTOCOLS: tuple[ProtocolName, ...] = ("interactive", "whole")
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "SimpleITK", "surface-distance")
OUTPUT_OPTIONS = ("--json", "--markdown")

#: Everything a run found out, ready for JSON: see `run`.
Document = dict[str, Any]


def run(
    dataset: str,
    folder: str | Path,
    protocol: ProtocolName = "interactive",
    *,
    subjects: Iterable[int] | None = None,
    organs: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    slices_annotated: int = 1,
    generator: str = "fob-lite",
    segmenter: str = "compact",
    device: str = "auto",
    jobs: int = 1,
    json_file: str | Path | None = None,
    markdown_file: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, int | None], None] | None = None,
) -> Document:
    """Evaluate a data set and return the document that ``json_file`` holds.

    ``subjects`` are by default the data set's check subjects, ``organs`` and ``methods`` all.
    ``jobs`` processes share the processor's cores. The files are written anew after every
    subject; with ``resume``, subjects that ``json_file`` already holds for the same question
    are not evaluated again. ``progress`` is called with subjects done, subjects in all, and the
    subject just done (None at the start).
    Raises `FoBSAMError` for an unknown name, for missing data and for files that cannot be
    written; the latter before the work begins.
    """
    found = find_dataset(dataset, folder)
    if protocol not in PROTOCOLS:
        raise FoBSAMError(
            "bad_request",
            f"There is no protocol '{protocol}'.",
            f"Use {' or '.join(PROTOCOLS)}.",
        )
    if jobs < 1:
        raise FoBSAMError("bad_request", "At least one job is needed.", "Leave --jobs out.")
    chosen = found.choose(subjects)
    support = found.description.support
    if protocol == "whole" and support in chosen:
        raise FoBSAMError(
            "bad_request",
            f"Subject {support} is the annotated one of the protocol 'whole' and cannot be "
            "evaluated on itself.",
            "Choose other subjects, or the protocol 'interactive'.",
        )
    settings = Settings(
        organs=found.choose_organs(organs),
        methods=METHODS if methods is None else tuple(dict.fromkeys(methods)),
        slices_annotated=slices_annotated if protocol == "interactive" else 1,
        generator=generator,
        segmenter=segmenter,
        device=device,
    )
    document = _describe(found, protocol, settings, chosen, jobs)
    if resume and json_file and Path(json_file).exists():
        _take_over(document, Path(json_file))
    done = {record["subject"] for record in document["records"]}
    todo = [subject for subject in chosen if subject not in done]
    _write(document, json_file, markdown_file)
    if progress:
        progress(len(chosen) - len(todo), len(chosen), None)
    results = _evaluate(found, protocol, settings, todo, jobs)
    for count, (subject, records) in enumerate(results, len(chosen) - len(todo) + 1):
        document["records"] = sorted(
            document["records"] + records, key=lambda record: record["subject"]
        )
        _write(document, json_file, markdown_file)
        if progress:
            progress(count, len(chosen), subject)
    if TOOL in settings.methods and "cost" not in document:
        cost = measure_cost(found, chosen[0], settings.organs[0], generator, segmenter, device)
        document["cost"] = _plain(cost)
        _write(document, json_file, markdown_file)
    return document


def _describe(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    subjects: Sequence[int],
    jobs: int,
) -> Document:
    return {
        "question": {
            "dataset": dataset.description.name,
            "protocol": protocol,
            **_plain(settings),
        },
        "subjects": list(subjects),
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
            "threads": _threads(jobs),
        },
        "records": [],
    }


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


def _take_over(document: Document, file: Path) -> None:
    """Records of an earlier run of the same question."""
    try:
        earlier = json.loads(file.read_text())
        same = earlier["question"] == document["question"]
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
    wanted = set(document["subjects"])
    document["records"] = [r for r in earlier["records"] if r["subject"] in wanted]
    if "cost" in earlier:
        document["cost"] = earlier["cost"]


def _write(
    document: Document, json_file: str | Path | None, markdown_file: str | Path | None
) -> None:
    if json_file:
        with atomic_path(json_file) as path:
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if markdown_file:
        with atomic_path(markdown_file) as path:
            path.write_text(markdown(document), encoding="utf-8")


def _evaluate(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    subjects: Sequence[int],
    jobs: int,
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Each subject with its records, as they come."""
    if jobs == 1:
        _prepare_process(_threads(jobs))
        for subject in subjects:
            yield subject, _evaluate_subject(dataset, protocol, settings, subject)
        return
    # Spawned: a forked process would inherit thread pools that no longer work.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), _prepare_process, (_threads(jobs),)
    ) as pool:
        waiting = {
            pool.submit(_evaluate_subject, dataset, protocol, settings, subject): subject
            for subject in subjects
        }
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise FoBSAMError(
                "out_of_memory",
                "A process ended without an answer, most likely for want of memory.",
                "Use --jobs 1; with --resume nothing is lost.",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _evaluate_subject(
    dataset: Dataset, protocol: ProtocolName, settings: Settings, subject: int
) -> list[dict[str, Any]]:
    case = dataset.read(subject)
    if protocol == "interactive":
        records = interactive(case, settings)
    else:
        records = whole(case, dataset.read(dataset.description.support), settings)
    return [_plain(record) for record in records]


def _plain(values: Settings | Record | Cost) -> dict[str, Any]:
    """As it will be read from JSON again, with lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(values)))
    return plain


def _prepare_process(threads: int) -> None:
    """This process's share of the cores; SimpleITK's warnings are not for the user."""
    import torch

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    sitk.ProcessObject.GlobalWarningDisplayOff()


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)
