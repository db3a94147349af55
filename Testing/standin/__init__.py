"""A model of Slicer's Python GUI layer on PySide6 and `slicer-core`: see README.md beside this.

Importing it does nothing; `install()` makes `slicer.app`, `qt`, `ctk` and the rest exist in this
process.
"""

from __future__ import annotations

import importlib.util

import pytest


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


def reset() -> None:
    """The application as after its start, with an empty scene: for use between tests."""
    from . import scene

    scene.reset()
