"""Keys of the review, there only while the module is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer.util


class Shortcuts:
    """Keys that call something; other modules may use the same ones."""

    def __init__(self, acts: Mapping[str, Callable[[], None]]) -> None:
        self._acts = dict(acts)
        self._shortcuts: list[Any] = []

    def add(self) -> None:
        """Listen to the keys."""
        if self._shortcuts:
            return
        for key, act in self._acts.items():
            shortcut = qt.QShortcut(slicer.util.mainWindow())
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", act)
            self._shortcuts.append(shortcut)

    def remove(self) -> None:
        """Listen no more, and leave nothing behind."""
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
