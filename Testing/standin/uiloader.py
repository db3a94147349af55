"""`qt.QUiLoader`, stricter than Qt's: whatever it does not know in a .ui file raises.

Qt skips unknown properties and classes with a warning at best. Widgets of CTK and MRML are ours;
their own properties, and connections whose signatures name VTK classes, are applied here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .pythonqt import EXTRA, Proxy, raw_of, wrap

# Classes of ctk and slicer by name, filled by their modules.
WIDGETS: dict[str, type] = {}


class UiError(RuntimeError):
    """The .ui file names something that does not exist."""


class QUiLoader(QtUiTools.QUiLoader):
    """Makes our widgets where Qt has none of that name."""

    def createWidget(self, class_name, parent=None, name=""):  # noqa: N802
        """A widget owned by Python as well, so that its proxy stays the same."""
        raw = _widget_class(class_name)(parent)
        raw.setObjectName(name)
        return raw


def _widget_class(name: str) -> type:
    known = WIDGETS.get(name) or getattr(QtWidgets, name, None)
    if known is None:
        raise UiError(f"no widget class {name!r} in the stand-in")
    return known


def _load(self: Proxy, file: Proxy, parent: Proxy | None = None) -> Any:
    """The widget of an open .ui file."""
    tree = ET.fromstring(raw_of(file).readAll().data())
    ours = _take_our_properties(tree)
    connections = _take_connections(tree)
    buffer = QtCore.QBuffer()
    buffer.setData(ET.tostring(tree))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    raw = raw_of(self).load(buffer, None if parent is None else raw_of(parent))
    if raw is None:
        raise UiError(f"Qt cannot read the .ui file: {raw_of(self).errorString()}")
    widgets = {raw.objectName(): raw} | {
        child.objectName(): child for child in raw.findChildren(QtCore.QObject)
    }
    for name, attribute, value in ours:
        setattr(wrap(widgets[name]), attribute, value)
    for sender, signal, receiver, slot in connections:
        wrap(widgets[sender]).connect(signal, wrap(widgets[receiver]), slot)
    return wrap(raw)


def _take_our_properties(tree: ET.Element) -> list[tuple[str, str, Any]]:
    """Check all properties; those only our widgets have are taken out, to be set afterwards."""
    found = []
    names: set[str] = set()
    for element in tree.iter("widget"):
        name, class_name = element.attrib["name"], element.attrib["class"]
        if name in names:
            raise UiError(f"two widgets are named {name!r}")
        names.add(name)
        raw_class = _widget_class(class_name)
        for item in element.findall("property"):
            attribute = item.attrib["name"]
            if item.get("stdset") == "0" and attribute.startswith("Slicer"):
                continue
            if raw_class.staticMetaObject.indexOfProperty(attribute) < 0:
                raise UiError(f"{class_name} {name!r} has no property {attribute!r}")
            if class_name in WIDGETS and attribute not in _qt_properties(raw_class):
                found.append((name, attribute, _value(item[0])))
                element.remove(item)
    return found


def _qt_properties(raw_class: type) -> set[str]:
    """The properties of the Qt class one of our widgets derives from."""
    base = next(c for c in raw_class.__mro__ if c.__module__ == "PySide6.QtWidgets")
    meta = base.staticMetaObject
    return {meta.property(index).name() for index in range(meta.propertyCount())}


def _value(element: ET.Element) -> Any:
    """A property's value: text, number, truth or a list of texts."""
    text = element.text or ""
    if element.tag == "bool":
        return text == "true"
    if element.tag == "number":
        return int(text)
    if element.tag in ("double", "float"):
        return float(text)
    if element.tag == "stringlist":
        return [item.text or "" for item in element.findall("string")]
    if element.tag == "string":
        return text
    raise UiError(f"the stand-in reads no property of type <{element.tag}>")


def _take_connections(tree: ET.Element) -> list[tuple[str, str, str, str]]:
    """All connections as (sender, signal, receiver, slot); Qt shall not try them."""
    found = []
    for element in tree.findall("connections"):
        found += [
            tuple(item.findtext(part, "") for part in ("sender", "signal", "receiver", "slot"))
            for item in element.findall("connection")
        ]
        tree.remove(element)
    return found


EXTRA["QUiLoader"] = {"load": _load}
