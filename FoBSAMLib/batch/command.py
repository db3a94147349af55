"""`fobsam batch`: many images in, segmentations and a table out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from FoBSAMLib.batch.cases import Case, Drawing, Options, find_cases
from FoBSAMLib.batch.outcome import Outcome, write_summary
from FoBSAMLib.errors import FoBSAMError

if TYPE_CHECKING:
    from FoBSAMLib.batch.cluster import Resources

#: Seconds from one writing of the table to the next.
INTERVAL = 5.0

#: Called with cases done, cases in all, and the one just done (None at the start).
Progress = Callable[[int, int, "Outcome | None"], None]


def run(
    source: str | Path,
    output: str | Path,
    drawings: Sequence[Drawing] = (),
    options: Options | None = None,
    *,
    workers: int = 1,
    ray: str | None = None,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Segment the images of a folder or a CSV list; see `find_cases`, which also says what is
    refused before anything begins.

    The folder ``output`` is made if need be; it gets a segmentation and a report for each case,
    and ``summary.csv``, written now and then and at the end, Ctrl-C included. ``workers`` are
    processes here, or actors on the Ray cluster at the address ``ray``, which take ``resources``
    each. A case that fails says so in its outcome; outcomes come back in the order of the cases.
    Raises FoBSAMError also where no worker can start.
    """
    folder = Path(output).absolute()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FoBSAMError(
            "unwritable",
            f"The folder {folder} cannot be made: {error.strerror}.",
            "Choose another.",
        ) from error
    cases = find_cases(Path(source), drawings, folder)
    outcomes = _outcomes(cases, options or Options(), workers, ray, resources)
    done: dict[str, Outcome] = {}
    written = time.monotonic()
    if progress:
        progress(0, len(cases), None)
    try:
        with closing(outcomes):
            for outcome in outcomes:
                done[outcome.case] = outcome
                if progress:
                    progress(len(done), len(cases), outcome)
                if time.monotonic() - written > INTERVAL:
                    write_summary(folder, _in_order(cases, done))
                    written = time.monotonic()
    finally:
        if done:
            write_summary(folder, _in_order(cases, done))
    return _in_order(cases, done)


def _outcomes(
    cases: Sequence[Case],
    options: Options,
    workers: int,
    address: str | None,
    resources: Resources | None,
) -> Generator[Outcome, None, None]:
    if address is None:
        from FoBSAMLib.batch.local import run_local

        return run_local(cases, options, workers)
    from FoBSAMLib.batch.cluster import Resources, run_ray

    return run_ray(cases, options, workers, address, resources or Resources())


def _in_order(cases: Sequence[Case], done: dict[str, Outcome]) -> list[Outcome]:
    return [done[case.name] for case in cases if case.name in done]
