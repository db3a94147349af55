"""A model of Slicer's Python GUI layer on PySide6 and `slicer-core`: see README.md beside this.

Importing it does nothing; `install()` makes `slicer.app`, `qt`, `ctk` and the rest exist in this
process.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# Where the names a test uses come from; they need `install()` first.
_HELPERS = {
    "load_module": "driving",
    "process_events": "driving",
    "quit_application": "driving",
    "wait_until": "driving",
    "wait": "driving",
    "click": "driving",
    "drag": "driving",
    "press_key": "driving",
    "type_text": "driving",
    "choose": "driving",
    "close_scene": "driving",
    "Responsiveness": "driving",
    "raise_caught": "errors",
    "answer": "dialogs",
}


def require(*, gui: bool = True) -> None:
    """Skip the calling test module where `slicer-core` or Qt is not installed or does not load."""
    needed = [("slicer", "slicer-core")]
    if gui:
        needed.append(("PySide6.QtWidgets", "PySide6-Essentials"))
    for name, package in needed:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
        except ImportError as error:  # a library of the system
            pytest.skip(f"{package} does not load: {error}", allow_module_level=True)


def install(*, gui: bool = True) -> None:
    """Make this process look like Slicer's; without `gui` only the scene and its logics."""
    from . import scene

    scene.install()
    if gui:
        from . import slicer_gui

        slicer_gui.install()


def reset() -> None:
    """The application as after its start, with an empty scene: for use between tests."""
    from . import scene

    if scene.gui_installed():
        from . import slicer_gui

        slicer_gui.reset()
    scene.reset()


def fresh() -> Iterator[None]:
    """A fresh application around a test; what handlers and observers raised fails it.

    Use it as ``application = pytest.fixture(autouse=True)(standin.fresh)``.
    """
    from . import errors, slicer_gui

    reset()
    # VTK goes on after an exception in an observer, as Qt does after one in a slot.
    before, sys.excepthook = sys.excepthook, lambda _kind, error, _trace: errors.record(error)
    try:
        yield
        errors.raise_caught()
        slicer_gui.unload_modules()
        errors.raise_caught()
        reset()
    finally:
        sys.excepthook = before


def __getattr__(name: str) -> Any:
    if name in _HELPERS:
        return getattr(importlib.import_module(f".{_HELPERS[name]}", __name__), name)
    raise AttributeError(f"module 'standin' has no attribute '{name}'")
