"""Joins between widgets and parameters, for the pairs of classes and types Slicer knows."""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable
from typing import Any

import slicer

from . import ctk_widgets, qtmodule

qt, ctk = qtmodule.module, ctk_widgets.module
_LOWEST, _HIGHEST = -(2**31), 2**31 - 1


class Connector:
    """One widget and one parameter; `signal`, `read` and `write` are of the widget."""

    def __init__(
        self,
        name: str,
        signal: Any,
        read: Callable[[], Any],
        write: Callable[[Any], None],
    ) -> None:
        self.name = name
        self._signal, self.read, self.write = signal, read, write
        self._changed: Callable[[], None] | None = None

    def connect(self, changed: Callable[[], None]) -> None:
        """Call `changed()` when the user changes the widget."""
        # Called without the signal's arguments.
        self._changed = lambda: changed()
        self._signal.connect(self._changed)

    def disconnect(self) -> None:
        """Stop that."""
        self._signal.disconnect(self._changed)


def is_node(kind: Any) -> bool:
    """Whether a parameter's type is a class of nodes, or a typing.Union of some and None."""
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    nodes = [one for one in members if one is not type(None)]
    return all(isinstance(one, type) and issubclass(one, slicer.vtkMRMLNode) for one in nodes)


def node_classes(kind: Any) -> tuple[type, ...]:
    """The classes of nodes that such a type stands for."""
    members = typing.get_args(kind) or (kind,)
    return tuple(one for one in members if one is not type(None))


def connector(name: str, widget: Any, parameter: Any) -> Connector:
    """The join of a widget and a parameter; RuntimeError where Slicer has none."""
    kind, base = parameter.type, type(widget)
    if kind is bool and base in (qt.QCheckBox, qt.QPushButton):
        if not widget.checkable:
            widget.checkable = True
        signal = widget.stateChanged if base is qt.QCheckBox else widget.toggled
        return _attribute(name, widget, signal, "checked")
    if kind is int and base in (qt.QSpinBox, qt.QSlider):
        _bound(widget, parameter, base is qt.QSlider, (_LOWEST, _HIGHEST))
        return _attribute(name, widget, widget.valueChanged, "value")
    if kind is float and base in (qt.QDoubleSpinBox, ctk.ctkSliderWidget):
        endless = (float("-inf"), float("inf"))
        _bound(widget, parameter, base is ctk.ctkSliderWidget, endless)
        return _attribute(name, widget, widget.valueChanged, "value")
    if base is qt.QComboBox and kind in (str, int, float, bool):
        return _choice(name, widget, parameter)
    if base is qt.QComboBox and isinstance(kind, type) and issubclass(kind, enum.Enum):
        label = getattr(kind, "label", lambda member: member.name)
        return _combo(name, widget, [(label(member), member) for member in kind])
    if kind is str and base is qt.QLineEdit:
        return _attribute(name, widget, widget.textChanged, "text")
    if kind is str and base is qt.QTextEdit:
        read, write = widget.toPlainText, widget.setPlainText
        return Connector(name, widget.textChanged, read, write)
    if kind is pathlib.Path and base is ctk.ctkPathLineEdit:
        return _path(name, widget)
    if is_node(kind) and base is slicer.qMRMLNodeComboBox:
        # What the .ui file says is replaced. An abstract class raises, in Slicer as here.
        widget.nodeTypes = [one().GetClassName() for one in node_classes(kind)]
        signal = widget.currentNodeChanged
        return Connector(name, signal, widget.currentNode, widget.setCurrentNode)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to '{base}'")


def _attribute(name: str, widget: Any, signal: Any, attribute: str) -> Connector:
    """A join with a property of the widget."""
    return Connector(
        name,
        signal,
        lambda: getattr(widget, attribute),
        lambda value: setattr(widget, attribute, value),
    )


def _bound(widget: Any, parameter: Any, must: bool, widest: tuple[float, float]) -> None:
    """The widget's range is the annotation's, whatever the .ui file says."""
    low, high = widest
    bounded = 0
    for annotation in parameter.annotations:
        kind = type(annotation).__name__
        if kind in ("WithinRange", "Minimum"):
            low, bounded = annotation.minimum, bounded + 1
        if kind in ("WithinRange", "Maximum"):
            high, bounded = annotation.maximum, bounded + 1
        if kind in ("Decimals", "SingleStep"):
            setattr(widget, {"Decimals": "decimals"}.get(kind, "singleStep"), annotation.value)
    if must and bounded < 2:
        raise RuntimeError(f"{type(widget).__name__} needs a parameter with a range")
    widget.minimum = low
    widget.maximum = high


def _choice(name: str, widget: Any, parameter: Any) -> Connector:
    """A combo box of the values of Choice."""
    choices = [a.choices for a in parameter.annotations if type(a).__name__ == "Choice"]
    if not choices:
        raise RuntimeError(f"parameter {name}: a combo box needs the annotation Choice")
    return _combo(name, widget, [(str(choice), choice) for choice in choices[0]])


def _combo(name: str, widget: Any, items: list[tuple[str, Any]]) -> Connector:
    """A combo box filled with labels of values."""
    widget.clear()
    for label, _ in items:
        widget.addItem(label)
    values = [value for _, value in items]

    def write(value: Any) -> None:
        widget.currentIndex = values.index(value)

    return Connector(name, widget.currentIndexChanged, lambda: values[widget.currentIndex], write)


def _path(name: str, widget: Any) -> Connector:
    def write(value: pathlib.Path) -> None:
        widget.currentPath = str(value)

    signal = widget.currentPathChanged
    return Connector(name, signal, lambda: pathlib.Path(widget.currentPath), write)
