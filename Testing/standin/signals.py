"""Connecting in PythonQt's two ways: `w.connect("clicked(bool)", f)` and `w.clicked.connect(f)`.

A handler written in Python gets as many arguments as it takes; others get all. An unknown signal
or a wrong signature raises, where PythonQt prints a warning.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore

from . import errors

# The names a signature has in Qt 5's meta objects, where Qt 6 has others.
_QT5_NAMES = {"qlonglong": "qint64", "qulonglong": "quint64"}
# Signals Qt 5 has twice under one name, with different meanings: the signature must be given.
_AMBIGUOUS = {("QProcess", "finished")}
# Not in the Qt of Slicer 5.10 to 5.12.
_TOO_NEW = {"checkStateChanged", "idClicked", "idToggled", "idPressed", "idReleased"}


class Signals:
    """The signals of one class of PySide6, by signature as Qt 5 writes it."""

    def __init__(self, raw_class: type) -> None:
        self.class_name = raw_class.__name__
        self._raw: dict[str, str] = {}
        aliases = {
            raw: shown
            for base in reversed(raw_class.__mro__)
            for shown, raw in vars(base).get("SIGNATURES", {}).items()
        }
        meta = raw_class.staticMetaObject
        for index in range(meta.methodCount()):
            method = meta.method(index)
            if method.methodType() == QtCore.QMetaMethod.MethodType.Signal:
                raw = method.methodSignature().data().decode()
                shown = aliases.get(raw) or _qt5(raw)
                if shown.partition("(")[0] not in _TOO_NEW:
                    self._raw[shown] = raw

    def names(self) -> set[str]:
        """All names of signals, without arguments."""
        return {shown.partition("(")[0] for shown in self._raw}

    def raw(self, signature: str) -> str:
        """PySide6's spelling of a signature; ValueError if the class has no such signal."""
        if not isinstance(signature, str):
            raise TypeError(f"a signal's signature is a str, not {type(signature).__name__}")
        shown = re.sub(r"\bconst |&|\s", "", signature)
        if shown not in self._raw:
            known = ", ".join(sorted(s for s in self._raw if s.startswith(shown[:4])))
            raise ValueError(
                f"{self.class_name} has no signal {signature!r}; similar ones: {known or 'none'}"
            )
        return self._raw[shown]

    def first(self, name: str) -> str:
        """The signature that `w.NAME` means: the first declared."""
        if (self.class_name, name) in _AMBIGUOUS:
            raise ValueError(f"{self.class_name}.{name} is overloaded in Qt 5: give its signature")
        return next(raw for shown, raw in self._raw.items() if shown.partition("(")[0] == name)


def _qt5(signature: str) -> str:
    for new, old in _QT5_NAMES.items():
        signature = re.sub(rf"\b{new}\b", old, signature)
    return signature


def connect(raw: Any, signature: str, function: Callable, wrap: Callable) -> bool:
    """Connect a signal, given in PySide6's spelling, to any callable."""
    if not callable(function):
        raise TypeError(f"{function!r} cannot be connected: it is not callable")
    handler = _handler(function, wrap)
    QtCore.QObject.connect(raw, QtCore.SIGNAL(signature), handler)
    _connections(raw).append((signature, function, handler))
    return True


def disconnect(raw: Any, signature: str, function: Callable | None) -> bool:
    """Undo one connection, or all of a signal; False if there was none, as in PythonQt."""
    connections = _connections(raw)
    found = [c for c in connections if c[0] == signature and (function is None or c[1] == function)]
    for connection in found[: None if function is None else 1]:
        QtCore.QObject.disconnect(raw, QtCore.SIGNAL(signature), connection[2])
        connections.remove(connection)
    return bool(found)


def disconnect_all(raw: Any) -> None:
    """Undo everything that was connected from Python to an object."""
    for signature, _, handler in _connections(raw):
        QtCore.QObject.disconnect(raw, QtCore.SIGNAL(signature), handler)
    _connections(raw).clear()


def _connections(raw: Any) -> list[tuple[str, Callable, Callable]]:
    """What was connected from Python to this object."""
    if not hasattr(raw, "_standin_connections"):
        raw._standin_connections = []
    return raw._standin_connections


def guarded(function: Callable, wrap: Callable) -> Callable:
    """The callable for a place where Qt calls without a signal, like a single shot."""
    return _handler(function, wrap)


def _handler(function: Callable, wrap: Callable) -> Callable:
    count = _argument_count(function)

    def handler(*arguments: Any) -> None:
        values = [wrap(argument) for argument in arguments[:count]]
        try:
            function(*values)
        except Exception as error:
            errors.record(error)

    return handler


def _argument_count(function: Callable) -> int | None:
    """How many positional arguments a Python function or method takes; None: pass all."""
    plain = function.__func__ if inspect.ismethod(function) else function
    if not inspect.isfunction(plain) or plain.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return plain.__code__.co_argcount - (1 if inspect.ismethod(function) else 0)
