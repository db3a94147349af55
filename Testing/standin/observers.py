"""VTK observers of Qt widgets: they end with the widget, and hold nothing alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
import vtk

from . import errors


class Observers:
    """The observers of one widget, a PySide6 object."""

    def __init__(self, widget: Any) -> None:
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[Any, int]] = []

    def add(self, subject: Any, events: tuple[int, ...], method: Callable) -> None:
        """Call `method(widget, call_data)` at these events; the data is a node or None."""
        if subject is None:
            return
        for event in events:
            self._tags.append((subject, subject.AddObserver(event, self._callback(method))))

    def clear(self) -> None:
        """Stop observing."""
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()

    def _callback(self, method: Callable) -> Callable:
        reference = weakref.ref(self)

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def called(caller: Any, event: str, data: Any = None) -> None:
            me = reference()
            widget = me._widget() if me is not None else None
            if widget is None or not shiboken6.isValid(widget):
                return
            try:
                method(widget, data)
            except Exception as error:
                errors.record(error)

        return called
