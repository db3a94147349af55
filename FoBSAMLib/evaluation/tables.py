"""The document of an evaluation as Markdown: figures, differences, the published row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from FoBSAMLib.evaluation.metrics import Summary, summarise
from FoBSAMLib.evaluation.protocols import TOOL

#: Published mean Dice in %, liver, right kidney, left kidney, spleen: FoB with SAM ViT-H,
#: Setting I. Their protocol asks only for slices that hold the organ, which is easier.
PUBLISHED = {"chaos": (85.61, 88.18, 84.76, 79.31), "sabs": (86.51, 86.51, 87.29, 84.54)}
PUBLISHED_ORGANS = ("liver", "right kidney", "left kidney", "spleen")
#: The Dice a user would call done.
DONE = 0.90

Row = dict[str, Any]


def markdown(document: dict[str, Any]) -> str:
    """What was asked, a table for each number of annotated slices, and what it cost."""
    records: list[Row] = document["records"]
    question = document["question"]
    title = f"# {question['dataset']}, protocol {question['protocol']}\n"
    parts = [title, _about(document)]
    if records:
        counts = range(1, question["slices_annotated"] + 1)
        for count in counts:
            parts.append(_table(_after(records, count), question, count))
        if len(counts) > 1:
            parts.append(_effort(records, counts))
    return "\n".join(parts)


def _about(document: dict[str, Any]) -> str:
    question, machine = document["question"], document["machine"]
    finished = sorted({record["subject"] for record in document["records"]})
    lines = [
        f"Subjects {_listed(finished)} of {_listed(document['subjects'])}; generator "
        f"{question['generator']}, segmenter {question['segmenter']}, device "
        f"{question['device']}; {machine['cores']} cores ({machine['processor']}), "
        f"{machine['jobs']} at a time with {machine['threads']} threads each.",
    ]
    if "cost" in document:
        cost = document["cost"]
        lines.append(
            f"In a process of its own (subject {cost['subject']}, {cost['organ']}): first result "
            f"after {cost['first_result_s']:.1f} s, peak memory {cost['peak_memory_mb']:.0f} MB."
        )
    lines += [
        "",
        "Dice ×100 over the whole volume, mean ± standard deviation over subjects; every slice "
        "is a query and false positives count. *Queries*: the same without the annotated "
        "slices. *Under 50*: share of organs below that Dice. *ms*: wall-clock a query slice "
        "and organ, and, in brackets, divided by only the slices in which it was found. "
        "*Difference*: the tool less this method. Baselines decide presence by their own rule "
        "(*own*) or by the tool's answer (*tool*).",
        "",
        f"`{document['command']}`",
        "",
    ]
    return "\n".join(lines)


def _table(records: list[Row], question: dict[str, Any], count: int) -> str:
    organs = [organ for organ in question["organs"] if any(r["organ"] == organ for r in records)]
    header = ["Method", *organs, "mean", "difference", "queries", "under 50", "HD95 mm"]
    header += ["surface Dice 2 mm", "ms"]
    methods = list(dict.fromkeys((r["method"], r["presence"]) for r in records))
    tool = [r for r in records if r["method"] == TOOL]
    rows = [_row(_of(records, *method), organs, tool) for method in methods]
    if question["protocol"] == "whole":
        rows.append(_published(question["dataset"], organs, len(header)))
        heading = "## Three annotated slices of another subject\n"
    else:
        heading = f"## Annotated slices: {count}\n"
    return "\n".join([heading, *_lines(header, rows), ""])


def _row(records: list[Row], organs: Sequence[str], tool: list[Row]) -> list[str]:
    first = records[0]
    name = first["method"] if first["method"] == TOOL else _named(first)
    mean = _over_subjects(records, "dice")
    difference = ""
    if tool and first["method"] != TOOL:
        difference = f"{100 * (_over_subjects(tool, 'dice').mean - mean.mean):+.1f}"
    low = sum(record["dice"] < 0.5 for record in records) / len(records)
    seconds = sum(record["seconds"] for record in records)
    slices, found = (
        max(1, sum(record[key] for record in records)) for key in ("query_slices", "found_slices")
    )
    return [
        name,
        *(_percent(summarise(_values(records, "dice", organ))) for organ in organs),
        f"**{_percent(mean)}**",
        difference,
        _percent(_over_subjects(records, "dice_queries")),
        f"{100 * low:.0f} %",
        f"{_over_subjects(records, 'hd95_mm').mean:.1f}",
        f"{100 * _over_subjects(records, 'surface_dice').mean:.1f}",
        f"{1000 * seconds / slices:.0f} ({1000 * seconds / found:.0f})",
    ]


def _published(dataset: str, organs: Sequence[str], columns: int) -> list[str]:
    figures = dict(zip(PUBLISHED_ORGANS, PUBLISHED[dataset], strict=True))
    shown = [figures[organ] for organ in organs]
    row = ["published FoB + SAM ViT-H, organ slices only", *(f"{figure:.1f}" for figure in shown)]
    row.append(f"{sum(shown) / len(shown):.1f}")
    return row + [""] * (columns - len(row))


def _effort(records: list[Row], counts: range) -> str:
    """Dice against the number of annotated slices, and the slices that 0.90 takes."""
    methods = list(dict.fromkeys((r["method"], r["presence"]) for r in records))
    rows = []
    for method in methods:
        mine = _of(records, *method)
        needed = [
            min((len(r["annotated"]) for r in case if r["dice"] >= DONE), default=None)
            for case in _cases(mine)
        ]
        reached = [count for count in needed if count is not None]
        mean = f"{summarise(reached).mean:.1f}" if reached else "–"
        rows.append(
            [
                _named(mine[0]) if method[0] != TOOL else method[0],
                *(_percent(_over_subjects(_after(mine, count), "dice")) for count in counts),
                f"{mean} ({len(reached)} of {len(needed)})",
            ]
        )
    header = ["Method", *map(str, counts), "slices to 90 (organs that reach it)"]
    return "\n".join(["## Dice against annotated slices\n", *_lines(header, rows), ""])


def _after(records: list[Row], count: int) -> list[Row]:
    """What each case had come to after ``count`` annotated slices: less if the tool was done."""
    return [
        max(
            (r for r in case if len(r["annotated"]) <= count),
            key=lambda record: len(record["annotated"]),
        )
        for case in _cases(records)
    ]


def _cases(records: Iterable[Row]) -> list[list[Row]]:
    """Records of the same subject, organ, method and presence rule together."""
    cases: dict[tuple, list[Row]] = {}
    for record in records:
        key = (record["subject"], record["organ"], record["method"], record["presence"])
        cases.setdefault(key, []).append(record)
    return list(cases.values())


def _of(records: Iterable[Row], method: str, presence: str) -> list[Row]:
    return [r for r in records if (r["method"], r["presence"]) == (method, presence)]


def _values(records: Iterable[Row], key: str, organ: str) -> list[float]:
    return [record[key] for record in records if record["organ"] == organ]


def _over_subjects(records: list[Row], key: str) -> Summary:
    """Mean and spread over subjects of each subject's mean over its organs."""
    subjects = dict.fromkeys(record["subject"] for record in records)
    return summarise(
        summarise(record[key] for record in records if record["subject"] == subject).mean
        for subject in subjects
    )


def _named(record: Row) -> str:
    return f"{record['method']}, presence: {record['presence']}"


def _percent(summary: Summary) -> str:
    return f"{100 * summary.mean:.1f} ± {100 * summary.std:.1f}"


def _lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
