"""Where the weights behind a document's figures come from, and what that means for a comparison.

Of every weights file a document holds what `weights.describe_models` found out; those of earlier
versions only which subjects any of the weights were trained on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from FoBSAMLib.evaluation.dataset_descriptions import DATASETS
from FoBSAMLib.evaluation.published import PHOTOGRAPH_CASES
from FoBSAMLib.evaluation.records import (
    Document,
    Row,
    Way,
    by_way,
    has_published_rows,
    headline_way,
    main_records,
)
from FoBSAMLib.evaluation.table import listed

#: What an entry of the document says of a weights file.
Weights = dict[str, Any]

LABELLED = "trained with organ labels"
INCOMPARABLE = f"{LABELLED}; published rows use none: not comparable"
UNLABELLED = "trained without organ labels"
UNKNOWN = "unknown what it was trained on"
#: What subjects of the document's lists had to do with the tool besides training.
OTHER_PARTS = {
    "rules_from": "labels had a part in the rules",
    "choices_from": "labels had a part in a choice",
}
#: What the images of a data set are.
MODALITIES = {"chaos": "MR", "sabs": "CT", "isic": "photographs"}


def every(document: Document) -> list[Weights]:
    """All weights files of the generators, each once."""
    generators = (document.get("models") or {}).get("generators") or {"": []}
    return [one for generator in generators for one in weights_of(document, generator)]


def weights_of(document: Document, generator: str) -> list[Weights]:
    """The weights files that a generator of the question stands for, at least one."""
    generators = (document.get("models") or {}).get("generators", {})
    known = {"trained_on": document.get("trained_on"), "labels": None, "name": generator}
    return [{**known, **one} for one in generators.get(generator) or [{}]]


def was_trained_on(document: Document, records: Iterable[Row]) -> bool | None:
    """Were weights that answered any of these records trained on its subject? None if unknown.

    Decided record by record: the weights of one fold may know the subjects of another.
    """
    dataset = document["question"]["dataset"]
    answers = [
        None
        if one["trained_on"] is None
        else record["subject"] in one["trained_on"].get(dataset, ())
        for record in records
        for one in weights_of(document, record.get("generator") or "")
        if _serves(one, record)
    ]
    return None if None in answers else any(answers)


def _serves(one: Weights, record: Row) -> bool:
    serves = one.get("serves")
    return serves is None or (
        record.get("fold") in serves["folds"] and record["organ"] in serves["organs"]
    )


def evaluated_and_trained_on(document: Document) -> list[int]:
    """Subjects asked about of which the weights that answered know."""
    return _known_of(document, "queries", document["subjects"])


def supports_trained_on(document: Document) -> list[int]:
    """Annotated subjects of which the weights know that were given them."""
    supports = {record.get("support") for record in document["records"]}
    return _known_of(document, "supports", supports)


def _known_of(document: Document, served: str, default: Iterable[int | None]) -> list[int]:
    dataset = document["question"]["dataset"]
    known = set()
    for one in every(document):
        given = set((one.get("serves") or {}).get(served, default))
        known |= given & set((one["trained_on"] or {}).get(dataset, ()))
    return sorted(known)


def has_labels(one: Weights) -> bool:
    """Had organ labels a part in training, as far as the weights say?"""
    return any((one["labels"] or {}).values())


def is_comparable(document: Document, way: Way) -> bool:
    """Are the weights known to be trained without organ labels, as those of published rows?"""
    return bool(way.generator) and all(
        one["trained_on"] is not None and one["labels"] is not None and not has_labels(one)
        for one in weights_of(document, way.generator)
    )


def way_to_compare(document: Document, records: Iterable[Row]) -> Way | None:
    """The tool as it stands beside published rows: with the first weights that are comparable,
    else as first named."""
    records = list(records)
    tools = [way for way in by_way(records) if way.is_tool]
    fitting = (way for way in tools if is_comparable(document, way))
    return next(fitting, headline_way(records))


def remarks(document: Document, way: Way) -> list[str]:
    """What a reader has to know of a way before comparing its figures; empty for baselines."""
    if not way.generator:
        return []
    several = weights_of(document, way.generator)
    beside_published = has_published_rows(document)
    said = []
    if any(map(has_labels, several)):
        said.append(INCOMPARABLE if beside_published else LABELLED)
    elif is_comparable(document, way):
        said.append(UNLABELLED)
    if not beside_published:
        return said
    if any(one["trained_on"] is None for one in several):
        said.append(UNKNOWN)
    question = document["question"]
    sources = {name for one in several for name, ids in (one["trained_on"] or {}).items() if ids}
    if sources and sources != set(question.get("train_on") or [question["dataset"]]):
        # In the order of the published tables.
        order = [*MODALITIES, *sorted(sources - MODALITIES.keys())]
        names = [MODALITIES.get(name, name) for name in order if name in sources]
        said.append(f"trained on {' and '.join(names)}")
    return said


def coverage(document: Document) -> str:
    """How many of the published cases were evaluated; "" for all of them, and where none are."""
    total = _published_cases(document)
    records = main_records(document)
    cases = {(r.get("fold"), r.get("support"), r["subject"]) for r in records}
    elsewhere = any(fold is None for fold, _, _ in cases)
    photographs = document["question"]["protocol"] == "skin"
    if not total or not cases or (len(cases) == total and (photographs or not elsewhere)):
        return ""
    text = f"{len(cases)} of {total} published cases"
    return text if photographs or not elsewhere else f"{text}, not with the published supports"


def _published_cases(document: Document) -> int:
    """Cases of the protocol in all folds; 0 where nothing was published."""
    question = document["question"]
    if not has_published_rows(document):
        return 0
    if question["protocol"] == "skin":
        return PHOTOGRAPH_CASES[question.get("setting") or "I"]
    queries = [n for fold in DATASETS[question["dataset"]].folds() for n in fold.queries]
    # Subjects that two folds share count twice in `fob`, once in `whole`.
    return len(set(queries) if question["protocol"] == "whole" else queries)


def row_name(document: Document, way: Way, name: str) -> str:
    """The name of a row that may be compared with published ones, with what keeps it from that."""
    said = remarks(document, way)
    if way.is_ours and (part := coverage(document)):
        said.append(part)
    return f"{name} ({'; '.join(said)})" if said else name


def other_parts(document: Document) -> dict[str, set[int]]:
    """Subjects of the evaluated data set whose labels had a part in fitted rules, or in a choice
    among ways to work, by what tables say of them."""
    dataset = document["question"]["dataset"]
    return {
        said: set((document.get(key) or {}).get(dataset, ())) for key, said in OTHER_PARTS.items()
    }


def training(document: Document) -> str:
    """Which subjects the weights were trained on, and whether any of them was evaluated."""
    dataset = document["question"]["dataset"]
    several = every(document)
    told = {_training_of(one) for one in several}
    unknown = any(one["trained_on"] is None for one in several)
    if len(told) == 1:
        text = f"Trained on: {told.pop()}."
    else:
        each = (f"{one['name']}: {_training_of(one)}" for one in several)
        text = f"Trained on: {'; '.join(each)}."
    if unknown:
        text += (
            " Weights that do not say which subjects they were trained on may know some of those "
            "evaluated."
        )
    both = evaluated_and_trained_on(document)
    if both:
        text += (
            f" **Among those evaluated are subjects that were trained on ({dataset} "
            f"{listed(both)}): their figures are no test.**"
        )
    elif not unknown:
        text += " None of the subjects evaluated was trained on"
        text += " by the weights that answered for it." if len(several) > 1 else "."
    supports = supports_trained_on(document)
    if supports:
        text += f" The supports (subject {listed(supports)}) were trained on."
    for said, subjects in other_parts(document).items():
        if evaluated := sorted(subjects & set(document["subjects"])):
            text += f" **Of {dataset} {listed(evaluated)} {said} (see the model card).**"
    return text


def _training_of(one: Weights) -> str:
    if one["trained_on"] is None:
        return "unknown"
    subjects = "; ".join(f"{name} {listed(ids)}" for name, ids in one["trained_on"].items())
    organs = {organ for labelled in (one["labels"] or {}).values() for organ in labelled}
    labels = f"with labels of {listed(sorted(organs))}" if organs else "without organ labels"
    return f"{subjects or 'none'}, {labels}"
