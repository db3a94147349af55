"""What a test does in place of the user: run a module, click, choose, wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtTest, QtWidgets

from . import errors
from .pythonqt import Proxy, raw_of


class RunningModule:
    """A module in the main window's panel."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.name: str = raw.property("name")

    @property
    def widget(self) -> Any:
        """The Python widget class's object; the panel is made when first asked for."""
        return slicer.util.getModuleWidget(self.name)

    @property
    def window(self) -> Any:
        """The main window that shows the panel."""
        return slicer.util.mainWindow()

    def enter(self) -> None:
        """The user selects the module."""
        slicer.util.selectModule(self.name)
        process_events()

    def exit(self) -> None:
        """The user selects another module."""
        slicer.util.selectModule("Data")
        process_events()

    def close(self) -> None:
        """Leave and unload it, as at the end of the application."""
        slicer.util.selectModule("Data")
        raw_of(slicer.app.moduleManager())._unload(self.name)
        process_events()


def quit_application(module: RunningModule) -> None:
    """The user closes the application: it says so, then the module is unloaded."""
    raw_of(slicer.app).aboutToQuit.emit()
    module.close()


def load_module(path: str | Path) -> RunningModule:
    """Load a scripted module from its file, start the application and show the window."""
    path = Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(path)
    raw = raw_of(slicer.app.moduleManager())._load(path)
    slicer.app.startupCompleted()
    slicer.util.mainWindow().show()
    process_events()
    return RunningModule(raw)


def process_events() -> None:
    """Let Qt work off its events, deletions too; raise what a handler raised."""
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
    QtCore.QCoreApplication.processEvents()
    errors.raise_caught()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Run the event loop until a condition holds; AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    loop = QtCore.QEventLoop()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s still not: {_source(condition)}")
        QtCore.QTimer.singleShot(5, loop.quit)
        loop.exec()
        QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)
        errors.raise_caught()


def wait(seconds: float) -> None:
    """Run the event loop for a time."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 10)


class Responsiveness:
    """How long the event loop was held up within `with`: `longest` in seconds.

    The loop must run meanwhile, as in `wait_until`.
    """

    def __enter__(self) -> Responsiveness:
        self.longest, self._last = 0.0, time.monotonic()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._tick()
        self._timer.stop()

    def _tick(self) -> None:
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now


def _source(condition: Callable) -> str:
    code = getattr(condition, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(condition)


def _reachable(widget: Proxy) -> QtWidgets.QWidget:
    """The widget behind a proxy, if a user can use it."""
    raw = raw_of(widget)
    name = f"{type(widget).__name__} {raw.objectName()!r}"
    if not raw.isVisible():
        raise AssertionError(f"{name} cannot be used: it is not visible")
    if not raw.isEnabled():
        raise AssertionError(f"{name} cannot be used: it is disabled")
    return raw


def click(widget: Proxy, at: tuple[int, int] | None = None, button: str = "Left") -> None:
    """Click into a widget with the mouse; it must be visible and enabled."""
    raw = _reachable(widget)
    place = QtCore.QPoint(*at) if at is not None else raw.rect().center()
    if at is None and isinstance(raw, QtWidgets.QCheckBox | QtWidgets.QRadioButton):
        place = QtCore.QPoint(8, raw.height() // 2)
    elif at is None and type(raw).__name__ == "ctkCollapsibleButton":
        place = QtCore.QPoint(raw.width() // 2, 6)
    mouse = QtCore.Qt.MouseButton[f"{button}Button"]
    QtTest.QTest.mouseClick(raw, mouse, QtCore.Qt.KeyboardModifier.NoModifier, place)
    process_events()


def drag(widget: Proxy, start: tuple[int, int], end: tuple[int, int], steps: int = 5) -> None:
    """Press at a place, move and release at another."""
    raw = _reachable(widget)
    left = QtCore.Qt.MouseButton.LeftButton
    none = QtCore.Qt.KeyboardModifier.NoModifier
    QtTest.QTest.mousePress(raw, left, none, QtCore.QPoint(*start))
    for step in range(1, steps + 1):
        x, y = (round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True))
        QtTest.QTest.mouseMove(raw, QtCore.QPoint(x, y))
        process_events()
    QtTest.QTest.mouseRelease(raw, left, none, QtCore.QPoint(*end))
    process_events()


def press_key(widget: Proxy, keys: str) -> None:
    """Press a key or a combination, like "Ctrl+Right", with the focus in a widget."""
    from PySide6 import QtGui

    raw = raw_of(widget)
    combination = QtGui.QKeySequence(keys)[0]
    QtTest.QTest.keyClick(raw, combination.key(), combination.keyboardModifiers())
    process_events()


def type_text(widget: Proxy, text: str) -> None:
    """Replace a line's or a spin box's text by typing, and leave it with Enter."""
    raw = _reachable(widget)
    raw.selectAll()
    QtTest.QTest.keyClicks(raw, text)
    QtTest.QTest.keyClick(raw, QtCore.Qt.Key.Key_Return)
    process_events()


def choose(combo: Proxy, item: Any) -> None:
    """Choose an item of a combo box (also one of nodes) as the user does: by text, or by node."""
    raw = _reachable(combo)
    box = raw if isinstance(raw, QtWidgets.QComboBox) else raw.findChild(QtWidgets.QComboBox)
    index = box.findText(item) if isinstance(item, str) else box.findData(item.GetID())
    if index < 0:
        texts = [box.itemText(i) for i in range(box.count())]
        raise AssertionError(f"{raw.objectName()!r} has no item {item!r}, only {texts}")
    box.setCurrentIndex(index)
    box.activated.emit(index)
    process_events()


def close_scene() -> None:
    """File / Close Scene."""
    slicer.mrmlScene.Clear(False)
    process_events()
