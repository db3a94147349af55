"""What became of a case, in short, and the table of all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from FoBSAMLib.image.io import atomic_path

SUMMARY = "summary.csv"
State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Outcome:
    """A case ``done``, ``skipped`` for being done before, or ``failed``.

    ``structures`` says of each in how many slices it was found; ``confidence`` is the mean over
    these slices, None where nothing was found.
    """

    case: str
    state: State
    structures: str = ""
    seconds: float | None = None
    confidence: float | None = None
    warnings: str = ""
    error: str = ""

    @property
    def fields(self) -> list[str]:
        """As the table has them."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        confidence = "" if self.confidence is None else f"{self.confidence:.2f}"
        return [
            self.case,
            self.state,
            self.structures,
            seconds,
            confidence,
            self.warnings,
            self.error,
        ]


HEADER = ["case", "state", "structures", "seconds", "mean confidence", "warnings", "error"]


def outcome_of(name: str, state: State, report: dict[str, Any]) -> Outcome:
    """The short form of a case's report."""
    found = {
        structure["name"]: [one for one in structure["slices"] if one["pixels"]]
        for structure in report["structures"]
    }
    confidences = [one["confidence"] for slices in found.values() for one in slices]
    return Outcome(
        name,
        state,
        ", ".join(f"{structure} {len(slices)}" for structure, slices in found.items()),
        report["seconds"],
        sum(confidences) / len(confidences) if confidences else None,
        " ".join(report["notes"]),
    )


def write_summary(folder: Path, outcomes: Iterable[Outcome]) -> None:
    """Write ``summary.csv``, whole or not at all; raises FoBSAMError (``unwritable``)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *(outcome.fields for outcome in outcomes)])
    with atomic_path(folder / SUMMARY) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as aligned lines; what is long, warnings and errors, comes last."""
    rows = [HEADER, *(outcome.fields for outcome in outcomes)]
    aligned = len(HEADER) - 2
    widths = [max(len(row[n]) for row in rows) for n in range(aligned)]
    lines = []
    for row in rows:
        start = [field.ljust(width) for field, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*start, *filter(None, row[aligned:])]).rstrip())
    return "\n".join(lines)
