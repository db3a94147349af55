"""The module `qt`: the classes of PySide6 by name, with PythonQt's semantics and Qt 5's names."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from . import dialogs, uiloader  # noqa: F401 (they add to the proxy classes)
from .pythonqt import EXTRA, Proxy, proxy_class, raw_of, unwrap, wrap

_SOURCES = (QtCore, QtGui, QtWidgets)
# Classes of Qt 6 alone.
_TOO_NEW = {"QEventPoint", "QSinglePointEvent", "QPermission", "QStringConverter"}


class QtModule(types.ModuleType):
    """`qt.QLabel` is made when asked for; unknown names raise AttributeError."""

    def __getattr__(self, name: str) -> Any:
        if name == "QUiLoader":
            return proxy_class(uiloader.QUiLoader)
        if name not in _TOO_NEW:
            for source in _SOURCES:
                found = getattr(source, name, None)
                if isinstance(found, type) and issubclass(found, shiboken6.Object | QtCore.Qt):
                    return proxy_class(found)
        raise AttributeError(f"module 'qt' has no attribute '{name}'")


def _setting(self: Proxy, key: str, default: Any = None) -> Any:
    """A value as after a restart: an .ini file keeps text, so a bool comes back as "true"."""
    raw = raw_of(self)
    if not raw.contains(key):
        return default
    return _as_text(raw.value(key))


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(map(_as_text, value))
    return wrap(value)


def _set_setting(self: Proxy, key: str, value: Any) -> None:
    raw_of(self).setValue(key, int(value) if type(value).__name__ == "EnumValue" else unwrap(value))


def _set_property(self: Proxy, name: str, value: Any) -> bool:
    """`w.setProperty`: the dynamic kind may be new."""
    plain = int(value) if type(value).__name__ == "EnumValue" else unwrap(value)
    return raw_of(self).setProperty(name, plain)


def _wheel_position(self: Proxy) -> Any:
    return wrap(raw_of(self).position())


def _mouse(read: Callable[[QtGui.QMouseEvent], Any]) -> Callable:
    """A method of Qt 5's mouse event, which Qt 6 warns of."""
    return lambda self: wrap(read(raw_of(self)))


EXTRA["QSettings"] = {"value": _setting, "setValue": _set_setting}
EXTRA["QObject"]["setProperty"] = _set_property
EXTRA["QWheelEvent"] = {"position": _wheel_position}
EXTRA["QMouseEvent"] = {
    "x": _mouse(lambda event: event.position().toPoint().x()),
    "y": _mouse(lambda event: event.position().toPoint().y()),
    "pos": _mouse(lambda event: event.position().toPoint()),
    "localPos": _mouse(lambda event: event.position()),
    "globalX": _mouse(lambda event: event.globalPosition().toPoint().x()),
    "globalY": _mouse(lambda event: event.globalPosition().toPoint().y()),
    "globalPos": _mouse(lambda event: event.globalPosition().toPoint()),
}

module = QtModule("qt")
module.__file__ = __file__
