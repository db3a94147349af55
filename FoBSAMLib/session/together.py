"""Several ways at once, each in a thread of its own, with one fixed order of results.

NumPy, SciPy, SimpleITK and torch let other threads run while they compute, and half of what a slice
needs keeps one core busy only: two threads take little more than half the time of one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

T = TypeVar("T")

#: Asked again and again whether to stop.
Cancel = Callable[[], bool]

#: Ways followed at once.
WAYS = 2
#: How often ``cancel`` is asked while a result is waited for, in seconds.
POLL = 0.02
_END = object()


def together(
    ways: Callable[[Cancel], Iterable[Iterator[T]]], cancel: Cancel, *, threaded: bool
) -> Iterator[T]:
    """What the ways give, from `WAYS` of them in turn; where one has ended the next one begins.

    Args:
        ways: makes them; they ask between slices what it is called with, and end where it is True.
        cancel: the same question of this function's caller, asked in the caller's thread alone.
        threaded: each way runs in a thread, ahead of what is taken from it. If not, it goes on as
            its results are taken; their order is the same.

    Raises:
        Whatever a way raises, once the others have ended.
    """
    if not threaded:
        yield from _in_turn(iter(ways(cancel)), cancel)
        return
    ended = threading.Event()
    with ThreadPoolExecutor(WAYS) as pool:
        try:
            running = (_ahead(way, pool, cancel) for way in ways(ended.is_set))
            yield from _in_turn(running, cancel)
        finally:
            ended.set()


def _in_turn(ways: Iterator[Iterator[T]], cancel: Cancel) -> Iterator[T]:
    running: deque[Iterator[T]] = deque()
    while not cancel():
        while len(running) < WAYS and (way := next(ways, None)) is not None:
            running.append(way)
        if not running:
            return
        way = running.popleft()
        for item in way:
            yield item
            running.append(way)
            break


def _ahead(way: Iterator[T], pool: ThreadPoolExecutor, cancel: Cancel) -> Iterator[T]:
    """The same results, of a way that a thread of the pool has begun to run."""
    items: SimpleQueue[object] = SimpleQueue()

    def run() -> None:
        for item in way:
            items.put(item)

    running = pool.submit(run)
    running.add_done_callback(lambda _: items.put(_END))
    return _taken(items, running, cancel)


def _taken(items: SimpleQueue[object], running: Future[None], cancel: Cancel) -> Iterator[T]:
    while True:
        try:
            item = items.get(timeout=POLL)
        except Empty:
            if cancel():
                return
            continue
        if item is _END:
            running.result()  # raises what the way raised
            return
        yield cast(T, item)
