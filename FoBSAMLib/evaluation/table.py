"""A table of text, ready to be written as Markdown or HTML, and how its figures are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from FoBSAMLib.evaluation.metrics import Summary

#: Where there is no figure.
NONE = "–"

Kind = Literal["tool", "baseline", "published"]


@dataclass(frozen=True)
class Line:
    """One row: a cell for each column, the first names what the row is of."""

    cells: Sequence[str]
    kind: Kind = "baseline"


@dataclass(frozen=True)
class Table:
    """``bold`` is the column whose cells stand out, but for those of published rows."""

    title: str
    header: Sequence[str]
    lines: Sequence[Line]
    note: str = ""
    bold: str = ""

    def markdown(self) -> str:
        """A heading, the note and the table, names escaped."""
        rule = ["---", *["--:"] * (len(self.header) - 1)]
        rows = [[_escape(cell) for cell in self.header], rule, *map(self._cells, self.lines)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        note = f"{self.note}\n\n" if self.note else ""
        return f"## {_escape(self.title)}\n\n{note}{table}\n"

    def _cells(self, line: Line) -> list[str]:
        cells = [_escape(cell) for cell in line.cells]
        if self.bold and line.kind != "published":
            column = list(self.header).index(self.bold)
            cells[column] = f"**{cells[column]}**"
        return cells


def percent(summary: Summary, digits: int = 1) -> str:
    """Mean ± standard deviation, ×100."""
    return f"{100 * summary.mean:.{digits}f} ± {100 * summary.std:.1f}"


def signed(difference: float, digits: int = 1) -> str:
    """A difference of shares, ×100, with its sign."""
    return f"{100 * difference:+.{digits}f}"


def listed(numbers: Iterable[object]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _escape(text: str) -> str:
    """Text that stays within its cell, and is no markup."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|")
