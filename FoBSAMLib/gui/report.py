"""What a person who helps needs to know: versions, devices, weights, the last error, the log."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

import slicer

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.version import __version__

#: Packages whose versions are told, those of Slicer's own Python.
PACKAGES = ("numpy", "scipy", "SimpleITK", "scikit-image", "torch", "safetensors")


def report(engine: Engine, last_error: str) -> str:
    """A text without names of nodes, files or persons: nothing of the patient, and no image.

    The user's home folder is left out of paths, and so are the names of what was segmented.
    """
    application = slicer.app
    lines = [
        f"FoBSAM {__version__}",
        f"Slicer {application.applicationVersion}",
        f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "here: " + ", ".join(f"{name} {version}" for name, version in _versions().items()),
        f"asked for: {', '.join(engine.models)}",
        f"worker: {'a command of the user' if engine.command else 'on this computer'}",
        *_of_worker(engine.conversation.worker),
        f"last error: {last_error or 'none'}",
        *(f"note: {note}" for note in engine.conversation.notes),
        "log of the worker:",
        engine.conversation.log or "(empty)",
    ]
    return _without_names("\n".join(lines)) + "\n"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def _of_worker(worker: dict[str, Any]) -> list[str]:
    if not worker:
        return ["there: not started yet"]
    versions = ", ".join(f"{name} {version}" for name, version in worker["versions"].items())
    models = (f"{name}: {value}" for name, value in worker["models"].items())
    devices = (", ".join(f"{k} {v}" for k, v in device.items()) for device in worker["devices"])
    return [f"there: {versions}", *models, *(f"device: {device}" for device in devices)]


def _without_names(text: str) -> str:
    """Scene nodes may be called after patients, and so may files and the user's folders."""
    home = str(Path.home())
    for name in sorted(_names(), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(name)", text)
    return text.replace(home, "~")


def _names() -> set[str]:
    scene = slicer.mrmlScene
    found = set()
    for kind in ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode"):
        nodes = scene.GetNodesByClass(kind)
        for n in range(nodes.GetNumberOfItems()):
            node = nodes.GetItemAsObject(n)
            found.add(node.GetName() or "")
            storage = node.GetStorageNode()
            if storage is not None and storage.GetFileName():
                found.update((storage.GetFileName(), Path(storage.GetFileName()).name))
    return {name for name in found if len(name) > 1}
