"""`slicer.parameterNodeWrapper`: typed values in a vtkMRMLScriptedModuleNode, joined to widgets.

Values are texts of the node, nodes are node references: they survive saving the scene. The types
are bool, int, float, str, paths, enums, nodes, unions of nodes and None, and lists of those.
As in Slicer, a wrapper observes its node to the node's end, for each parameter and for each time
that it is joined to widgets; so it lives as long.
"""

# ruff: noqa: N802, N803, N815 (Slicer's names)

from __future__ import annotations

import collections.abc
import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
import slicer.util
import vtk

from . import parameter_gui

PROPERTY = "SlicerParameterName"


@dataclass(frozen=True)
class Default:
    """The value of a parameter that was never set."""

    value: Any


class Validator:
    """Base of the annotations that check values."""

    def validate(self, value: Any) -> None:
        """Raise ValueError for a bad value."""


@dataclass(frozen=True)
class WithinRange(Validator):
    """From minimum to maximum, both included."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError outside."""
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


@dataclass(frozen=True)
class Minimum(Validator):
    """Not below."""

    minimum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError below."""
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass(frozen=True)
class Maximum(Validator):
    """Not above."""

    maximum: float

    def validate(self, value: Any) -> None:
        """Raise ValueError above."""
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


@dataclass(frozen=True)
class Choice(Validator):
    """One of these."""

    choices: list

    def validate(self, value: Any) -> None:
        """Raise ValueError for another."""
        if value not in self.choices:
            raise ValueError(f"{value!r} is not one of {self.choices}")


@dataclass(frozen=True)
class Decimals:
    """Decimals shown by the widget."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Step of the widget."""

    value: float


class ObservedList(collections.abc.MutableSequence):
    """A list whose changes go to the node at once; + and * are refused, as in Slicer."""

    def __init__(self, values: list, save: Callable[[list], None]) -> None:
        self._values, self._save = values, save

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index: Any) -> None:
        del self._values[index]
        self._save(self._values)

    def insert(self, index: int, value: Any) -> None:
        """Insert and save."""
        self._values.insert(index, value)
        self._save(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, ObservedList) else other)

    __hash__ = None

    def __add__(self, other: Any) -> Any:
        raise NotImplementedError("an ObservedList cannot be added to; make a list of it")

    __radd__ = __mul__ = __rmul__ = __add__

    def __repr__(self) -> str:
        return f"ObservedList({self._values})"


class Parameter:
    """One typed parameter: how it is checked, written and read."""

    def __init__(self, name: str, hint: Any, default: Any = None) -> None:
        self.name, self.hint = name, hint
        parts = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        self.type, self.annotations = parts[0], list(parts[1:])
        self.item = _item_type(self.type)
        known = (bool, int, float, str, pathlib.Path)
        base = self.item or self.type
        if not (base in known or parameter_gui.is_node(base) or _is_enum(base)):
            raise TypeError(f"parameter {name}: no serializer for {hint}")
        given = [a.value for a in self.annotations if isinstance(a, Default)]
        if default is None:
            default = given[0] if given else self._natural()
        self.default = default
        self.check(default)

    def _natural(self) -> Any:
        """The default of a type: zero, empty, None for a node, the first of an enum."""
        if self.item is not None:
            return []
        if parameter_gui.is_node(self.type):
            return None
        return next(iter(self.type)) if _is_enum(self.type) else self.type()

    def check(self, value: Any) -> None:
        """TypeError or ValueError for what must not be written."""
        values = value if self.item is not None else [value]
        if self.item is not None and not isinstance(value, list | tuple | ObservedList):
            raise TypeError(f"{self.name} must be a list, not {type(value).__name__}")
        for single in values:
            self._check_single(self.item or self.type, single)
        for validator in self.annotations:
            if isinstance(validator, Validator):
                validator.validate(value)

    def _check_single(self, kind: Any, value: Any) -> None:
        if value is None and parameter_gui.is_node(kind):
            # Slicer's union has a serializer for each member: none for None unless it is one.
            members = typing.get_args(kind)
            if members and type(None) not in members:
                raise TypeError(f"{self.name}: unable to write None, which is not of {kind}")
            return
        if value is None:
            raise ValueError(f"{self.name} must not be None")
        accepted = (int, float) if kind is float else kind
        if parameter_gui.is_node(kind):
            accepted = parameter_gui.node_classes(kind)
        if not isinstance(value, accepted):
            raise TypeError(f"{self.name} must be {kind}, not {type(value)}: {value!r}")

    def is_in(self, node: Any) -> bool:
        """Whether the node has a value."""
        return bool(node.HasParameter(self.name))

    def write(self, node: Any, value: Any) -> None:
        """Check a value and write it as one change."""
        self.check(value)
        with slicer.util.NodeModify(node):
            if self.item is None:
                _write_single(node, self.name, self.type, value)
                return
            before = int(node.GetParameter(self.name) or 0)
            for position, single in enumerate(value):
                _write_single(node, f"{self.name}_{position}", self.item, single)
            for position in range(len(value), before):
                node.UnsetParameter(f"{self.name}_{position}")
                node.RemoveNodeReferenceIDs(f"{self.name}_{position}")
            node.SetParameter(self.name, str(len(value)))

    def read(self, node: Any) -> Any:
        """The value; the default is written first where there is none."""
        if not self.is_in(node):
            self.write(node, self.default)
        if self.item is None:
            return _read_single(node, self.name, self.type)
        count = int(node.GetParameter(self.name))
        values = [_read_single(node, f"{self.name}_{i}", self.item) for i in range(count)]
        return ObservedList(values, lambda changed: self.write(node, changed))


def _item_type(kind: Any) -> Any:
    """The type of a list's items, None for what is no list."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _write_single(node: Any, name: str, kind: Any, value: Any) -> None:
    if parameter_gui.is_node(kind):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)
    else:
        node.SetParameter(name, value.name if _is_enum(kind) else str(value))


def _read_single(node: Any, name: str, kind: Any) -> Any:
    if parameter_gui.is_node(kind):
        return node.GetNodeReference(name)
    text = node.GetParameter(name)
    if kind is bool:
        return text == "True"
    return kind[text] if _is_enum(kind) else kind(text)


#: The observers that wrappers made: node, tag, called function.
_observers: list[tuple[Any, int, Callable]] = []


def _follow(node: Any, update: Callable[[], None]) -> None:
    """Call `update()` whenever the node changes, to its end."""
    # Those of scenes before. Also, Python's collector may clear a function that only VTK holds;
    # called then, it crashes. So the functions are held here.
    for gone, tag, _ in [one for one in _observers if one[0].GetScene() is None]:
        gone.RemoveObserver(tag)
    _observers[:] = [one for one in _observers if one[0].GetScene() is not None]

    def modified(caller: Any, event: str) -> None:
        update()

    _observers.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified), modified))


class _Cached:
    """A parameter of one node with its value, read anew whenever the node changes."""

    def __init__(self, parameter: Parameter, node: Any) -> None:
        self.parameter, self.node = parameter, node
        self._value = parameter.read(node)
        _follow(node, self._update)

    def _update(self) -> None:
        self._value = self.parameter.read(self.node)

    def read(self) -> Any:
        """The value."""
        return self._value

    def write(self, value: Any) -> None:
        """Another value; observers of the node already see it."""
        with slicer.util.NodeModify(self.node):
            self.parameter.write(self.node, value)
            self._update()


class _Wrapper:
    """The methods of every wrapped class."""

    allParameters: typing.ClassVar[dict[str, Parameter]] = {}

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._connected: dict[int, list[parameter_gui.Connector]] = {}
        self._next_tag = 0
        self._updating = False
        self._values: dict[str, _Cached] = {}
        for name, parameter in self.allParameters.items():
            stored = Parameter(f"{prefix or ''}{name}", parameter.hint, parameter.default)
            self._values[name] = _Cached(stored, parameterNode)

    def getValue(self, name: str) -> Any:
        """A parameter's value by name."""
        self._check_name(name)
        return self._values[name].read()

    def setValue(self, name: str, value: Any) -> None:
        """Set a parameter by name."""
        self._check_name(name)
        self._values[name].write(value)

    def default(self, name: str) -> Default:
        """A parameter's default."""
        self._check_name(name)
        return Default(self.allParameters[name].default)

    def isCached(self, name: str) -> bool:
        """Values are always cached."""
        self._check_name(name)
        return True

    @classmethod
    def dataType(cls, name: str) -> Any:
        """A parameter's type with its annotations."""
        cls._check_name(name)
        return cls.allParameters[name].hint

    @classmethod
    def _check_name(cls, name: str) -> None:
        if name not in cls.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")

    def connectGui(self, gui: Any) -> None:
        """Join widgets to the parameters their property SlicerParameterName names, for good.

        Slicer's gives no tag: what it joins cannot be parted again.
        """
        widgets = (
            gui.findChildren("QWidget") if hasattr(gui, "findChildren") else vars(gui).values()
        )
        named = {w.property(PROPERTY): w for w in widgets if w.property(PROPERTY)}
        self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Join widgets, by their parameters' names: both ways, the parameter's value first.

        Returns:
            The tag for `disconnectGui`.
        """
        for name in mapping:
            self._check_name(name)
        connectors = []
        for name, widget in mapping.items():
            connector = parameter_gui.connector(name, widget, self.allParameters[name])
            connector.write(self.getValue(name))
            connector.connect(lambda c=connector: self._take(c))
            connectors.append(connector)
        self._next_tag += 1
        self._connected[self._next_tag] = connectors
        _follow(self.parameterNode, self._update_gui)
        return self._next_tag

    def disconnectGui(self, guiTag: int) -> None:
        """Part widgets and parameters; the observer of the node stays, and does nothing.

        Any other value than a tag of `connectParametersToGui`, None too, does nothing.
        """
        for connector in self._connected.pop(guiTag, []):
            connector.disconnect()

    def _take(self, connector: Any) -> None:
        if not self._updating:
            self.setValue(connector.name, connector.read())

    def _update_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in self._connected.values():
                    for connector in connectors:
                        connector.write(self.getValue(connector.name))
        finally:
            self._updating = False

    def StartModify(self) -> Any:
        """As of the node."""
        return self.parameterNode.StartModify()

    def EndModify(self, before: Any) -> Any:
        """As of the node."""
        return self.parameterNode.EndModify(before)

    def Modified(self) -> None:
        """As of the node."""
        self.parameterNode.Modified()

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        """As of the node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        """As of the node."""
        self.parameterNode.RemoveObserver(tag)


def _property(name: str) -> property:
    return property(
        lambda self: self._values[name].read(), lambda self, value: self._values[name].write(value)
    )


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: the annotated members become parameters of the node given to the class."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = {
        name: Parameter(name, hint, vars(classtype).get(name))
        for name, hint in typing.get_type_hints(classtype, include_extras=True).items()
    }
    taken = sorted(set(parameters) & set(dir(_Wrapper)))
    if taken:
        raise ValueError(f"Cannot use reserved name '{taken[0]}' in a parameterNodeWrapper")
    own = {k: v for k, v in vars(classtype).items() if k not in ("__dict__", "__weakref__")}
    own |= {name: _property(name) for name in parameters}
    own |= {"allParameters": parameters, "__init__": _Wrapper.__init__}
    return type(classtype.__name__, (_Wrapper,), own)


def isParameterNodeWrapper(value: Any) -> bool:
    """Whether this is a wrapped class or an object of one."""
    kind = value if isinstance(value, type) else type(value)
    return issubclass(kind, _Wrapper)
