"""The Segment Editor's own undo and masking, by its widget: what the user sees and can undo."""

from __future__ import annotations

from typing import Any

import slicer

from FoBSAMLib.mrml.editing import EditorNodeEditing

#: An effect of the editor's core, always there: only its way of changing a segment is used.
EFFECT = "Paint"


class WidgetEditing(EditorNodeEditing):
    """One edit in the Segment Editor module, undone by one press of its Undo."""

    def __init__(self) -> None:
        self.widget = editor_widget()
        super().__init__(self.widget.mrmlSegmentEditorNode())

    def _save_state(self) -> None:
        self.widget.saveStateForUndo()

    def _modify(self, segment_id: str, labelmap: Any, *, adding: bool) -> None:
        modes = slicer.qSlicerSegmentEditorAbstractEffect
        # The mask leaves the segment that is selected editable.
        self.editor_node.SetSelectedSegmentID(segment_id)
        self.widget.effectByName(EFFECT).modifySegmentByLabelmap(
            self.editor_node.GetSegmentationNode(),
            segment_id,
            labelmap,
            modes.ModificationModeAdd if adding else modes.ModificationModeRemove,
        )


def editor_widget() -> Any:
    """The qMRMLSegmentEditorWidget of the Segment Editor module, with its parameter node.

    The module makes its parameter node when it is first entered, and again after the scene was
    cleared with all its singletons; who accepts before that would have none.
    """
    widget = slicer.modules.segmenteditor.widgetRepresentation().self()
    editor, scene = widget.editor, slicer.mrmlScene
    node = editor.mrmlSegmentEditorNode()
    if node is None or node.GetScene() is not scene:
        node = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag("SegmentEditor")
            node = scene.AddNode(node)
        editor.setMRMLSegmentEditorNode(node)
    return editor
