"""Progress on stderr: a bar with the time left, or a plain line now and then without a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

#: Seconds from one plain line to the next.
PLAIN_INTERVAL = 10.0

ProgressCallback = Callable[..., None]


def show_bytes(what: str) -> contextlib.AbstractContextManager[ProgressCallback]:
    """As `show_progress`, for bytes."""
    return show_progress(what, DownloadColumn())


@contextlib.contextmanager
def show_progress(what: str, count: ProgressColumn | None = None) -> Iterator[ProgressCallback]:
    """A callback ``(done, total, …)`` that shows how far the work on ``what`` is; called with
    ``doing``, it shows what is being done meanwhile, ``done`` and ``total`` as they were."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(what, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), count or MofNCompleteColumn())
    left = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, left, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(
            done: int | None = None, total: int | None = None, *_: object, doing: str = ""
        ) -> None:
            text = f"{what}, {doing}" if doing else what
            bar.update(task, completed=done, total=total, description=escape(text))

        yield update


def _plain_lines(what: str, console: Console) -> ProgressCallback:
    start = last = time.monotonic()

    def update(done: int = 0, total: int = 0, *_: object, doing: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_INTERVAL or not (done or doing):
            return
        last = now
        left = f"{done} of {total}, {(now - start) / max(done, 1) * (total - done):.0f} s left"
        console.print(f"{what}: {doing or left}", highlight=False, markup=False)

    return update
