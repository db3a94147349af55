"""The document of an evaluation as figures: SVG for the page of `report`.

Lines and letters take the colour of the text around them, so that a figure can be read on a
light page and on a dark one; the background is the page's.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from FoBSAMLib.evaluation import published
from FoBSAMLib.evaluation.confidence import (
    BAD,
    SEEN,
    Slices,
    bad_seen,
    collect,
    reliability,
    risk_coverage,
)
from FoBSAMLib.evaluation.metrics import summarise
from FoBSAMLib.evaluation.records import (
    DONE,
    Document,
    Row,
    Way,
    ablation_records,
    after,
    by_way,
    counts,
    is_interactive,
    main_records,
    names,
    organs_of,
    overall,
    published_rows,
    values,
)
from FoBSAMLib.evaluation.tables_dice import comparison
from FoBSAMLib.evaluation.tables_study import AT_TEST_TIME, BY_CONSTRUCTION, parts_named, parts_of

#: Stands for the page's own colour in what matplotlib draws, and is replaced by it.
INK = "#010203"
#: Told apart on white, on black and without colour vision (Okabe and Ito, the tool's blue first).
COLORS = ("#2f7fd6", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a8f98")
MARKERS = "osD^vPX"
#: Letters in a line of a legend, and organs whose names fit side by side.
LABEL_WIDTH, MANY_ORGANS = 34, 7
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A figure for the page: ``svg`` is a whole ``<svg>`` element."""

    title: str
    caption: str
    svg: str


def build(document: Document) -> list[Plot]:
    """Every figure that the document's records can fill."""
    records = main_records(document)
    if not records:
        return []
    return [
        _volumes(document, after(document, records, 1)),
        *_effort(document, records),
        *_confidence(document, after(document, records, 1)),
        *_ablation(document),
        _time(document, after(document, records, 1)),
    ]


def _volumes(document: Document, records: list[Row]) -> Plot:
    """Dice of every volume, organ by organ, a column of points for each way."""
    ways = _shown(document, records)
    named = _labels(records)
    organs = organs_of(document, records)
    best = [row for row in published_rows(document) if row.method == published.BEST]
    if is_interactive(document):
        best = []

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        step = 0.8 / len(ways)
        for number, (way, mine) in enumerate(ways.items()):
            color, marker = _look(number)
            for place, organ in enumerate(organs):
                dice = 100 * np.array(values(mine, "dice", organ))
                if not dice.size:
                    continue
                centre = place + (number - (len(ways) - 1) / 2) * step
                # Side by side in the order of subjects, so that equal values do not hide.
                aside = np.linspace(-0.3, 0.3, dice.size) * step if dice.size > 1 else 0.0
                axes.scatter(
                    centre + aside,
                    dice,
                    s=18 if dice.size < 50 else 4,
                    color=color,
                    marker=marker,
                    alpha=0.9,
                    linewidths=0,
                    label=named[way] if place == 0 else None,
                )
                axes.hlines(dice.mean(), centre - 0.42 * step, centre + 0.42 * step, color, lw=2)
        for row in best:
            shown = [
                (place, row.dice[organ]) for place, organ in enumerate(organs) if organ in row.dice
            ]
            axes.hlines(
                [figure for _, figure in shown],
                [place - 0.45 for place, _ in shown],
                [place + 0.45 for place, _ in shown],
                INK,
                "dashed",
                lw=1,
                label=f"published {row.method}",
            )
        axes.set(xticks=range(len(organs)), ylabel="Dice ×100", ylim=(-2, 102))
        crowded = len(organs) > MANY_ORGANS
        axes.set_xticklabels(
            [textwrap.fill(organ, LABEL_WIDTH) for organ in organs],
            rotation=40 if crowded else 0,
            ha="right" if crowded else "center",
        )
        axes.grid(visible=False, axis="x")
        _legend(figure, axes)

    caption = "Each point is a volume, each bar the mean of an organ."
    if len(counts(document)) > 1:
        caption += " One annotated slice."
    caption += _left_out(records, ways)
    if best:
        caption = f"{caption} {comparison(document, records)}".strip()
    return _plot("Dice by volume", caption, (9.5, 4.6), draw)


def _effort(document: Document, records: list[Row]) -> Iterator[Plot]:
    """Dice against the number of annotated slices."""
    numbers = list(counts(document))
    if len(numbers) < 2:
        return
    ways = _shown(document, records)
    named = _labels(records)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(100 * DONE, color=INK, lw=1, ls="dashed", alpha=0.6)
        for number, (way, mine) in enumerate(ways.items()):
            color, marker = _look(number)
            summaries = [
                overall(document, after(document, mine, count), "dice") for count in numbers
            ]
            mean = 100 * np.array([summary.mean for summary in summaries])
            spread = 100 * np.array([summary.std for summary in summaries])
            axes.plot(numbers, mean, color=color, marker=marker, label=named[way])
            if way.is_ours:
                axes.fill_between(numbers, mean - spread, mean + spread, color=color, alpha=0.15)
        axes.set(xlabel="annotated slices", ylabel="Dice ×100")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, axes)

    caption = "Mean over subjects; the band is the standard deviation. Dashed: 90."
    caption += _left_out(records, ways)
    yield _plot("Dice against annotated slices", caption, (9.5, 4.2), draw)


def _confidence(document: Document, records: list[Row]) -> Iterator[Plot]:
    """How true the confidence is, and what a look at the least sure slices brings."""
    ways = by_way(records)
    slices = {way: collect(mine) for way, mine in ways.items()}
    slices = {way: mine for way, mine in slices.items() if mine.dice.size}
    slices = dict(list(slices.items())[: len(COLORS)])
    if not slices:
        return
    named = _labels(records)
    scope = "Query slices with the organ, or where it was found"
    scope += "; one annotated slice." if len(counts(document)) > 1 else "."

    def draw_reliability(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=INK, lw=1, ls="dashed", alpha=0.6)
        for number, (way, mine) in enumerate(slices.items()):
            color, marker = _look(number)
            bins = reliability(mine)
            sure, good = [part.confidence for part in bins], [part.good for part in bins]
            axes.plot(sure, good, color=color, marker=marker, label=named[way])
        axes.set(xlabel="mean confidence", ylabel=f"share of slices with Dice ≥ {BAD}")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        _legend(figure, axes)

    caption = f"{scope} Ten bins of as many slices each; on the dashed line the confidence is true."
    caption += f" {BY_CONSTRUCTION.replace('*', '')}"
    yield _plot("Is the confidence true", caption, (6.4, 4.4), draw_reliability)

    def draw_looks(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for number, (way, mine) in enumerate(slices.items()):
            color, _ = _look(number)
            _draw_looks(left, right, mine, color, named[way])
        left.set(xlabel="share of slices taken without a look", ylabel="share of these bad")
        left.set(xlim=(0, 1), ylim=(0, None))
        right.set(xlabel="share of slices looked at", ylabel="share of bad slices seen")
        right.set(xlim=(0, 1), ylim=(0, 1.02))
        right.axhline(SEEN, color=INK, lw=1, ls="dashed", alpha=0.6)
        _legend(figure, left)

    caption = (
        f"{scope} Bad: Dice below {BAD}. Left: surest first; dotted, the share of all that are "
        "bad. Right: least sure first; dotted, looking in any order; dashed, 90 %."
    )
    yield _plot("Which slices to look at", caption, (9.5, 3.9), draw_looks)


def _draw_looks(left: Axes, right: Axes, slices: Slices, color: str, label: str) -> None:
    left.plot(*risk_coverage(slices), color=color, label=label)
    left.axhline(float(slices.bad.mean()), color=color, lw=1, ls="dotted")
    looked, seen = bad_seen(slices)
    right.plot(np.append(0, looked), np.append(0, seen), color=color)
    right.plot([0, 1], [0, 1], color=INK, lw=1, ls="dotted", alpha=0.6)


def _ablation(document: Document) -> Iterator[Plot]:
    """Dice against the number of background points, a line for each set of parts."""
    ways = by_way(ablation_records(document))
    for way, mine in ways.items():

        def draw(figure: Figure, mine: list[Row] = mine) -> None:
            axes = figure.subplots()
            parts = sorted({parts_of(record) for record in mine}, reverse=True)
            for number, combination in enumerate(parts):
                color, marker = _look(number)
                line = [
                    (points, 100 * summarise(r["dice"] for r in records).mean)
                    for points, records in _by_points(mine, combination)
                ]
                label = parts_named(combination)
                axes.plot(*zip(*line, strict=True), color=color, marker=marker, label=label)
            axes.set(xlabel="background points", ylabel="Dice ×100")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            _legend(figure, axes)

        caption = f"Mean over volumes and organs. {AT_TEST_TIME}"
        yield _plot(f"Ablation, {way.models}", caption, (9.5, 3.9), draw)


def _by_points(records: list[Row], parts: tuple[bool, bool]) -> Iterator[tuple[int, list[Row]]]:
    mine = [record for record in records if parts_of(record) == parts]
    for points in sorted({record["ablation"]["points"] for record in mine}):
        yield points, [record for record in mine if record["ablation"]["points"] == points]


def _time(document: Document, records: list[Row]) -> Plot:
    """Seconds a volume and organ, a bar for each way."""
    ways = by_way(records)
    named = _labels(records, 2 * LABEL_WIDTH)
    lines = max(name.count("\n") + 1 for name in named.values())

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        seconds = [summarise(r["seconds"] for r in mine).mean for mine in ways.values()]
        colors = [COLORS[0] if way.is_ours else COLORS[-1] for way in ways]
        places = np.arange(len(ways))[::-1]
        axes.barh(places, seconds, 0.6, color=colors)
        for place, value in zip(places, seconds, strict=True):
            axes.annotate(
                f"{value:.1f}" if value >= 0.1 else f"{1000 * value:.0f} ms",
                (value, place),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set(yticks=places, xlabel="seconds a volume and organ")
        axes.set_yticklabels([named[way] for way in ways])
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")

    machine = document["machine"]
    caption = (
        f"Wall-clock, {machine['jobs']} at a time with {machine['threads']} threads each; "
        f"device {document['question']['device']}."
    )
    return _plot("Time", caption, (9.5, 1.0 + (0.12 + 0.18 * lines) * len(ways)), draw)


def _shown(document: Document, records: list[Row]) -> dict[Way, list[Row]]:
    """Ways that get a colour: the tool's, then the best others; baselines with their own rule of
    presence. In the order of the tables."""
    ways = by_way(records)
    own = {way: mine for way, mine in ways.items() if way.presence != "tool"} or ways
    ranked = sorted(
        own, key=lambda way: (not way.is_tool, -overall(document, own[way], "dice").mean)
    )
    chosen = ranked[: len(COLORS)]
    return {way: mine for way, mine in own.items() if way in chosen}


def _left_out(records: list[Row], ways: dict[Way, list[Row]]) -> str:
    """What a caption says of the ways that are not shown."""
    missing = len(by_way(records)) - len(ways)
    return f" {missing} further rows of the table are not shown." if missing else ""


def _labels(records: list[Row], width: int = LABEL_WIDTH) -> dict[Way, str]:
    """What figures call each way, in lines that leave room for them."""
    named = names(by_way(records))
    return {way: textwrap.fill(name, width, break_on_hyphens=False) for way, name in named.items()}


def _look(number: int) -> tuple[str, str]:
    """Colour and marker of the n-th way."""
    return COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]


def _legend(figure: Figure, axes: Axes) -> None:
    """What the colours mean, beside the axes, where more than one thing is drawn."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside right upper", fontsize=9)


def _plot(
    title: str, caption: str, size: tuple[float, float], draw: Callable[[Figure], None]
) -> Plot:
    """Draw on a figure of ``size`` inches, and have it as SVG that a page can hold."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return Plot(title, caption, _for_page(buffer.getvalue(), size))


def _for_page(svg: str, size: Sequence[float]) -> str:
    """The ``<svg>`` element alone, in the page's colour, no wider than drawn and than the page."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of groups are the same in every figure, and nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    style = f'role="img" style="width: 100%; max-width: {size[0]:g}in; height: auto"'
    return (
        re.sub(r' width="[^"]*"| height="[^"]*"', "", svg[: svg.index(">")]).replace(
            "<svg", f"<svg {style}", 1
        )
        + svg[svg.index(">") :]
    )
