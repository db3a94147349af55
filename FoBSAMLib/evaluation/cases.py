"""Who is asked about: the subjects of each protocol, with the one annotated for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset, Fold
from FoBSAMLib.evaluation.settings import ProtocolName, Settings

#: Random pairs of photographs of each class in Setting II, and their seed.
PAIRS, SEED = 600, 0
#: Photographs that are worked on together, so that models are loaded once for them.
BATCH = 25


class Case(NamedTuple):
    """A subject to evaluate, and the annotated one for it; None where it is annotated itself."""

    query: int
    support: int | None = None
    fold: str | None = None


def find_cases(
    dataset: Dataset,
    protocol: ProtocolName,
    settings: Settings,
    subjects: Iterable[int] | None,
    folds: Iterable[str] | None,
) -> list[Case]:
    """The cases of a protocol.

    ``folds`` (by name) ask for the published folds. Without them and without ``subjects``,
    protocols across subjects take the published folds where all of the public set is on disk,
    else the check subjects; `interactive` the check subjects.
    Raises `FoBSAMError` (bad_request) for what is not there and what does not go together.
    """
    if (protocol == "skin") != (dataset.kind == "photograph"):
        fitting = "skin" if dataset.kind == "photograph" else "fob, whole or interactive"
        raise FoBSAMError(
            "bad_request",
            f"The protocol '{protocol}' is not for {dataset.name}.",
            f"Use --protocol {fitting}.",
        )
    if subjects is not None and folds is not None:
        raise FoBSAMError(
            "bad_request",
            "Subjects and folds were both chosen.",
            "Give --subject or --fold, not both.",
        )
    if protocol == "interactive":
        if folds is None:
            return [Case(subject) for subject in dataset.choose(subjects)]
        chosen = _once(_chosen_folds(dataset, folds))
        return [Case(query, None, fold) for query, _, fold in chosen]
    if protocol == "skin":
        return _photographs(dataset, settings, subjects, folds)
    cases = list(_across(dataset, protocol, subjects, folds))
    for case in cases:
        if case.query == case.support:
            raise FoBSAMError(
                "bad_request",
                f"Subject {case.support} is the annotated one of the protocol '{protocol}' and "
                "cannot be evaluated on itself.",
                "Choose other subjects, or the protocol 'interactive'.",
            )
    return cases


def lacking_notes(dataset: Dataset, cases: Sequence[Case], organs: Sequence[str]) -> list[str]:
    """What a reader should know of annotated subjects that lack an organ, which they cannot show.

    Raises `FoBSAMError` (bad_request) where none of them has any of the organs.
    """
    supports = sorted({case.support for case in cases if case.support is not None})
    if dataset.kind == "photograph" or not supports:
        return []
    held = {support: dataset.read(support).masks.keys() for support in supports}
    notes = []
    for organ in organs:
        lacking = ", ".join(str(support) for support in supports if organ not in held[support])
        if lacking:
            notes.append(
                f"No figures are of {organ} where subject {lacking} is annotated, which lacks it."
            )
    if not any(held[support] & set(organs) for support in supports):
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} subject {', '.join(map(str, supports))} is annotated for the others "
            f"and has no {' or '.join(organs)}.",
            "Choose other organs, or the protocol 'interactive'.",
        )
    return notes


def batches(cases: Sequence[Case], protocol: ProtocolName) -> list[list[Case]]:
    """Cases that one process works on in turn."""
    size = BATCH if protocol == "skin" else 1
    return [list(cases[first : first + size]) for first in range(0, len(cases), size)]


def _across(
    dataset: Dataset,
    protocol: ProtocolName,
    subjects: Iterable[int] | None,
    names: Iterable[str] | None,
) -> Iterator[Case]:
    complete = set(dataset.description.ids) <= set(dataset.files)
    if subjects is not None or (names is None and not complete):
        queries = dataset.choose(subjects)
        return (Case(subject, dataset.support) for subject in queries)
    folds = _chosen_folds(dataset, names)
    # As published, subjects that two folds share count twice in `fob`; once in `whole`.
    return iter(_once(folds)) if protocol == "whole" else _of_folds(folds)


def _chosen_folds(dataset: Dataset, names: Iterable[str] | None) -> list[Fold]:
    folds = dataset.folds()
    if names is None:
        return list(folds)
    wanted = set(names)
    known = [fold.name for fold in folds]
    if unknown := sorted(wanted - set(known)):
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} has no fold {', '.join(unknown)}.",
            f"There are {', '.join(known)}.",
        )
    return [fold for fold in folds if fold.name in wanted]


def _of_folds(folds: Iterable[Fold]) -> Iterator[Case]:
    return (Case(query, fold.support, fold.name) for fold in folds for query in fold.queries)


def _once(folds: Iterable[Fold]) -> list[Case]:
    """Every query with the first of its folds."""
    first: dict[int, Case] = {}
    for case in _of_folds(folds):
        first.setdefault(case.query, case)
    return [first[query] for query in sorted(first)]


def _photographs(
    dataset: Dataset,
    settings: Settings,
    subjects: Iterable[int] | None,
    names: Iterable[str] | None,
) -> list[Case]:
    """Setting I: of each fold and class, every photograph from the one before it. Setting II: of
    each class, random pairs."""
    if settings.setting == "II" and names is not None:
        raise FoBSAMError(
            "bad_request", "The pairs of Setting II are of no fold.", "Leave --fold out."
        )
    if settings.setting == "II":
        cases = list(_random_pairs(dataset, settings))
    else:
        # Photographs of no known class are in no fold.
        folded = names is not None or any(dataset.fold_subjects)
        folds = (
            [(fold.name, fold.queries) for fold in _chosen_folds(dataset, names)]
            if folded
            else [(None, dataset.subjects)]
        )
        cases = [
            Case(query, support, name)
            for name, members in folds
            for organ in settings.organs
            for support, query in pairwise(n for n in members if dataset.classes[n] == organ)
        ]
    if subjects is not None:
        wanted = set(dataset.choose(subjects))
        cases = [case for case in cases if case.query in wanted]
    if not cases:
        raise FoBSAMError(
            "bad_request",
            f"{dataset.name} has no pair of photographs of one class to evaluate.",
            "Add photographs, or choose other subjects or classes.",
        )
    return cases


def _random_pairs(dataset: Dataset, settings: Settings) -> Iterator[Case]:
    for organ in settings.organs:
        members = [n for n in dataset.subjects if dataset.classes[n] == organ]
        if len(members) < 2:
            continue
        random = np.random.default_rng(SEED)
        pairs: dict[Case, None] = {}
        for _ in range(min(PAIRS, len(members) * (len(members) - 1))):
            while True:
                support, query = (members[n] for n in random.choice(len(members), 2, False))
                if (case := Case(query, support)) not in pairs:
                    break
            pairs[case] = None
        yield from pairs
