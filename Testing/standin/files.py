"""`slicer.app.coreIOManager()`: the readers and writers behind `slicer.util.load…` and `save…`.

The storage nodes are the real ones; only the choice of the reader by name is modelled.
"""

# ruff: noqa: N802 (Slicer's names)

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

SCENE_SUFFIXES = (".mrml", ".mrb")


class IOManager:
    """qSlicerCoreIOManager as far as `slicer.util` asks it."""

    def fileType(self, path: str) -> str:
        """The reader's name for a file."""
        name = str(path).lower()
        if name.endswith(SCENE_SUFFIXES):
            return "SceneFile"
        if ".seg." in name:
            return "SegmentationFile"
        if name.endswith((".mrk.json", ".fcsv")):
            return "MarkupsFile"
        if name.endswith((".h5", ".tfm")):
            return "TransformFile"
        return "VolumeFile"

    def loadNodes(self, kind: str, properties: dict, loaded: Any, messages: Any) -> bool:
        """Read a file into the scene; the nodes are added to the vtkCollection `loaded`."""
        path = properties["fileName"]
        if kind == "SceneFile":
            return _read_scene(path, properties.get("clear", False), messages)
        name = properties.get("name") or Path(path).name.split(".")[0]
        if kind == "VolumeFile":
            node = _read_volume(path, name, properties)
        elif kind == "SegmentationFile":
            logic = slicer.modules.segmentations.logic()
            node = logic.LoadSegmentationFromFile(path, True, name)
        elif kind == "MarkupsFile":
            identifier = slicer.modules.markups.logic().LoadMarkups(path, name, messages)
            node = slicer.mrmlScene.GetNodeByID(identifier) if identifier else None
        elif kind == "TransformFile":
            node = slicer.modules.transforms.logic().AddTransform(path, slicer.mrmlScene)
        else:
            raise NotImplementedError(f"the stand-in has no reader {kind!r}")
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def fileWriterFileType(self, node: Any) -> str:
        """The writer's name for a node."""
        return node.GetClassName()

    def saveNodes(self, kind: str, properties: dict, messages: Any) -> bool:
        """Write one node, or the scene as .mrml, .mrb or a folder."""
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return _write_scene(path, messages)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(path)
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


def _read_volume(path: str, name: str, properties: dict) -> Any:
    """A volume through the volumes logic, shown in all slice views unless `show` is False."""
    options = 1 if properties.get("labelmap") else 0
    node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
    if node is not None and properties.get("show", True):
        application = slicer.app.applicationLogic()
        selection = application.GetSelectionNode()
        if properties.get("labelmap"):
            selection.SetActiveLabelVolumeID(node.GetID())
        else:
            selection.SetActiveVolumeID(node.GetID())
        application.PropagateVolumeSelection()
    return node


def _read_scene(path: str, clear: bool, messages: Any) -> bool:
    """A scene from .mrml or .mrb."""
    scene = slicer.mrmlScene
    if path.lower().endswith(".mrb"):
        return bool(scene.ReadFromMRB(path, clear, messages))
    scene.SetURL(path)
    return bool(scene.Connect(messages) if clear else scene.Import(messages))


def _write_scene(path: str, messages: Any) -> bool:
    """The scene as one .mrml, one .mrb or a folder with its data."""
    scene = slicer.mrmlScene
    if path.lower().endswith(".mrml"):
        return bool(scene.Commit(path, messages))
    if path.lower().endswith(".mrb"):
        return bool(scene.WriteToMRB(path, None, messages))
    return bool(scene.SaveSceneToSlicerDataBundleDirectory(path, None, messages))
