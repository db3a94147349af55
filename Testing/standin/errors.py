"""Exceptions of handlers and overridden methods: Qt cannot pass them on, a test asks for them."""

from __future__ import annotations

import traceback

caught: list[BaseException] = []


def record(error: BaseException) -> None:
    """Keep an exception raised in a slot, as PythonQt prints it and goes on."""
    if error not in caught:
        traceback.print_exception(error)
        caught.append(error)


def raise_caught() -> None:
    """Raise the first exception since the last call, if there was one."""
    if not caught:
        return
    first, number = caught[0], len(caught)
    caught.clear()
    if number > 1:
        print(f"({number - 1} more exceptions followed; see above)")
    raise first
