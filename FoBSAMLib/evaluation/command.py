"""`fobsam evaluate`: a data folder in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import SimpleITK as sitk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.cases import Case, batches, find_cases, lacking_notes
from FoBSAMLib.evaluation.cost import measure_cost
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.evaluation.document import (
    Document,
    case_of,
    check_replaceable,
    describe,
    plain,
    take_over,
    text,
    threads,
)
from FoBSAMLib.evaluation.protocols import fob, interactive, whole
from FoBSAMLib.evaluation.scoring import Scored
from FoBSAMLib.evaluation.settings import (
    HOLDING_PROTOCOLS,
    METHODS,
    PROTOCOLS,
    TOOL,
    ProtocolName,
    Settings,
)
from FoBSAMLib.evaluation.skin import skin
from FoBSAMLib.evaluation.table import listed
from FoBSAMLib.evaluation.tables import markdown
from FoBSAMLib.evaluation.tool import Tools, resolve
from FoBSAMLib.evaluation.weights import describe_models
from FoBSAMLib.image.io import atomic_path

if TYPE_CHECKING:
    from FoBSAMLib.evaluation.pictures import Picture


def run(
    dataset: str,
    folder: str | Path,
    protocol: ProtocolName = "interactive",
    *,
    setting: Literal["I", "II"] | None = None,
    train_on: Iterable[str] | None = None,
    subjects: Iterable[int] | None = None,
    folds: Iterable[str] | None = None,
    organs: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    slices_annotated: int | None = None,
    suggestions: Iterable[str] | None = None,
    generators: Iterable[str] = ("fob-lite",),
    segmenters: Iterable[str] = ("compact",),
    ablation: bool = False,
    allow_trained: bool = False,
    device: str = "auto",
    jobs: int = 1,
    json_file: str | Path | None = None,
    markdown_file: str | Path | None = None,
    html_file: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, int | None], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Document:
    """Evaluate a data set and return the document that ``json_file`` holds.

    Whom: ``subjects``, or published ``folds`` by name; see `find_cases` for neither. ``organs``
    are by default those of the published table, ``methods`` all. ``slices_annotated`` (by default
    1) and ``suggestions`` (the tool's) are for `interactive` alone. ``setting`` and ``train_on``
    (data sets) say how the weights should have been trained; weights that were trained otherwise,
    or (unless ``allow_trained``) on a subject asked about, are refused. ``jobs`` processes share
    the processor's cores. JSON and Markdown are written anew whenever a case is done, the page at
    the end (without pictures where an error or Ctrl-C is the end); with ``resume``, cases that
    ``json_file`` already holds for the same question are not evaluated again. ``progress`` is
    called with cases done, cases in all, and the subject just done (None at the start); ``tell``,
    with one job, with the result just found in a subject, as in "subject 19, liver by copy done".
    Raises `FoBSAMError` for an unknown name, for missing data, for weights that do not fit and for
    files that cannot be written; all before the work begins.
    """
    further = slices_annotated is not None or suggestions is not None
    _check(protocol, jobs, ablation, further)
    found = find_dataset(dataset, folder)
    settings = Settings(
        organs=found.choose_organs(organs),
        methods=METHODS if methods is None else tuple(dict.fromkeys(methods)),
        slices_annotated=1 if slices_annotated is None else slices_annotated,
        suggestions=("tool",) if suggestions is None else tuple(dict.fromkeys(suggestions)),
        generators=tuple(dict.fromkeys(generators)),
        segmenters=tuple(dict.fromkeys(segmenters)),
        device=device,
        setting=setting,
        train_on=None if train_on is None else tuple(sorted(set(train_on))),
        ablation=ablation,
    )
    cases = find_cases(found, protocol, settings, subjects, folds)
    models = describe_models(found.name, settings, cases, allow_trained=allow_trained)
    document = describe(found, protocol, settings, cases, models, jobs)
    if resume and json_file is None:
        raise FoBSAMError(
            "bad_request", "There is nothing to resume from.", "Name the --json file begun before."
        )
    if json_file and Path(json_file).exists():
        if not resume:
            check_replaceable(Path(json_file))
        else:
            take_over(document, Path(json_file), cases)
    done = {case_of(record) for record in document["records"]}
    document["cases"]["done"] = len(done)
    document["notes"] += lacking_notes(found, cases, settings.organs)
    outputs = Outputs(json_file, markdown_file, html_file)
    outputs.write(document)
    outputs.write_page(document, [])
    todo = [case for case in cases if case not in done]
    try:
        _keep_records(
            _evaluate(found, protocol, settings, todo, jobs, tell),
            cases,
            document,
            outputs,
            progress,
        )
        if not document["records"]:
            raise FoBSAMError(
                "bad_request",
                f"None of the subjects {listed(document['subjects'])} holds "
                f"{listed(settings.organs)}.",
                "Choose others.",
            )
        if TOOL in settings.methods and protocol == "interactive" and "cost" not in document:
            _measure_cost(document, found, settings)
            outputs.write(document)
        pictures = outputs.pictures(found, protocol, settings, document)
    except BaseException:  # Ctrl-C, too: what is done so far is worth reading
        outputs.write_page(document, [])
        raise
    outputs.write_page(document, pictures)
    return document


def _check(protocol: str, jobs: int, ablation: bool, further: bool) -> None:
    """Raise `FoBSAMError` (bad_request) for what goes together on no data set."""
    if protocol not in PROTOCOLS:
        raise FoBSAMError(
            "bad_request",
            f"There is no protocol '{protocol}'.",
            f"Use {', '.join(PROTOCOLS)}.",
        )
    if jobs < 1:
        raise FoBSAMError("bad_request", "At least one job is needed.", "Leave --jobs out.")
    if further and protocol != "interactive":
        raise FoBSAMError(
            "bad_request",
            f"The protocol '{protocol}' annotates no further slices of a volume itself.",
            "Leave --annotated and --suggestion out, or use --protocol interactive.",
        )
    if ablation and protocol not in HOLDING_PROTOCOLS:
        raise FoBSAMError(
            "bad_request",
            f"The ablation is of the published protocols, not of '{protocol}'.",
            f"Use --protocol {' or '.join(HOLDING_PROTOCOLS)}.",
        )


@dataclass(frozen=True)
class Outputs:
    """The files to write, those that are wanted."""

    json: str | Path | None
    markdown: str | Path | None
    html: str | Path | None

    def write(self, document: Document) -> None:
        """Write what is cheap to write."""
        if self.json:
            with atomic_path(self.json) as path:
                path.write_text(text(document), encoding="utf-8")
        if self.markdown:
            with atomic_path(self.markdown) as path:
                path.write_text(markdown(document), encoding="utf-8")

    def write_page(self, document: Document, pictures: Sequence[Picture]) -> None:
        """Write the page with the worst slices."""
        if self.html:
            from FoBSAMLib.evaluation.report import write_html

            write_html(document, self.html, pictures)

    def pictures(
        self, dataset: Dataset, protocol: ProtocolName, settings: Settings, document: Document
    ) -> list[Picture]:
        """The worst slices, where there is a page for them."""
        if not self.html:
            return []
        from FoBSAMLib.evaluation.report import WORST
        from FoBSAMLib.evaluation.worst import pictures

        _prepare_process(threads(1))
        ask = partial(_ask, protocol)
        return pictures(dataset, settings, document["records"], WORST, ask)


def _keep_records(
    evaluated: Iterable[tuple[list[Case], list[dict[str, Any]]]],
    cases: Sequence[Case],
    document: Document,
    outputs: Outputs,
    progress: Callable[[int, int, int | None], None] | None,
) -> None:
    """Add records to the document as they come, in the cases' order, and write it each time."""
    order = {case: place for place, case in enumerate(cases)}
    finished = document["cases"]
    if progress:
        progress(finished["done"], finished["all"], None)
    for batch, records in evaluated:
        document["records"] = sorted(
            document["records"] + records, key=lambda record: order[case_of(record)]
        )
        finished["done"] += len(batch)
        outputs.write(document)
        if progress:
            progress(finished["done"], finished["all"], batch[-1].query)


def _measure_cost(document: Document, dataset: Dataset, settings: Settings) -> None:
    """Of the first organ that was found, by the first generator and segmenter."""
    first = next((one for one in document["records"] if one["method"] == TOOL), None)
    if first is not None:
        subject, organ = first["subject"], first["organ"]
        generator, segmenter = settings.pairs[0]
        generator = resolve(generator, first["fold"], organ)
        cost = measure_cost(dataset, subject, organ, generator, segmenter, settings.device)
        document["cost"] = plain(cost)


def _evaluate(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    cases: Sequence[Case],
    jobs: int,
    tell: Callable[[str], None] | None,
) -> Iterator[tuple[list[Case], list[dict[str, Any]]]]:
    """Cases that were worked on together with their records, as they come."""
    todo = batches(cases, protocol)
    if jobs == 1:
        _prepare_process(threads(jobs))
        for batch in todo:
            yield batch, _evaluate_batch(dataset, protocol, settings, batch, tell)
        return
    # Spawned: a forked process would inherit thread pools that no longer work.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), _prepare_process, (threads(jobs),)
    ) as pool:
        waiting = {
            pool.submit(_evaluate_batch, dataset, protocol, settings, batch): batch
            for batch in todo
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


def _evaluate_batch(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    batch: Sequence[Case],
    tell: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    tools = Tools(settings)
    records = []
    for case in batch:
        for record, _ in _ask(protocol, dataset, settings, case, tools):
            records.append(plain(record))
            if tell:
                tell(f"subject {record.subject}, {record.organ} by {record.method} done")
        tools.forget()
    return records


def _ask(
    protocol: ProtocolName, dataset: Dataset, settings: Settings, case: Case, tools: Tools
) -> Iterator[Scored]:
    query = dataset.read(case.query)
    if case.support is None:
        return interactive(query, settings, tools, case.fold)
    across = {"fob": fob, "whole": whole, "skin": skin}[protocol]
    return across(query, dataset.read(case.support), settings, tools, case.fold)


def _prepare_process(threads: int) -> None:
    """This process's share of the cores; SimpleITK's warnings are not for the user."""
    import torch

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    sitk.ProcessObject.GlobalWarningDisplayOff()
