"""What a person who helps needs to know: versions, devices, weights, the last error, the log."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath
from typing import Any

import slicer
import vtk

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.version import __version__

#: Packages whose versions are told, those of Slicer's own Python.
PACKAGES = ("numpy", "scipy", "SimpleITK", "scikit-image", "torch", "safetensors")
#: Where a path begins to say nothing of the user: in a package, in FoBSAM or in Python.
_HARMLESS = re.compile(r"(?:(?:site|dist)-packages|FoBSAMLib|Testing|python3\.\d+)/")
#: Paths, in quotes with spaces in them, or without both. A URL is none.
_PATHS = re.compile(
    r"""(?P<quote>["'])(?:[A-Za-z]:[\\/]|\\\\|~?/)[^"'\n]*(?P=quote)"""
    r"""|(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|\\\\|~?/)[^\s"'<>|()\[\],;]+"""
)


class Names:
    """Names that are not told: of the scene's nodes, segments and files, now and before.

    They may be a patient's. What the worker has printed is older than what the scene holds now,
    so that names are to be remembered when something is said of them.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def remember(self, *more: str) -> None:
        """Know the scene's names of now, and ``more``."""
        self._known |= {name for name in (*_names_of(slicer.mrmlScene), *more) if len(name) > 1}

    def left_out_of(self, text: str) -> str:
        """A text without the names, and without paths but those into Python's packages."""
        text = _PATHS.sub(lambda found: _told_of_path(found[0]), text)
        spelled = {one for name in self._known for one in _spellings(name)}
        if not spelled:
            return text
        # The longest first: of a name within a name nothing must stay. Digits and underscores
        # may follow, as where a name was made unique.
        names = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
        return re.sub(rf"(?<![^\W\d_])(?:{names})(?![^\W\d_])", "(name)", text, flags=re.IGNORECASE)


@cache
def shared_names() -> Names:
    """Those of Slicer's process: its worker's log outlives scenes and panels, too."""
    return Names()


def report(engine: Engine, last_error: str) -> str:
    """A text without names of nodes, segments, files or folders: nothing of the patient, no image.

    What others have written (the log, the last error) is told without `shared_names`.
    """
    names = shared_names()
    names.remember(*_files(engine.models))
    said = [
        f"last error: {last_error or 'none'}",
        *(f"note: {note}" for note in engine.conversation.notes),
        "log of the worker:",
        engine.conversation.log or "(empty)",
    ]
    lines = [
        f"FoBSAM {__version__}",
        f"Slicer {slicer.app.applicationVersion}",
        f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "here: " + ", ".join(f"{name} {version}" for name, version in _versions().items()),
        f"asked for: {', '.join(map(_without_file, engine.models))}",
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
    models = (f"{name}: {_without_file(str(value))}" for name, value in worker["models"].items())
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


def _told_of_path(path: str) -> str:
    quote = path[0] if path[0] in "\"'" else ""
    plain = path.strip("\"'").replace("\\", "/")
    harmless = _HARMLESS.search(plain)
    return f"{quote}{'…/' + plain[harmless.start() :] if harmless else '(file)'}{quote}"


def _spellings(name: str) -> Iterator[str]:
    """A name as it may be printed: by repr(), as JSON, and where a worker's print cannot."""
    yield name
    yield repr(name)[1:-1]
    yield ascii(name)[1:-1]
    yield json.dumps(name)[1:-1]
    for encoding in ("ascii", "cp1252"):  # the latter is Windows', read as UTF-8
        yield name.encode(encoding, "backslashreplace").decode("utf-8", "replace")


def _names_of(scene: slicer.vtkMRMLScene) -> Iterator[str]:
    """Names that a user, or DICOM, has given."""
    yield from (scene.GetURL() or "", PurePath(scene.GetURL() or "").name)
    nodes = scene.GetNodesByClass("vtkMRMLStorableNode")
    for n in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(n)
        if node.IsA("vtkMRMLColorNode"):  # Slicer's own, such as Red
            continue
        yield node.GetName() or ""
        storage = node.GetStorageNode()
        if storage is not None and storage.GetFileName():
            file = PurePath(storage.GetFileName())
            yield from (str(file), file.name, file.name.partition(".")[0])
        if node.IsA("vtkMRMLSegmentationNode"):
            segments = node.GetSegmentation()
            for segment_id in segments.GetSegmentIDs():
                yield from (segment_id, segments.GetSegment(segment_id).GetName() or "")
    yield from _patients(scene)


def _patients(scene: slicer.vtkMRMLScene) -> Iterator[str]:
    """Names in the subject hierarchy: of patients and studies, too."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    for n in range(items.GetNumberOfIds()):
        yield hierarchy.GetItemName(items.GetId(n)) or ""
