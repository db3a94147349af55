"""What the user most likely wants to segment: what they worked on last."""

from __future__ import annotations

from typing import Any

import slicer


def likely_nodes(scene: slicer.vtkMRMLScene) -> tuple[Any, Any]:
    """The volume and the segmentation that the Segment Editor has, or else the volume that is
    shown and the segmentation drawn on it, or the newest; None for what there is not."""
    editor = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    segmentation = editor.GetSegmentationNode() if editor else None
    volume = editor.GetSourceVolumeNode() if editor else None
    shown = volume or _shown_volume(scene) or _last(scene, "vtkMRMLScalarVolumeNode")
    segmentation = segmentation or _drawn_on(scene, shown)
    # What is drawn belongs to its own image, whatever else was loaded since.
    return volume or _reference(segmentation) or shown, segmentation


def segmentations(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSegmentationNode]:
    """Those a user can choose: previews are not among them."""
    nodes = scene.GetNodesByClass("vtkMRMLSegmentationNode")
    every = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
    return [node for node in every if not node.GetHideFromEditors()]


def _shown_volume(scene: slicer.vtkMRMLScene) -> Any:
    """The background of the first slice view that has one."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceCompositeNode")
    for n in range(nodes.GetNumberOfItems()):
        volume = scene.GetNodeByID(nodes.GetItemAsObject(n).GetBackgroundVolumeID() or "")
        if volume is not None:
            return volume
    return None


def _drawn_on(scene: slicer.vtkMRMLScene, volume: Any) -> Any:
    """The newest segmentation whose reference geometry is the volume's, or the newest."""
    known = segmentations(scene)
    own = [node for node in known if volume is not None and _reference(node) is volume]
    return (own or known or [None])[-1]


def _reference(segmentation: Any) -> Any:
    """The volume that a segmentation was made for, None for none."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentation.GetNodeReference(role) if segmentation is not None else None


def _last(scene: slicer.vtkMRMLScene, name: str) -> Any:
    nodes = scene.GetNodesByClass(name)
    every = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
    return next((node for node in reversed(every) if not node.GetHideFromEditors()), None)
