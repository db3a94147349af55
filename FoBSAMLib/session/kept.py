"""Values made once, of which those used last are kept; for several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The values used last, up to a number and, of values that have ``nbytes``, to a size; at
    least one."""

    def __init__(self, most: int, most_bytes: int | None = None) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._values: OrderedDict[Any, Future[T]] = OrderedDict()
        self._lock = threading.Lock()

    def obtain(self, key: Any, make: Callable[[], T]) -> T:
        """The value; the thread that asks first makes it, others wait for it."""
        return self.obtain_all([key], lambda keys: [make()])

    def obtain_all(self, keys: Sequence[Any], make: Callable[[Sequence[Any]], Sequence[T]]) -> T:
        """The first key's value. Where it is missing, the others that are missing are made with it:
        ``make`` gives the values of such keys. What it raises, all that wait for them raise, and
        nothing of it is kept."""
        with self._lock:
            missing = [] if keys[0] in self._values else [k for k in keys if k not in self._values]
            made: dict[Any, Future[T]] = {key: Future() for key in missing}
            # The first last, so that it stays whatever the others take.
            for key in reversed(missing):
                self._values[key] = made[key]
            self._values.move_to_end(keys[0])
            future = self._values[keys[0]]
        if missing:
            self._make(made, make)
        return future.result()

    def _make(
        self,
        made: dict[Any, Future[T]],
        make: Callable[[Sequence[Any]], Sequence[T]],
    ) -> None:
        try:
            values = make(list(made))
        except BaseException as error:
            with self._lock:
                for key, future in made.items():
                    self._values.pop(key, None)
                    future.set_exception(error)
            raise
        for future, value in zip(made.values(), values, strict=True):
            future.set_result(value)
        with self._lock:
            while len(self._values) > 1 and (len(self._values) > self._most or self._too_large()):
                self._values.popitem(last=False)

    def _too_large(self) -> bool:
        if self._most_bytes is None:
            return False
        done = [future.result() for future in self._values.values() if future.done()]
        return sum(value.nbytes for value in done) > self._most_bytes  # type: ignore[attr-defined]
