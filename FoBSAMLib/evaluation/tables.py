"""The document of an evaluation as tables: figures, differences, what was published.

`build` makes them for `markdown` and for the page of `report`.
"""

from __future__ import annotations

from typing import Any

from FoBSAMLib.evaluation.origins import training
from FoBSAMLib.evaluation.records import (
    Document,
    after,
    counts,
    is_interactive,
    is_published_protocol,
    main_records,
)
from FoBSAMLib.evaluation.table import Table, listed
from FoBSAMLib.evaluation.tables_dice import differences, folds, main, volumes
from FoBSAMLib.evaluation.tables_study import ablation, confidence, effort, prompts, suggestion
from FoBSAMLib.session.warning import UNSURE_VOLUME


def markdown(document: Document) -> str:
    """The whole document: what was asked, its tables, and how it was run."""
    parts = [f"# {title(document)}\n", *(f"{paragraph}\n" for paragraph in about(document))]
    parts.append(f"`{document['command']}`\n")
    parts += [table.markdown() for table in build(document)]
    return "\n".join(parts)


def title(document: Document) -> str:
    """Data set, protocol and setting."""
    question = document["question"]
    text = f"{question['dataset']}, protocol {question['protocol']}"
    if is_published_protocol(document) and question.get("setting"):
        text += f", Setting {question['setting']}"
    if question.get("train_on"):
        text += f", trained on {listed(question['train_on'])}"
    return text


def about(document: Document) -> list[str]:
    """Paragraphs: what was run on what, what was trained on, how to read the figures."""
    question, machine = document["question"], document["machine"]
    run = (
        f"{_whom(document)}; generator "
        f"{_asked(question, 'generator')}, segmenter {_asked(question, 'segmenter')}, device "
        f"{question['device']}; {machine['cores']} cores ({machine['processor']}), "
        f"{machine['jobs']} at a time with {machine['threads']} threads each."
    )
    if "cost" in document:
        cost = document["cost"]
        run += (
            f" In a process of its own (subject {cost['subject']}, {cost['organ']}): first result "
            f"after {cost['first_result_s']:.1f} s, peak memory {cost['peak_memory_mb']:.0f} MB."
        )
    return [run, training(document), _how_to_read(document), *document.get("notes", ())]


def _whom(document: Document) -> str:
    """The subjects, and of a run that is not at its end how many cases are done."""
    wanted = document["subjects"]
    cases = document.get("cases")  # not in documents of earlier versions
    finished = sorted({record["subject"] for record in document["records"]})
    noun = "Subject" if len(finished) == 1 else "Subjects"
    whom = f"{noun} {listed(finished)}" if finished else "No subject yet"
    if finished != wanted:
        whom += f" of {listed(wanted)}"
    if cases and cases["done"] < cases["all"]:
        whom += f" (**unfinished: {cases['done']} of {cases['all']} cases**)"
    return whom


def _asked(question: dict[str, Any], kind: str) -> str:
    """The models of a kind; documents of earlier versions name one."""
    return listed(question.get(f"{kind}s") or [question[kind]])


def _how_to_read(document: Document) -> str:
    question = document["question"]
    if question["protocol"] == "skin":
        scope = "Dice ×100, mean ± standard deviation over photographs."
    elif question["protocol"] == "fob":
        scope = (
            "Dice ×100 over the slices that hold the organ, mean ± standard deviation over "
            "volumes; slices without the organ are not asked for, which is easier than a whole "
            "volume."
        )
    elif is_interactive(document):
        scope = (
            "Dice ×100 over the whole volume, in which annotated slices count as found, mean ± "
            "standard deviation over subjects; every other slice is a query and false positives "
            "count. *Queries*: the same without the annotated slices."
        )
    else:
        scope = (
            "Dice ×100 over the whole volume, mean ± standard deviation over subjects; every "
            "slice is a query and false positives count."
        )
    if is_published_protocol(document):
        scope += f" Published rows are of Setting {question.get('setting') or 'I'} and all folds."
    return (
        f"{scope} *Difference*: the tool less this row. "
        f"*Under 50*: share of organs below that Dice; *unwarned*: how many of these came "
        "without a warning; *warned*: the share of all organs that came with one. A warning: the "
        f"organ was found in no slice, or with a mean confidence below {UNSURE_VOLUME}. "
        "*s a volume*, "
        "*ms*: wall-clock an organ, and a query slice and organ; in brackets, divided by only the "
        "slices in which it was found. Baselines decide presence by their own rule (*own*) or by "
        "the tool's answer (*tool*)."
    )


def build(document: Document) -> list[Table]:
    """Every table that the document's records can fill."""
    records = main_records(document)
    if not records:
        return []
    tables = [main(document, after(document, records, n), n) for n in counts(document)]
    if is_published_protocol(document):
        tables += differences(document, records)
        tables += folds(document, records)
    tables += volumes(document, records)
    tables += confidence(document, records)
    if len(counts(document)) > 1:
        tables.append(effort(document, records))
        tables += suggestion(document)
    tables += prompts(document, records)
    tables += ablation(document)
    return tables
