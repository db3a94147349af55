"""A model of Slicer's Segment Editor: its widget, its effects and its module.

What edits voxels is Slicer's own ``vtkSlicerSegmentEditorLogic``; modelled here is the thin layer
of Qt above it, with the names of Slicer 5.10 to 5.12. Names that Slicer does not have raise. The
widget draws nothing: combo boxes, segment table and effect buttons are missing.
"""
# ruff: noqa: N801, N802, N803, N815 -- names as Slicer has them

from __future__ import annotations

from typing import ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from standin.node_combo_box import qMRMLWidget
from standin.observers import Observers
from standin.pythonqt import proxy_class, wrap
from standin.strict import Strict
from standin.uiloader import WIDGETS

#: The effects that come with Slicer, in its order.
EFFECTS = (
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)
#: Effects that work on the whole segmentation, not on the selected segment.
WHOLE_SEGMENTATION = ("Grow from seeds", "Fill between slices")


class qSlicerSegmentEditorAbstractEffect(Strict):
    """An effect as scripts use one: it changes segments, keeps parameters, saves for undo."""

    ModificationModeSet = 0
    ModificationModeAdd = 1
    ModificationModeRemove = 2
    ModificationModeRemoveAll = 3
    NotConfirmed = 0
    ConfirmedWithoutDialog = 1
    ConfirmedWithDialog = 2

    def __init__(self, name: str, editor: qMRMLSegmentEditorWidget) -> None:
        self._name = name
        self._editor = editor
        self._active = False

    name = property(lambda self: self._name)
    title = property(lambda self: self._name)
    perSegment = property(lambda self: self._name not in WHOLE_SEGMENTATION)
    requireSegments = property(lambda self: True)

    def active(self) -> bool:
        return self._active

    def activate(self) -> None:
        self._active = True

    def deactivate(self) -> None:
        self._active = False

    def parameterSetNode(self):
        return self._editor.mrmlSegmentEditorNode()

    def scene(self):
        node = self.parameterSetNode()
        return node.GetScene() if node else None

    def saveStateForUndo(self) -> None:
        self._editor.saveStateForUndo()

    def selectEffect(self, name: str) -> None:
        self._editor.setActiveEffectByName(name)

    def modifySegmentByLabelmap(
        self, segmentationNode, segmentID, modifierLabelmap, modificationMode, bypassMasking=False
    ) -> None:
        if not isinstance(bypassMasking, bool):
            raise TypeError("bypassMasking is a bool; Python cannot pass an extent")
        logic = slicer.vtkSlicerSegmentEditorLogic
        mode = {
            self.ModificationModeSet: logic.ModificationModeSet,
            self.ModificationModeAdd: logic.ModificationModeAdd,
            self.ModificationModeRemove: logic.ModificationModeRemove,
            self.ModificationModeRemoveAll: logic.ModificationModeRemoveAll,
        }[modificationMode]
        self._editor._logic.ModifySegmentByLabelmap(
            segmentationNode, segmentID, modifierLabelmap, mode, self.perSegment, bypassMasking
        )

    def modifySelectedSegmentByLabelmap(
        self, modifierLabelmap, modificationMode, bypassMasking=False
    ) -> None:
        node = self.parameterSetNode()
        segmentation, selected = node.GetSegmentationNode(), node.GetSelectedSegmentID() or ""
        self.modifySegmentByLabelmap(
            segmentation, selected, modifierLabelmap, modificationMode, bypassMasking
        )

    def modifierLabelmap(self):
        return self._editor._logic.GetModifierLabelmap()

    def defaultModifierLabelmap(self):
        if not self._editor._logic.ResetModifierLabelmapToDefault():
            return None
        return self._editor._logic.GetModifierLabelmap()

    def maskLabelmap(self):
        return self._labelmap("UpdateMaskLabelmap", "GetMaskLabelmap")

    def selectedSegmentLabelmap(self):
        return self._labelmap("UpdateSelectedSegmentLabelmap", "GetSelectedSegmentLabelmap")

    def referenceGeometryImage(self):
        return self._labelmap("UpdateReferenceGeometryImage", "GetReferenceGeometryImage")

    def sourceVolumeImageData(self):
        return self._labelmap("UpdateAlignedSourceVolume", "GetAlignedSourceVolume")

    def _labelmap(self, update: str, get: str):
        logic = self._editor._logic
        return getattr(logic, get)() if getattr(logic, update)() else None

    def parameter(self, name: str) -> str:
        """The effect's own parameter, else the common one, else nothing."""
        node = self.parameterSetNode()
        return node.GetAttribute(f"{self._name}.{name}") or node.GetAttribute(name) or ""

    def integerParameter(self, name: str) -> int:
        return int(self.parameter(name) or 0)

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name) or 0)

    def setParameter(self, name: str, value: object) -> None:
        self.setCommonParameter(f"{self._name}.{name}", value)

    def setCommonParameter(self, name: str, value: object) -> None:
        node = self.parameterSetNode()
        node.SetAttribute(name, str(value))
        node.InvokeCustomModifiedEvent(slicer.vtkMRMLSegmentEditorNode.EffectParameterModified)

    def parameterDefined(self, name: str) -> bool:
        return bool(self.parameterSetNode().GetAttribute(f"{self._name}.{name}"))

    def commonParameterDefined(self, name: str) -> bool:
        return bool(self.parameterSetNode().GetAttribute(name))


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """The widget that modules embed: what is edited, by which effect, and undo.

    Scripts see it through ``standin.pythonqt``.
    """

    SIGNATURES: ClassVar = {
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged(PyObject)",
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged(PyObject)",
    }
    currentSegmentIDChanged = QtCore.Signal(str)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    segmentationNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._segmentation = None
        self._source = None
        self._active = None
        self._selected = ""
        self._auto_show = True
        self._undo = True
        self._views_observed = False
        self._observers = {x: Observers(self) for x in ("scene", "editor", "segmentation")}
        self._effects = [qSlicerSegmentEditorAbstractEffect(name, self) for name in EFFECTS]

    # Nodes

    def setMRMLScene(self, scene) -> None:
        """The first segmentation of the scene is selected where none is yet, as Slicer does."""
        if scene is self._scene:
            return
        super().setMRMLScene(scene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(scene)
        ends = (slicer.vtkMRMLScene.EndCloseEvent, slicer.vtkMRMLScene.EndBatchProcessEvent)
        self._observe("scene", scene, ends, lambda me, _: me._after_batch())
        if scene:
            self._after_batch()

    def _after_batch(self) -> None:
        node = self.mrmlSegmentEditorNode()
        if node and not node.GetSegmentationNode():
            self.setSegmentationNode(self._scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))
        self.updateWidgetFromMRML()

    def mrmlSegmentEditorNode(self):
        return self._logic.GetSegmentEditorNode()

    def setMRMLSegmentEditorNode(self, node) -> None:
        if node is self.mrmlSegmentEditorNode():
            return
        self._logic.SetSegmentEditorNode(node)
        modified = (vtk.vtkCommand.ModifiedEvent,)
        self._observe("editor", node, modified, lambda me, _: me.updateWidgetFromMRML())
        self.updateWidgetFromMRML()

    def segmentationNode(self):
        """What the node selector shows: nothing before the scene is set."""
        return self._logic.GetSegmentationNode() if self._scene else None

    def segmentationNodeID(self) -> str:
        node = self.segmentationNode()
        return node.GetID() if node else ""

    def setSegmentationNode(self, node) -> None:
        if node is self._logic.GetSegmentationNode():
            return
        self._logic.SetSegmentationNode(node)
        self.setActiveEffect(None)

    def setSegmentationNodeID(self, nodeID: str) -> None:
        self.setSegmentationNode(self._scene.GetNodeByID(nodeID))

    def sourceVolumeNode(self):
        return self._logic.GetSourceVolumeNode()

    def sourceVolumeNodeID(self) -> str:
        node = self.sourceVolumeNode()
        return node.GetID() if node else ""

    def setSourceVolumeNode(self, node) -> None:
        """Slicer refuses it, with a line in the log, before the segmentation is set."""
        self._logic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, nodeID: str) -> None:
        self.setSourceVolumeNode(self._scene.GetNodeByID(nodeID) if nodeID else None)

    def currentSegmentID(self) -> str:
        return self._logic.GetCurrentSegmentID()

    def setCurrentSegmentID(self, segmentID: str) -> None:
        self._logic.SetCurrentSegmentID(segmentID)

    # Effects

    def availableEffectNames(self) -> tuple[str, ...]:
        return tuple(effect.name for effect in self._effects)

    def effectByName(self, name: str):
        return next((effect for effect in self._effects if effect.name == name), None)

    def activeEffect(self):
        return self._active

    def setActiveEffect(self, effect) -> None:
        node = self.mrmlSegmentEditorNode()
        if node:
            node.SetActiveEffectName(effect.name if effect else "")

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    # Undo

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()

    def redo(self) -> None:
        self._logic.Redo()

    def setUndoEnabled(self, enabled: bool) -> None:
        """It only shows or hides the buttons; states go on being saved (so in Slicer)."""
        if enabled:
            self._logic.ClearUndoState()
        self._undo = bool(enabled)

    def setMaximumNumberOfUndoStates(self, number: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(number)

    undoEnabled = QtCore.Property(bool, lambda self: self._undo, setUndoEnabled)
    maximumNumberOfUndoStates = QtCore.Property(
        int, lambda self: self._logic.GetMaximumNumberOfUndoStates(), setMaximumNumberOfUndoStates
    )

    # Views

    def setAutoShowSourceVolumeNode(self, show: bool) -> None:
        self._auto_show = bool(show)

    autoShowSourceVolumeNode = QtCore.Property(
        bool, lambda self: self._auto_show, setAutoShowSourceVolumeNode
    )

    def showSourceVolumeInSliceViewers(self, forceShowInBackground=False, fitSlice=False) -> None:
        source = self.sourceVolumeNode()
        manager = slicer.app.layoutManager() if hasattr(slicer.app, "layoutManager") else None
        if not source or not manager:
            return
        for name in manager.sliceViewNames():
            logic = manager.sliceWidget(name).sliceLogic()
            shown = logic.GetSliceCompositeNode()
            volumes = (shown.GetBackgroundVolumeID(), shown.GetForegroundVolumeID())
            if forceShowInBackground or source.GetID() not in volumes:
                shown.SetBackgroundVolumeID(source.GetID())
                shown.SetForegroundVolumeID(None)
                shown.SetLabelVolumeID(None)
            if fitSlice:
                logic.FitSliceToBackground(True)

    def setupViewObservations(self) -> None:
        self._views_observed = True

    def removeViewObservations(self) -> None:
        self._views_observed = False

    def turnOffLightboxes(self) -> bool:
        return False

    def installKeyboardShortcuts(self, parent=None) -> None:
        """The shortcuts themselves are not modelled."""

    def uninstallKeyboardShortcuts(self) -> None:
        """The shortcuts themselves are not modelled."""

    # What follows the nodes

    def updateWidgetFromMRML(self) -> None:
        scene, node = self._scene, self.mrmlSegmentEditorNode()
        if not scene or scene.IsClosing() or scene.IsBatchProcessing() or not node:
            return
        with slicer.util.NodeModify(node):
            self._follow_segmentation()
            self._follow_source()
            self._follow_selection()
            self._follow_effect()

    def _follow_segmentation(self) -> None:
        """Another segmentation brings its reference volume (or none) and its first segment."""
        node = self._logic.GetSegmentationNode()
        if node is self._segmentation:
            return
        self._segmentation = node
        modified = (vtk.vtkCommand.ModifiedEvent,)
        self._observe("segmentation", node, modified, lambda me, _: me.updateWidgetFromMRML())
        if node:
            role = node.GetReferenceImageGeometryReferenceRole()
            self.setSourceVolumeNode(node.GetNodeReference(role))
            node.CreateDefaultDisplayNodes()
            self._logic.SelectFirstSegment(False)
        self.segmentationNodeChanged.emit(node)

    def _follow_source(self) -> None:
        source = self._logic.GetSourceVolumeNode()
        if source is self._source or not self._segmentation:
            return
        self._source = source
        if source and self._auto_show:
            self.showSourceVolumeInSliceViewers()
        self.sourceVolumeNodeChanged.emit(source)

    def _follow_selection(self) -> None:
        selected = self._logic.GetCurrentSegmentID()
        if selected != self._selected:
            self._selected = selected
            self.currentSegmentIDChanged.emit(selected)

    def _follow_effect(self) -> None:
        effect = self.effectByName(self.mrmlSegmentEditorNode().GetActiveEffectName())
        if effect is self._active:
            return
        if self._active:
            self._active.deactivate()
        if effect and not self._logic.TrivialSetSourceRepresentationToBinaryLabelmap():
            raise NotImplementedError("Slicer asks here whether to convert to a binary labelmap")
        self._active = effect
        if effect:
            self.setupViewObservations()
            effect.activate()
        else:
            self.removeViewObservations()

    def _observe(self, what: str, node, events: tuple[int, ...], method) -> None:
        """Replaces the observers of what was observed before under that name."""
        self._observers[what].clear()
        self._observers[what].add(node, events, method)


class SegmentEditorModuleWidget(Strict):
    """``slicer.modules.segmenteditor.widgetRepresentation()``, and its ``self()`` at once."""

    def __init__(self) -> None:
        self._editor = wrap(qMRMLSegmentEditorWidget())
        self._editor.setMaximumNumberOfUndoStates(10)
        self._node = None
        # The node first, so that what is chosen as the scene is set is kept in it.
        self.selectParameterNode()
        self._editor.setMRMLScene(slicer.mrmlScene)
        scene = slicer.mrmlScene
        scene.AddObserver(scene.StartCloseEvent, self._on_start_close)
        scene.AddObserver(scene.EndCloseEvent, lambda *_: self.selectParameterNode())

    editor = property(lambda self: self._editor)
    parameterSetNode = property(lambda self: self._node)

    def self(self) -> SegmentEditorModuleWidget:
        return self

    def selectParameterNode(self) -> None:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag("SegmentEditor")
            node = scene.AddNode(node)
        self._node = node
        self._editor.setMRMLSegmentEditorNode(node)

    def enter(self) -> None:
        """The user opens the module: a segmentation is selected, and made where there is none."""
        self._editor.installKeyboardShortcuts()
        self.selectParameterNode()
        self._editor.updateWidgetFromMRML()
        if not self._editor.segmentationNode():
            scene = slicer.mrmlScene
            node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
            self._editor.setSegmentationNode(
                node or scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
            )
        if not self._editor.sourceVolumeNode():
            self._editor.setSourceVolumeNode(self._shown_volume())

    def exit(self) -> None:
        self._editor.setActiveEffect(None)
        self._editor.uninstallKeyboardShortcuts()
        self._editor.removeViewObservations()

    def _shown_volume(self):
        nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode", slicer.mrmlScene)
        shown = (node.GetBackgroundVolumeID() for node in nodes)
        return next((slicer.mrmlScene.GetNodeByID(volume) for volume in shown if volume), None)

    def _on_start_close(self, *_) -> None:
        self._node = None
        self._editor.setSegmentationNode(None)
        self._editor.removeViewObservations()


class SegmentEditorModule(Strict):
    """``slicer.modules.segmenteditor``; its widget is made when first asked for."""

    def __init__(self) -> None:
        self._widget = None

    name = property(lambda self: "SegmentEditor")
    title = property(lambda self: "Segment Editor")

    def widgetRepresentation(self) -> SegmentEditorModuleWidget:
        if self._widget is None:
            self._widget = SegmentEditorModuleWidget()
        return self._widget


def install() -> None:
    """Put the module and the classes where scripts look for them; the scene is there already."""
    slicer.modules.segmenteditor = SegmentEditorModule()
    slicer.qSlicerSegmentEditorAbstractEffect = qSlicerSegmentEditorAbstractEffect
    WIDGETS["qMRMLSegmentEditorWidget"] = qMRMLSegmentEditorWidget
    slicer.qMRMLSegmentEditorWidget = proxy_class(qMRMLSegmentEditorWidget)
