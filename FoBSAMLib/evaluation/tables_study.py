"""Tables of what the confidence, further annotated slices and the method's parts are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from FoBSAMLib.evaluation.confidence import collect, judge
from FoBSAMLib.evaluation.metrics import summarise
from FoBSAMLib.evaluation.records import (
    Document,
    Row,
    ablation_records,
    after,
    by_way,
    cases,
    counts,
    is_interactive,
    is_published_protocol,
    names,
    organs_of,
    overall,
    slices_needed,
    suggestion_records,
    values,
)
from FoBSAMLib.evaluation.settings import FOB_PROMPTS, PROTOTYPE_PROMPTS
from FoBSAMLib.evaluation.table import NONE, Line, Table, percent, signed
from FoBSAMLib.session.warning import UNSURE

#: Slices taken into account, as tables call them; the first is the headline.
SCOPES = {False: "with the organ, or found", True: "all"}
#: Says which errors of the headline scope are there by the choice of its slices.
BY_CONSTRUCTION = (
    "Of the slices judged empty only those that hold the organ, all of them errors, are in the "
    "scope *with the organ, or found*; those judged empty rightly are in *all* alone."
)
AT_TEST_TIME = "Parts are switched off at test time, without training anew."


def confidence(document: Document, records: Sequence[Row]) -> list[Table]:
    """Does the confidence find the bad slices, and is it true."""
    lines = []
    for count in counts(document):
        ways = by_way(after(document, records, count))
        for way, mine in ways.items():
            for every, scope in SCOPES.items():
                if every and is_published_protocol(document):
                    continue  # only slices with the organ are asked for
                quality = judge(collect(mine, every=every))
                if quality is None:
                    continue
                annotated = [str(count)] if is_interactive(document) else []
                cells = [names(ways)[way], *annotated, scope, str(quality.slices)]
                cells += [_share(quality.bad), _auroc(quality.auroc, quality.interval)]
                cells += [_share(quality.look), _share(quality.marked), _share(quality.seen)]
                cells += [f"{100 * quality.calibration:.1f}"]
                lines.append(Line(cells, "tool"))
    if not lines:
        return []
    header = ["Confidence of", *(["annotated"] if is_interactive(document) else [])]
    header += ["query slices", "number", "bad", "AUROC (95 %)", "look at", "marked", "bad marked"]
    header += ["calibration error"]
    note = (
        "*Bad*: share of slices with a Dice below 0.7. *AUROC*: how often a bad slice has less "
        "confidence than a good one; the interval is from drawing subjects again. *Look at*: "
        "share of slices to look at, least confidence first, to see 90 % of the bad ones. "
        f"*Marked*: share of slices that the tool itself marks (confidence below {UNSURE}), *bad "
        "marked* that of the bad ones among them. "
        "*Calibration error*: mean distance ×100 between the confidence and the share of good "
        f"slices, in ten bins. {BY_CONSTRUCTION}"
    )
    return [Table("Confidence", header, lines, note)]


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def _auroc(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return NONE
    between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{value:.3f}{between}"


def effort(document: Document, records: Sequence[Row]) -> Table:
    """Dice against the number of annotated slices, and the slices that 0.90 takes."""
    ways = by_way(records)
    lines = []
    for way, mine in ways.items():
        come_to = [after(document, mine, n) for n in counts(document)]
        # A method may have nothing to say of so few slices.
        dice = [percent(overall(document, some, "dice")) if some else NONE for some in come_to]
        lines.append(Line([names(ways)[way], *dice, _needed(mine)], way.kind))
    header = ["Method", *map(str, counts(document)), "slices to 90 (organs that reach it)"]
    return Table("Dice against annotated slices", header, lines)


def _needed(records: Sequence[Row]) -> str:
    needed = [slices_needed(case) for case in cases(records)]
    reached = [count for count in needed if count is not None]
    mean = f"{summarise(reached).mean:.1f}" if reached else NONE
    return f"{mean} ({len(reached)} of {len(needed)})"


def suggestion(document: Document) -> list[Table]:
    """The tool's suggestion of the slice to annotate next against other rules."""
    rules = suggestion_records(document)
    if len(rules) < 2:
        return []
    first, *others = rules
    further = list(counts(document))[1:]
    lines = []
    for way in by_way(rules[first]):
        mine = {rule: by_way(records).get(way, []) for rule, records in rules.items()}
        if not all(mine.values()):
            continue
        named = names(by_way(rules[first]))[way]
        for rule, records in mine.items():
            dice = (overall(document, after(document, records, n), "dice") for n in further)
            lines.append(
                Line(
                    [named, rule, *map(percent, dice), _needed(records)],
                    "tool" if rule == first else "baseline",
                )
            )
        for rule in others:
            gains = [_gain(document, mine[first], mine[rule], n) for n in further]
            lines.append(Line([named, f"{first} less {rule}", *gains, ""], "published"))
    header = ["Method", "rule", *map(str, further), "slices to 90 (organs that reach it)"]
    note = (
        "Which slice is annotated next: the one that the tool suggests (*tool*), or the middle of "
        "the widest gap between those annotated (*middle*). In brackets: organs better and worse "
        "by more than 0.5."
    )
    return [Table("Which slice to annotate next", header, lines, note)] if lines else []


def _gain(document: Document, mine: list[Row], theirs: list[Row], count: int) -> str:
    """Mean difference of Dice, and how many organs are better and worse by more than 0.005."""
    pairs = _paired(after(document, mine, count), after(document, theirs, count))
    gains = [one - other for one, other in pairs]
    if not gains:
        return NONE
    better, worse = sum(g > 0.005 for g in gains), sum(g < -0.005 for g in gains)
    return f"{signed(summarise(gains).mean)} ({better} : {worse})"


def _paired(mine: Sequence[Row], theirs: Sequence[Row]) -> list[tuple[float, float]]:
    others = {(record["subject"], record["organ"]): record["dice"] for record in theirs}
    keyed = {(record["subject"], record["organ"]): record["dice"] for record in mine}
    return [(keyed[key], others[key]) for key in keyed if key in others]


def prompts(document: Document, records: Sequence[Row]) -> list[Table]:
    """The method's claim: its background points against those of a similarity map.

    Both with the same segmenter on the same slices.
    """
    ways = by_way(after(document, records, 1))
    organs = organs_of(document, records)
    lines = []
    for way, mine in ways.items():
        other = ways.get(replace(way, method=PROTOTYPE_PROMPTS))
        if way.method != FOB_PROMPTS or not other:
            continue
        gains = [
            summarise(values(mine, "dice", organ)).mean
            - summarise(values(other, "dice", organ)).mean
            for organ in organs
        ]
        gains.append(overall(document, mine, "dice").mean - overall(document, other, "dice").mean)
        lines.append(Line([names(ways)[way], *map(signed, gains)], "tool"))
    heading = f"{FOB_PROMPTS} less {PROTOTYPE_PROMPTS}"
    return [Table(heading, ["", *organs, "mean"], lines, bold="mean")] if lines else []


def ablation(document: Document) -> list[Table]:
    """Dice against the number of background points, with and without the method's parts."""
    records = ablation_records(document)
    ways = by_way(records)
    tables = []
    for way, mine in ways.items():
        parts = sorted({parts_of(r) for r in mine}, reverse=True)
        lines = []
        for points in sorted({record["ablation"]["points"] for record in mine}):
            cells = [str(points)]
            for combination in parts:
                part = [
                    r
                    for r in mine
                    if (r["ablation"]["points"], parts_of(r)) == (points, combination)
                ]
                cells.append(percent(overall(document, part, "dice")) if part else NONE)
            lines.append(Line(cells, "tool"))
        heading = f"Ablation, {way.models}"
        header = ["Background points", *(parts_named(part) for part in parts)]
        tables.append(Table(heading, header, lines, AT_TEST_TIME))
    return tables


def parts_of(record: Row) -> tuple[bool, bool]:
    """Whether an ablated method had (refinement, context)."""
    return record["ablation"]["refinement"], record["ablation"]["context"]


def parts_named(parts: tuple[bool, bool]) -> str:
    """What tables and figures call a method with or without (refinement, context)."""
    refinement, context = parts
    return f"{'' if refinement else 'no '}refinement, {'' if context else 'no '}context"
