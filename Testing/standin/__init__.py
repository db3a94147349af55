"""A model of Slicer's Python GUI layer on PySide6 and `slicer-core`: see README.md beside this.

Importing it does nothing; `install()` makes `slicer.app`, `qt`, `ctk` and the rest exist in this
process.
"""

from __future__ import annotations

import importlib
import importlib.util
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
    """Skip the calling test module where `slicer-core` (or PySide6) is not installed."""
    needed = {"slicer": "slicer-core"} | ({"PySide6": "PySide6-Essentials"} if gui else {})
    missing = [package for name, package in needed.items() if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)


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
    """A fresh application around a test; what handlers raised fails it.

    Use it as ``application = pytest.fixture(autouse=True)(standin.fresh)``.
    """
    from . import errors, slicer_gui

    reset()
    yield
    errors.raise_caught()
    slicer_gui.unload_modules()
    errors.raise_caught()
    reset()


def __getattr__(name: str) -> Any:
    if name in _HELPERS:
        return getattr(importlib.import_module(f".{_HELPERS[name]}", __name__), name)
    raise AttributeError(f"module 'standin' has no attribute '{name}'")
