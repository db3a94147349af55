"""What a person who helps needs to know: versions, devices, weights, the last error, the log."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import slicer

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.mrml.private import shared_names
from FoBSAMLib.version import __version__

#: Packages whose versions are told, those of Slicer's own Python.
PACKAGES = ("numpy", "scipy", "SimpleITK", "scikit-image", "torch", "safetensors")


def report(engine: Engine, last_error: str) -> str:
    """A text without names of nodes, segments, files or folders: nothing of the patient, no image.

    What others have written (the log, the last error) is told without `shared_names`.
    """
    names = shared_names()
    names.remember(slicer.mrmlScene, *_files(engine.models[:2]))
    said = [
        f"last error: {last_error or 'none'}",
        *(f"note: {note}" for note in engine.conversation.notes),
        "log of the worker:",
        engine.conversation.log or "(empty)",
    ]
    generator, segmenter, device = engine.models
    lines = [
        f"FoBSAM {__version__}",
        f"Slicer {slicer.app.applicationVersion}",
        f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "here: " + ", ".join(f"{name} {version}" for name, version in _versions().items()),
        f"asked for: {_without_file(generator)}, {_without_file(segmenter)}, {device}",
        f"worker: {'a command of the user' if engine.command else 'on this computer'}",
        *_of_worker(engine.conversation.worker),
        *map(names.left_out_of, said),
    ]
    return "\n".join(lines) + "\n"


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


def _without_file(model: str) -> str:
    """A model's name without that of its file, as in sam-vit-b:FILE."""
    kind, colon, _file = model.partition(":")
    return f"{kind}{colon}{'(file)' if colon else ''}"


def _files(models: tuple[str, ...]) -> Iterator[str]:
    for model in models:
        file = PurePath(model.partition(":")[2])
        yield from (str(file), file.name) if file.name else ()
