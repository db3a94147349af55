"""Short forms for the widgets of CTK and MRML: classes of PySide6 with Qt properties and signals.

As in Slicer, Python sees of such a class its properties, its signals and what its header marks as
slots or invokable; those are the methods without underscore.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore


def stored(kind: Any, name: str, default: Any, changed: Callable | None = None) -> QtCore.Property:
    """A property that keeps its value; `changed(self)` is called after it got another one."""
    key = f"_stored_{name}"

    def read(self: Any) -> Any:
        return getattr(self, key, default)

    def write(self: Any, value: Any) -> None:
        if value != read(self):
            setattr(self, key, value)
            if changed is not None:
                changed(self)

    return QtCore.Property(kind, read, write)


def forwarded(kind: Any, child: str, name: str) -> QtCore.Property:
    """A property of an inner widget, `child`, shown on the outer one."""
    setter = f"set{name[0].upper()}{name[1:]}"

    def read(self: Any) -> Any:
        return getattr(getattr(self, child), name)()

    def write(self: Any, value: Any) -> None:
        getattr(getattr(self, child), setter)(value)

    return QtCore.Property(kind, read, write)
