"""The files a run of ``fobsam segment`` writes, checked before anything is computed."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import atomic_path, check_output

if TYPE_CHECKING:
    from FoBSAMLib.image.volume import Volume
    from FoBSAMLib.session.oneshot import OneShot

#: Formats of a figure (drawn by `FoBSAMLib.session.figure`).
DRAWABLE = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Outputs:
    """The files that hold what is found in one image."""

    segmentation: Path
    report: Path | None = None
    figure: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(f for f in (self.segmentation, self.report, self.figure) if f is not None)

    def check_fits(self, volume: Volume) -> None:
        """Raise FoBSAMError if what is found in ``volume`` does not fit the format: PNG is 2-D, a
        DICOM segmentation needs a DICOM image."""
        check_output(self.segmentation, volume)
        count = volume.slice_count("k")
        if self.segmentation.suffix.lower() == ".png" and count > 1:
            raise FoBSAMError(
                "bad_request",
                f"{self.segmentation.name} holds one slice, and {volume.name} has {count}.",
                "Write .seg.nrrd or .nii.gz.",
            )

    def write(self, result: OneShot) -> None:
        """Write the files, each whole or not at all; raises FoBSAMError (``unwritable``)."""
        result.write(self.segmentation)
        if self.report is not None:
            write_json(self.report, result.report())
        if self.figure is not None:
            from FoBSAMLib.session.figure import save_figure

            save_figure(result, self.figure)


def plan(
    image: Path,
    support: Path,
    output: Path,
    queries: Sequence[Path],
    report: Path | None,
    figure: Path | None,
) -> list[tuple[Path, Outputs]]:
    """What to segment, and where to write what is found.

    Without queries that is ``image`` to ``output``. With queries it is each of them, to
    ``output/NAME.seg.nrrd``; NAME also goes into the report's and figure's names when there
    are several queries.
    Raises FoBSAMError, before any work is done, for whatever could not be written at the end:
    folders missing or read-only, unknown formats, two queries of one name, a file that is read.
    """
    jobs = [(image, Outputs(output, report, figure))]
    if queries:
        jobs = _one_a_query(output, queries, report, figure)
    inputs = [image, support, *queries]
    files = [file for _, outputs in jobs for file in outputs.files]
    if len(set(files)) < len(files):
        raise FoBSAMError(
            "bad_request", "Two outputs have the same name.", "Give each a name of its own."
        )
    for _, outputs in jobs:
        _check_format(outputs.report, (".json",), "report")
        _check_format(outputs.figure, DRAWABLE, "figure")
    for file in files:
        _check_not_input(file, inputs)
    for _, outputs in jobs:
        check_output(outputs.segmentation)
        for file in outputs.files[1:]:
            _check_writable(file)
    return jobs


def image_name(image: Path) -> str:
    """What an image is called by, without the ends of a file's name; a folder keeps its dots, as
    in DICOM's numbers, and a link is called as it is, not as what it leads to."""
    name = Path(os.path.abspath(image)).name
    return name if image.is_dir() else Path(name.removesuffix(".gz")).stem


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _one_a_query(
    folder: Path, queries: Sequence[Path], report: Path | None, figure: Path | None
) -> list[tuple[Path, Outputs]]:
    if not folder.is_dir():
        raise FoBSAMError(
            "unwritable",
            f"With --query the output is a folder, and {folder} is none.",
            "Create it first.",
        )
    for query in queries:
        if not query.exists():
            raise FoBSAMError(
                "unreadable", f"There is no file or folder {query}.", "Check the path."
            )
    names = [image_name(query) for query in queries]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise FoBSAMError(
            "bad_request",
            f"Several queries are named {twice[0]}: their results would have one name too.",
            "Rename one, or segment them one by one.",
        )
    several = len(queries) > 1
    return [
        (
            query,
            Outputs(
                folder / f"{name}.seg.nrrd",
                _with_name(report, name) if several else report,
                _with_name(figure, name) if several else figure,
            ),
        )
        for query, name in zip(queries, names, strict=True)
    ]


def _with_name(path: Path | None, name: str) -> Path | None:
    return path and path.with_name(f"{path.stem}-{name}{path.suffix}")


def _check_format(path: Path | None, formats: tuple[str, ...], what: str) -> None:
    if path is not None and not path.name.lower().endswith(formats):
        raise FoBSAMError(
            "bad_request",
            f"A {what} cannot be written as {path.name}.",
            f"Use {', '.join(formats)}.",
        )


def _check_not_input(path: Path, inputs: Sequence[Path]) -> None:
    if path.exists() and any(i.exists() and path.samefile(i) for i in inputs):
        raise FoBSAMError(
            "bad_request", f"{path} is read by this very command.", "Choose another name."
        )


class _ProbeError(Exception):
    """Leaves `atomic_path` without writing."""


def _check_writable(path: Path) -> None:
    with contextlib.suppress(_ProbeError), atomic_path(path):
        raise _ProbeError
