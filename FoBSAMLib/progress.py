"""Progress on stderr: a bar with the time left, or a plain line now and then without a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

#: Seconds from one plain line to the next.
PLAIN_INTERVAL = 10.0

ProgressCallback = Callable[..., None]


@contextlib.contextmanager
def show_progress(what: str) -> Iterator[ProgressCallback]:
    """A callback ``(done, total, …)`` that shows how far the work on ``what`` is."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(what, console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    left = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, left, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def update(done: int, total: int, *_: object) -> None:
            bar.update(task, completed=done, total=total)

        yield update


def _plain_lines(what: str, console: Console) -> ProgressCallback:
    start = last = time.monotonic()

    def update(done: int, total: int, *_: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL and done:
            last = now
            left = (now - start) / done * (total - done)
            console.print(f"{what}: {done} of {total}, {left:.0f} s left", highlight=False)

    return update
