"""Tables of Dice: ours beside what was published, by fold and by volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from FoBSAMLib.evaluation import published
from FoBSAMLib.evaluation.confidence import volume_warning
from FoBSAMLib.evaluation.metrics import summarise
from FoBSAMLib.evaluation.origins import (
    coverage,
    is_comparable,
    other_parts,
    remarks,
    row_name,
    was_trained_on,
    way_to_compare,
)
from FoBSAMLib.evaluation.records import (
    MISSED,
    Document,
    Row,
    Way,
    after,
    by_way,
    counts,
    has_published_rows,
    headline_way,
    is_interactive,
    is_published_protocol,
    names,
    organs_of,
    overall,
    published_rows,
    values,
)
from FoBSAMLib.evaluation.table import NONE, Line, Table, percent, signed

#: Of more subjects than this only the worst are listed.
MANY_SUBJECTS, WORST_SUBJECTS = 40, 20
#: Stands beside the Dice of an organ of which the user is warned.
WARNED = "⚠"


def main(document: Document, records: list[Row], count: int) -> Table:
    question = document["question"]
    organs = organs_of(document, records)
    ways = by_way(records)
    named = names(ways)
    best = headline_way(records)
    tool = overall(document, ways[best], "dice").mean if best else None
    digits = _digits(document)
    lines = []
    for way, mine in _comparable_last(document, ways):
        mean = overall(document, mine, "dice")
        behind = "" if tool is None or way == best else signed(tool - mean.mean, digits)
        lines.append(
            Line(
                [
                    row_name(document, way, named[way]),
                    *(percent(summarise(values(mine, "dice", o)), digits) for o in organs),
                    percent(mean, digits),
                    behind,
                    *_further(document, mine),
                ],
                way.kind,
            )
        )
    header = ["Method", *organs, "mean", "difference", *_further_names(document)]
    beside = way_to_compare(document, records)
    ours = overall(document, ways[beside], "dice").mean if beside else None
    lines += _published_lines(document, organs, ours, len(header))
    heading = {
        "interactive": f"Annotated slices: {count}",
        "whole": "Three annotated slices of another subject",
        "fob": "Three annotated slices of another subject, slices that hold the organ",
        "skin": "One annotated photograph",
    }[question["protocol"]]
    return Table(heading, header, lines, _note(document, records), "mean")


def _comparable_last(
    document: Document, ways: dict[Way, list[Row]]
) -> Iterable[tuple[Way, list[Row]]]:
    """The ways, those that may be compared with published rows last: next to these."""
    if not has_published_rows(document):
        return ways.items()
    return sorted(
        ways.items(), key=lambda item: item[0].is_ours and is_comparable(document, item[0])
    )


def _note(document: Document, records: Sequence[Row]) -> str:
    """What to know before comparing the rows with published ones."""
    if not has_published_rows(document):
        return ""
    parts = [comparison(document, records)]
    ways = by_way(records)
    beside = way_to_compare(document, records)
    if beside and beside != headline_way(records):
        parts.append(f"The *difference* of published rows is from {names(ways)[beside]}.")
    if document["question"]["protocol"] == "fob":
        parts.append(
            "Published rows work slice by slice, FoBSAM's row follows the structure through each "
            "third of the volume."
        )
    return " ".join(filter(None, parts))


def comparison(document: Document, records: Sequence[Row]) -> str:
    """What keeps figures of ours from being compared with published ones, in a sentence each."""
    said = {
        way.generator: "; ".join(remarks(document, way)) for way in by_way(records) if way.is_ours
    }
    parts = [f"**{generator}: {text}.**" for generator, text in said.items() if text]
    if part := coverage(document):
        parts.append(f"**{part}.**")
    return " ".join(parts)


def _digits(document: Document) -> int:
    """Decimals of a Dice in %: as many as were published, where it stands beside that."""
    return 2 if is_published_protocol(document) else 1


def _further_names(document: Document) -> list[str]:
    queries = ["queries"] if is_interactive(document) else []
    # A photograph says nothing of millimetres.
    surface = [] if _of_photographs(document) else ["HD95 mm", "surface Dice 2 mm"]
    return [*queries, "under 50", "unwarned", "warned", *surface, "s a volume", "ms"]


def _of_photographs(document: Document) -> bool:
    return bool(document["question"]["protocol"] == "skin")


def _further(document: Document, records: list[Row]) -> list[str]:
    """The cells of `_further_names`."""
    cells = []
    if is_interactive(document):
        cells.append(percent(overall(document, records, "dice_queries")))
    missed = [record for record in records if record["dice"] < MISSED]
    cells.append(f"{100 * len(missed) / len(records):.0f} %")
    if all(record.get("slices") for record in records):
        unwarned = sum(not volume_warning(record) for record in missed)
        warned = sum(map(volume_warning, records))
        cells += [f"{unwarned} of {len(missed)}", f"{100 * warned / len(records):.0f} %"]
    else:
        cells += [NONE, NONE]
    surface = () if _of_photographs(document) else (("hd95_mm", 1), ("surface_dice", 100))
    for key, factor in surface:
        known = all(record.get(key) is not None for record in records)
        cells.append(f"{factor * overall(document, records, key).mean:.1f}" if known else NONE)
    seconds = sum(record["seconds"] for record in records)
    slices, found = (
        max(1, sum(record[key] for record in records)) for key in ("query_slices", "found_slices")
    )
    cells.append(f"{seconds / len(records):.1f}")
    return [*cells, f"{1000 * seconds / slices:.0f} ({1000 * seconds / found:.0f})"]


def _published_lines(
    document: Document, organs: Sequence[str], tool: float | None, columns: int
) -> list[Line]:
    """Published rows with the tool's mean less theirs; beside `whole`, that of the paper alone."""
    if is_interactive(document):
        return []
    lines = []
    for row in published_rows(document):
        name, digits = f"published {row.method}", _digits(document)
        if not is_published_protocol(document):
            if row.method != published.BEST:
                continue
            name += " ViT-H, organ slices only"
        mean = row.over(organs)
        cells = [name, *(_figure(row.dice.get(organ), digits) for organ in organs)]
        cells.append(_figure(mean, digits))
        if tool is not None and mean is not None:
            cells.append(signed(tool - mean / 100, digits))
        lines.append(Line(cells + [""] * (columns - len(cells)), "published"))
    return lines


def _figure(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def differences(document: Document, records: list[Row]) -> list[Table]:
    """For each way that is ours: its figures less the published ones, organ by organ."""
    rows = published_rows(document)
    known = {organ for row in rows for organ in row.dice}
    records = [record for record in records if record["organ"] in known]
    organs = organs_of(document, records)
    ways = by_way(records)
    tables = []
    for way, mine in sorted(ways.items(), key=lambda item: not is_comparable(document, item[0])):
        if not way.is_ours:
            continue
        ours = [summarise(values(mine, "dice", organ)).mean for organ in organs]
        ours.append(overall(document, mine, "dice").mean)
        lines = []
        for row in rows:
            theirs = [*(row.dice.get(organ) for organ in organs), row.over(organs)]
            cells = [
                NONE if figure is None else signed(mean - figure / 100, 2)
                for mean, figure in zip(ours, theirs, strict=True)
            ]
            lines.append(Line([f"less {row.method}", *cells], "published"))
        heading = f"{names(ways)[way]} less what was published"
        note = comparison(document, mine)
        tables.append(Table(heading, ["", *organs, "mean"], lines, note, "mean"))
    return tables


def folds(document: Document, records: list[Row]) -> list[Table]:
    """Mean Dice by fold beside that of the re-runs with released weights."""
    folds = sorted({r["fold"] for r in records if r.get("fold") is not None})
    if not folds:
        return []
    ways = by_way(records)
    lines = []
    for way, mine in _comparable_last(document, ways):
        means = []
        for fold in folds:
            part = [record for record in mine if record.get("fold") == fold]
            means.append(percent(overall(document, part, "dice"), 2) if part else NONE)
        name = row_name(document, way, names(ways)[way])
        lines.append(Line([name, *means, percent(overall(document, mine, "dice"), 2)], way.kind))
    for row in published_rows(document):
        if row.folds and set(folds) <= set(row.folds):
            figures = [f"{row.folds[fold]:.2f}" for fold in folds]
            lines.append(
                Line([f"published {row.method}", *figures, f"{row.mean:.2f}"], "published")
            )
    header = ["Method", *(f"fold {fold}" for fold in folds), "mean"]
    return [Table("Dice by fold", header, lines, bold="mean")]


def volumes(document: Document, records: list[Row]) -> list[Table]:
    """Dice of every subject and organ, of the tool in each way it was run."""
    ways = by_way(records)
    last = counts(document)[-1]
    tables = []
    for way in ways:
        if not way.is_tool:
            continue
        first, final = (by_way(after(document, records, n))[way] for n in (1, last))
        subjects = sorted({record["subject"] for record in first})
        note = f"{WARNED}: a warning was given." if any(r.get("slices") for r in first) else ""
        if last > 1:
            note += f" With 1 → {last} annotated slices."
        if len(subjects) > MANY_SUBJECTS:
            note += f" The {WORST_SUBJECTS} worst of {len(subjects)}."
            subjects.sort(key=lambda subject: _mean_of(first, subject))
            subjects = subjects[:WORST_SUBJECTS]
        organs = organs_of(document, records)
        lines = [_volume(document, s, organs, first, final) for s in subjects]
        heading = f"Dice by volume, {names(ways)[way]}"
        header = ["Subject", "trained on", *organs, "mean"]
        tables.append(Table(heading, header, lines, note.strip(), "mean"))
    return tables


def _mean_of(records: Sequence[Row], subject: int) -> float:
    return summarise(r["dice"] for r in records if r["subject"] == subject).mean


def _volume(
    document: Document, subject: int, organs: Sequence[str], first: list[Row], final: list[Row]
) -> Line:
    cells = [str(subject), _trained_on(document, [r for r in first if r["subject"] == subject])]
    for organ in organs:
        # A subject of two folds has two records of an organ.
        before, later = (
            [r for r in records if (r["subject"], r["organ"]) == (subject, organ)]
            for records in (first, final)
        )
        cells.append(_change(before, later) if before else NONE)
    whole = ([r for r in records if r["subject"] == subject] for records in (first, final))
    return Line([*cells, _change(*whole, warn=False)], "tool")


def _trained_on(document: Document, records: Sequence[Row]) -> str:
    """Whether weights knew the subject that records are of, or its labels had another part."""
    text = {None: "unknown", True: "yes", False: "no"}[was_trained_on(document, records)]
    subject = records[0]["subject"]
    said = (said for said, subjects in other_parts(document).items() if subject in subjects)
    return "; ".join([text, *said])


def _change(before: list[Row], later: list[Row], *, warn: bool = True) -> str:
    """Mean Dice with one annotated slice and with all, the same if there is one only."""
    old, new = (summarise(r["dice"] for r in records).mean for records in (before, later))
    text = f"{100 * old:.1f}" + (f" → {100 * new:.1f}" if before != later else "")
    return f"{text} {WARNED}" if warn and any(map(volume_warning, before)) else text
