"""The records of an evaluation's document, put together as tables and figures need them.

A record says how one method did on one organ of one subject with one number of annotated slices.
Documents of earlier versions lack some fields (`generator`, `slices`, `suggestion` …): they are
read as what was the only choice then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from FoBSAMLib.evaluation import published
from FoBSAMLib.evaluation.metrics import Summary, summarise
from FoBSAMLib.evaluation.settings import FOB_PROMPTS, TOOL
from FoBSAMLib.evaluation.table import Kind

Document = dict[str, Any]
Row = dict[str, Any]

#: Below this Dice an organ counts as missed; from this on a user would call it done.
MISSED, DONE = 0.5, 0.90


@dataclass(frozen=True)
class Way:
    """From annotated slices to a mask: one row of a table, one colour of a figure."""

    method: str
    presence: str
    generator: str
    segmenter: str

    @property
    def is_tool(self) -> bool:
        return self.method == TOOL

    @property
    def is_ours(self) -> bool:
        """The tool, or the published method's prompts alone."""
        return self.method in (TOOL, FOB_PROMPTS)

    @property
    def models(self) -> str:
        return " → ".join(filter(None, (self.generator, self.segmenter)))

    @property
    def kind(self) -> Kind:
        """How tables show it."""
        return "tool" if self.is_ours else "baseline"


def way_of(record: Row) -> Way:
    generator, segmenter = record.get("generator") or "", record.get("segmenter") or ""
    return Way(record["method"], record["presence"], generator, segmenter)


def by_way(records: Iterable[Row]) -> dict[Way, list[Row]]:
    """Records of each way, in the order in which they first appear."""
    found: dict[Way, list[Row]] = {}
    for record in records:
        found.setdefault(way_of(record), []).append(record)
    return found


def names(ways: Iterable[Way]) -> dict[Way, str]:
    """What tables call each way: models only where a method was run with several."""
    ways = list(ways)
    named = {}
    for way in ways:
        alike = [other for other in ways if other.method == way.method]
        several = len({(other.generator, other.segmenter) for other in alike}) > 1
        name = f"{way.method}, {way.models}" if several and way.models else way.method
        alone = way.is_tool or way.presence == "given"
        named[way] = name if alone else f"{name}, presence: {way.presence}"
    return named


def headline_way(records: Sequence[Row]) -> Way | None:
    """The tool as first named among the records: what others are compared with."""
    return next((way for way in by_way(records) if way.is_tool), None)


def main_records(document: Document) -> list[Row]:
    """Records that tables and figures show unless they say otherwise.

    Not those of the ablation, and of two rules of suggestion only the tool's own.
    """
    records = [record for record in document["records"] if not record.get("ablation")]
    rules = suggestion_rules(records)
    return [r for r in records if not rules or (r.get("suggestion") or rules[0]) == rules[0]]


def suggestion_rules(records: Iterable[Row]) -> list[str]:
    """The rules that chose the further annotated slices, the tool's own first."""
    rules = {record["suggestion"] for record in records if record.get("suggestion")}
    return sorted(rules, key=lambda rule: (rule != "tool", rule))


def suggestion_records(document: Document) -> dict[str, list[Row]]:
    """For each rule of suggestion the records of a run by that rule, the tool's own first.

    The first annotated slice is not suggested: a rule without records of it shares the tool's.
    """
    records = [record for record in document["records"] if not record.get("ablation")]
    rules = suggestion_rules(records)
    found = {rule: [r for r in records if r.get("suggestion") == rule] for rule in rules}
    start = [record for record in found[rules[0]] if len(record["annotated"]) == 1] if rules else []
    for mine in found.values():
        held = {(r["subject"], r["organ"], way_of(r)) for r in mine if len(r["annotated"]) == 1}
        ways = {way_of(record) for record in mine}
        mine += [
            r
            for r in start
            if way_of(r) in ways and (r["subject"], r["organ"], way_of(r)) not in held
        ]
    return found


def ablation_records(document: Document) -> list[Row]:
    return [record for record in document["records"] if record.get("ablation")]


def counts(document: Document) -> range:
    """Numbers of annotated slices: 1, 2, … where the protocol adds one at a time, else 1."""
    question = document["question"]
    return range(1, 1 + (question["slices_annotated"] if is_interactive(document) else 1))


def after(document: Document, records: Iterable[Row], count: int) -> list[Row]:
    """What each case had come to with ``count`` annotated slices: fewer if no more were wanted.

    For the protocol `interactive`; in others nothing is added, and all records are returned.
    """
    if not is_interactive(document):
        return list(records)
    chosen = []
    for case in cases(records):
        known = [record for record in case if len(record["annotated"]) <= count]
        if known:
            chosen.append(max(known, key=lambda record: len(record["annotated"])))
    return chosen


def cases(records: Iterable[Row]) -> list[list[Row]]:
    """Records of the same subject, organ and way, which differ in their annotated slices."""
    found: dict[tuple, list[Row]] = {}
    for record in records:
        key = (record["subject"], record["organ"], way_of(record), record.get("fold"))
        found.setdefault(key, []).append(record)
    return list(found.values())


def organs_of(document: Document, records: Iterable[Row]) -> list[str]:
    """The organs that records speak of, in the order of the question."""
    held = {record["organ"] for record in records}
    return [organ for organ in document["question"]["organs"] if organ in held]


def values(records: Iterable[Row], key: str, organ: str) -> list[float]:
    return [record[key] for record in records if record["organ"] == organ]


def overall(document: Document, records: Sequence[Row], key: str) -> Summary:
    """Mean and spread of all organs together.

    As published (`fob`, `skin`): the mean of the organs' means, with the spread over volumes.
    Otherwise: mean and spread over subjects of each subject's mean over its organs.
    """
    if is_published_protocol(document):
        organs = dict.fromkeys(record["organ"] for record in records)
        spread = summarise(record[key] for record in records)
        mean = summarise(summarise(values(records, key, organ)).mean for organ in organs).mean
        return Summary(mean, spread.std, spread.count)
    subjects = dict.fromkeys(record["subject"] for record in records)
    return summarise(
        summarise(record[key] for record in records if record["subject"] == subject).mean
        for subject in subjects
    )


def is_interactive(document: Document) -> bool:
    """Are slices of the volume itself annotated, one after another?"""
    return bool(document["question"]["protocol"] == "interactive")


def is_published_protocol(document: Document) -> bool:
    """Is the protocol one of those for which figures were published?"""
    return document["question"]["protocol"] in ("fob", "skin")


def published_rows(document: Document) -> list[published.Published]:
    """What was published for the question's data set, setting and training images."""
    question = document["question"]
    sources = question.get("train_on") or [question["dataset"]]
    if len(sources) > 1:
        return []
    return published.find(question["dataset"], question.get("setting") or "I", sources[0])


def has_published_rows(document: Document) -> bool:
    """Do published figures stand beside ours? Not beside those of a volume annotated itself."""
    return not is_interactive(document) and bool(published_rows(document))


def slices_needed(case: Sequence[Row]) -> int | None:
    """The least annotated slices with which a case reached `DONE`; None if it never did."""
    return min((len(r["annotated"]) for r in case if r["dice"] >= DONE), default=None)
