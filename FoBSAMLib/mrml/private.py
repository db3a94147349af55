"""Names that are not told to whoever helps: of nodes, segments, files; they may be a patient's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import PurePath

import slicer
import vtk

#: Where a path begins to say nothing of the user: in a package, in FoBSAM or in Python.
_HARMLESS = re.compile(r"(?:(?:site|dist)-packages|FoBSAMLib|python3\.\d+)/")
#: Paths, in quotes with spaces in them, or without both. A URL is none.
_PATHS = re.compile(
    r"""(?P<quote>["'])(?:[A-Za-z]:[\\/]|\\\\|~?/)[^"'\n]*(?P=quote)"""
    r"""|(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|\\\\|~?/)[^\s"'<>|()\[\],;]+"""
)


class Names:
    """The scene's names, of now and before.

    What the worker has printed is older than what the scene holds now, so that names are to be
    remembered when something is said of them.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def remember(self, scene: slicer.vtkMRMLScene, *more: str) -> None:
        """Know the scene's names of now, and ``more``."""
        self._known |= {name for name in (*_names_of(scene), *more) if len(name) > 1}

    def left_out_of(self, text: str) -> str:
        """A text without the names, and without paths but those into Python's packages."""
        text = _PATHS.sub(lambda found: _told_of_path(found[0]), text)
        small = text.lower()
        spelled = {one for name in self._known for one in _spellings(name) if one.lower() in small}
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


def _told_of_path(path: str) -> str:
    quote = path[0] if path[0] in "\"'" else ""
    plain = path.strip("\"'").replace("\\", "/")
    harmless = _HARMLESS.search(plain)
    return f"{quote}{'…/' + plain[harmless.start() :] if harmless else '(file)'}{quote}"


def _spellings(name: str) -> Iterator[str]:
    """A name as it may be printed: by repr(), as JSON, and where a worker's print cannot."""
    yield name
    if name.isascii() and name.isprintable() and not set("\"'\\") & set(name):
        return
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
