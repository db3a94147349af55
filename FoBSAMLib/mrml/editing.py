"""The Segment Editor's undo, masking and overwrite mode, for what is not done by its effects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import slicer

#: The singleton that Slicer's Segment Editor module keeps its choices in.
EDITOR_TAG = "SegmentEditor"


class Editing(Protocol):
    """One edit of several segments that is undone by one press of the Segment Editor's Undo."""

    def begin(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLVolumeNode,
    ) -> None:
        """Choose the segmentation for editing and save its state for undo."""

    def may_overlap(self, segment_id: str) -> bool:
        """Whether other segments may have voxels of this one too."""

    def add(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Add voxels to a segment where masking allows; no other segment loses any."""

    def remove(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        """Take voxels out of a segment where masking allows; no other segment gains any."""

    def end(self) -> None:
        """Leave the editor's choices as they were before ``begin``."""


@contextmanager
def one_step(
    editing: Editing,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
) -> Iterator[None]:
    """What is changed in a segmentation, voxels or tags, is one step of the editor's undo and one
    event. Whatever goes wrong, the editor and the node's events are left as they were."""
    modifying = segmentation_node.StartModify()
    try:
        editing.begin(segmentation_node, volume_node)
        try:
            yield
        finally:
            editing.end()
    finally:
        segmentation_node.EndModify(modifying)


class EditorNodeEditing(ABC):
    """What follows from the choices in a Segment Editor's parameter node.

    Derived classes save the state and modify a segment with what they have: a logic, or the
    editor's widget. The segmentation stays chosen after `end`, for the undo to be of use.
    """

    def __init__(self, editor_node: slicer.vtkMRMLSegmentEditorNode):
        self.editor_node = editor_node

    def begin(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLVolumeNode,
    ) -> None:
        editor = self.editor_node
        modifying = editor.StartModify()
        try:
            if editor.GetSegmentationNode() is not segmentation_node:
                editor.SetAndObserveSegmentationNode(segmentation_node)
                editor.SetAndObserveSourceVolumeNode(volume_node)
            elif editor.GetSourceVolumeNode() is None:
                # One that is chosen stays: the user's intensity range is of that one.
                editor.SetAndObserveSourceVolumeNode(volume_node)
        finally:
            editor.EndModify(modifying)
        self._before = (editor.GetSelectedSegmentID(), editor.GetOverwriteMode())
        self._save_state()
        # What must not be overwritten is left out of what is added. A mode that overwrites
        # would, on grids that differ, still take voxels from other segments along the border.
        editor.SetOverwriteMode(editor.OverwriteNone)

    def may_overlap(self, segment_id: str) -> bool:
        mode = self._before[1]
        if mode == self.editor_node.OverwriteVisibleSegments:
            display = self.editor_node.GetSegmentationNode().GetDisplayNode()
            return display is not None and not display.GetSegmentVisibility(segment_id)
        return bool(mode == self.editor_node.OverwriteNone)

    def add(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        self._modify(segment_id, labelmap, adding=True)

    def remove(self, segment_id: str, labelmap: slicer.vtkOrientedImageData) -> None:
        inside_one = slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment
        if self.editor_node.GetMaskMode() == inside_one:
            # There erasing gives the voxels to the segment inside which editing is allowed.
            return
        self._modify(segment_id, labelmap, adding=False)

    def end(self) -> None:
        selected, mode = self._before
        self.editor_node.SetOverwriteMode(mode)
        self.editor_node.SetSelectedSegmentID(selected)

    @abstractmethod
    def _save_state(self) -> None:
        """Save the segmentation's state for undo."""

    @abstractmethod
    def _modify(
        self, segment_id: str, labelmap: slicer.vtkOrientedImageData, *, adding: bool
    ) -> None:
        """Add voxels to a segment, or take them out, where masking allows."""


class LogicEditing(EditorNodeEditing):
    """Editing through the Segment Editor's logic, which has its own history of states."""

    def __init__(
        self, scene: slicer.vtkMRMLScene, editor_node: slicer.vtkMRMLSegmentEditorNode | None = None
    ):
        """With the choices of ``editor_node``, else with those of the Segment Editor module.

        Slicer before 5.11 has no such logic.
        """
        if editor_node is None:
            editor_node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if editor_node is None:
            editor_node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            editor_node.UnRegister(None)
            editor_node.SetSingletonTag(EDITOR_TAG)
            editor_node = scene.AddNode(editor_node)
        super().__init__(editor_node)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(scene)
        self.logic.SetSegmentEditorNode(editor_node)

    def undo(self) -> bool:
        """Take the last edit back; False where there is none."""
        possible = bool(self.logic.CanUndo())
        if possible:
            self.logic.Undo()
        return possible

    def redo(self) -> bool:
        """Do again what was undone last; False where there is nothing."""
        possible = bool(self.logic.CanRedo())
        if possible:
            self.logic.Redo()
        return possible

    def _save_state(self) -> None:
        self.logic.SaveStateForUndo()

    def _modify(
        self, segment_id: str, labelmap: slicer.vtkOrientedImageData, *, adding: bool
    ) -> None:
        mode = self.logic.ModificationModeAdd if adding else self.logic.ModificationModeRemove
        # The mask leaves the segment that is selected editable.
        self.editor_node.SetSelectedSegmentID(segment_id)
        self.logic.ModifySegmentByLabelmap(
            self.editor_node.GetSegmentationNode(), segment_id, labelmap, mode, True, False
        )
