"""VTK observers of Qt widgets: they end with the widget, and hold nothing alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
import slicer
import vtk

from . import errors

_NODE_EVENTS = (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)


def count(subject: Any) -> int:
    """How many observers an object has; nodes do not print them."""
    last = subject.AddObserver(vtk.vtkCommand.NoEvent, lambda caller, event: None)
    subject.RemoveObserver(last)
    return sum(subject.GetCommand(tag) is not None for tag in range(1, last))


class Observers:
    """The observers of one widget, a PySide6 object."""

    def __init__(self, widget: Any) -> None:
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[Any, int]] = []

    def add(self, subject: Any, events: tuple[int, ...], method: Callable) -> None:
        """Call `method(widget, node)` at these events; the node is what a scene got or lost."""
        if subject is None:
            return
        for event in events:
            called = self._callback(method)
            # Other events carry other data, which VTK would take for an object's address.
            if isinstance(subject, slicer.vtkMRMLScene) and event in _NODE_EVENTS:
                called = vtk.calldata_type(vtk.VTK_OBJECT)(called)
            self._tags.append((subject, subject.AddObserver(event, called)))

    def clear(self) -> None:
        """Stop observing."""
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()

    def _callback(self, method: Callable) -> Callable:
        reference = weakref.ref(self)

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
