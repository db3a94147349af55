"""The document of an evaluation as one HTML page that needs nothing else to be read.

Pictures of the worst slices are in the page, and as PNG files in a folder beside it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, Template
from markupsafe import Markup, escape

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import figures, tables
from FoBSAMLib.evaluation.confidence import collect, judge, volume_warning
from FoBSAMLib.evaluation.metrics import summarise
from FoBSAMLib.evaluation.origins import coverage, remarks, way_to_compare
from FoBSAMLib.evaluation.pictures import Picture, draw, worst
from FoBSAMLib.evaluation.published import BEST
from FoBSAMLib.evaluation.records import (
    MISSED,
    Document,
    Row,
    Way,
    after,
    by_way,
    cases,
    counts,
    headline_way,
    is_published_protocol,
    main_records,
    names,
    organs_of,
    overall,
    published_rows,
    slices_needed,
)
from FoBSAMLib.evaluation.table import percent, signed
from FoBSAMLib.image.io import atomic_path

#: Pictures of a page.
WORST = 12
TEMPLATE = Path(__file__).with_name("report.html.jinja")


class Tile(NamedTuple):
    """One figure of the summary."""

    name: str
    value: str
    remark: str


def write_html(document: Document, path: str | Path, pictures: Sequence[Picture]) -> None:
    """Write the page, and the worst of ``pictures`` as PNG into ``<name>_files`` beside it.

    Raises FoBSAMError (``unwritable``) where that cannot be done.
    """
    path = Path(path)
    drawn = [(_file_name(n, p), p, draw(p)) for n, p in enumerate(worst(pictures, WORST), 1)]
    folder = path.with_name(f"{path.stem}_files")
    _write_pictures(folder, {name: data for name, _, data in drawn})
    page = _template().render(
        title=tables.title(document),
        about=tables.about(document),
        tiles=summary(document),
        tables=tables.build(document),
        plots=figures.build(document),
        pictures=[
            {
                "href": quote(f"{folder.name}/{name}"),
                "data": base64.b64encode(data).decode(),
                "caption": f"{picture.where}, {picture.how_well}",
            }
            for name, picture, data in drawn
        ],
        command=document["command"],
        facts=list(_facts(document)),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def summary(document: Document) -> list[Tile]:
    """The figures to read first: those of the tool as first named."""
    records = main_records(document)
    best = headline_way(records)
    if best is None:
        return []
    numbers = counts(document)
    start = by_way(after(document, records, 1))
    mine = start[best]
    mean = overall(document, mine, "dice")
    remark = f"organs: {len(mine)}, of subjects: {len({r['subject'] for r in mine})}"
    remark = "; ".join([remark, *_limits(document, best)])
    tiles = [
        Tile("Dice" + (", one annotated slice" if len(numbers) > 1 else ""), percent(mean), remark)
    ]
    if len(numbers) > 1:
        tiles.append(_effort_tile(document, by_way(records)[best]))
    tiles += _others(document, start, mean.mean)
    tiles += _warnings(mine)
    quality = judge(collect(mine))
    if quality and quality.auroc is not None:
        remark = (
            f"of the confidence; look at {100 * quality.look:.0f} % to see 90 % of the bad "
            f"slices, {100 * quality.bad:.0f} % are bad"
        )
        tiles.append(Tile("AUROC", f"{quality.auroc:.3f}", remark))
    seconds = summarise(record["seconds"] for record in mine)
    tiles.append(Tile("Time", f"{seconds.mean:.1f} s", "a volume and organ"))
    return tiles


def _effort_tile(document: Document, records: list[Row]) -> Tile:
    last = counts(document)[-1]
    reached = [slices_needed(case) for case in cases(records)]
    done = sum(number is not None for number in reached)
    remark = f"{done} of {len(reached)} organs reached 90 on the way"
    mean = percent(overall(document, after(document, records, last), "dice"))
    return Tile(f"Dice, {last} annotated slices", mean, remark)


def _others(document: Document, ways: dict[Way, list[Row]], tool: float) -> Iterator[Tile]:
    """The strongest baseline, and what was published."""
    others = {
        way: overall(document, mine, "dice").mean for way, mine in ways.items() if not way.is_ours
    }
    if others:
        strongest = max(others, key=others.__getitem__)
        remark = f"{names(ways)[strongest]} has {100 * others[strongest]:.1f}"
        yield Tile("Against the best baseline", signed(tool - others[strongest]), remark)
    records = [record for mine in ways.values() for record in mine]
    beside = way_to_compare(document, records)
    for row in published_rows(document) if is_published_protocol(document) else ():
        theirs = row.over(organs_of(document, records))
        if row.method == BEST and theirs is not None and beside is not None:
            ours = overall(document, ways[beside], "dice").mean
            remark = f"published {row.method} has {theirs:.2f}"
            if beside != headline_way(records):
                remark = f"of {names(ways)[beside]}; {remark}"
            remark = "; ".join([remark, *_limits(document, beside)])
            yield Tile("Against the published", signed(ours - theirs / 100, 2), remark)


def _limits(document: Document, way: Way) -> list[str]:
    """What keeps a way's figure from being compared with published ones."""
    return [*remarks(document, way), *filter(None, [coverage(document)])]


def _warnings(records: list[Row]) -> Iterator[Tile]:
    missed = [record for record in records if record["dice"] < MISSED]
    remark = "of organs"
    if all(record.get("slices") for record in records):
        unwarned = sum(not volume_warning(record) for record in missed)
        warned = sum(map(volume_warning, records))
        remark = f"{unwarned} of them without a warning; {warned} warnings in all"
    yield Tile("Dice under 50", f"{len(missed)} of {len(records)}", remark)


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    """Everything else that the document says of the run."""
    models = document.get("models") or {}
    for label, several in models.get("generators", {}).items():
        for weights in several:
            # Whom they serve is in the tables already.
            told = {name: value for name, value in weights.items() if name != "serves"}
            yield f"generator {label}", _joined(told)
    for label, weights in models.get("segmenters", {}).items():
        yield f"segmenter {label}", _joined(weights)
    for part in ("versions", "machine", "cost", "question"):
        if part in document:
            yield part, _joined(document[part])


def _joined(values: dict[str, Any]) -> str:
    """Names and values in one line, those without a value left out."""
    pairs = ((name.replace("_", " "), value) for name, value in values.items())
    return "; ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in pairs
        if value not in (None, "", [], {})
    )


def _write_pictures(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files, and take away those that an earlier page had."""
    if not files and not folder.is_dir():
        return
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("worst_*.png"):
            if old.name not in files:
                old.unlink()
    except OSError as error:
        raise FoBSAMError(
            "unwritable", f"{folder} cannot be written ({error}).", "Write the page elsewhere."
        ) from error
    for name, data in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(data)


def _file_name(number: int, picture: Picture) -> str:
    """A name of plain letters, whatever the organ is called."""
    organ = re.sub(r"[^a-z0-9]+", "_", picture.organ.lower()).strip("_")
    return f"worst_{number:02}_{picture.subject}_{organ}_{picture.index}.png"


def _marked(text: str) -> Markup:
    """Text with its Markdown emphasis, everything else escaped."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"\*(.+?)\*", r"<em>\1</em>", marked))


def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = _marked
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
