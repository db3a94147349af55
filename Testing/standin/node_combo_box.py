"""qMRMLWidget and the combo boxes of nodes: qMRMLNodeComboBox, qMRMLCheckableNodeComboBox."""

# ruff: noqa: N801, N802, N815 (Slicer's and Qt's names)

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import dialogs
from .observers import Observers
from .properties import stored

_CREATE, _RENAME, _DELETE = "create", "rename", "delete"
_ROLE = QtCore.Qt.ItemDataRole.UserRole


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    SIGNATURES = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}  # noqa: RUF012
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """Use that scene; connected widgets follow."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _refresh(self: qMRMLNodeComboBox) -> None:
    if self._scene is not None:
        self._refresh()


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """The nodes of some types; follows the scene as nodes come, go and change their names."""

    SIGNATURES = {  # noqa: RUF012
        f"{name}(vtkMRMLNode*)": f"{name}(PyObject)"
        for name in (
            "currentNodeChanged",
            "nodeActivated",
            "nodeAdded",
            "nodeAddedByUser",
            "nodeAddedByUserAction",
            "nodeAboutToBeRemoved",
            "nodeAboutToBeEdited",
        )
    }
    currentNodeChanged = Signal((object,), (bool,))
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)

    nodeTypes = stored("QStringList", "nodeTypes", [], _refresh)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], _refresh)
    showHidden = stored(bool, "showHidden", False, _refresh)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, _refresh)
    noneEnabled = stored(bool, "noneEnabled", False, _refresh)
    addEnabled = stored(bool, "addEnabled", True, _refresh)
    removeEnabled = stored(bool, "removeEnabled", True, _refresh)
    editEnabled = stored(bool, "editEnabled", False, _refresh)
    renameEnabled = stored(bool, "renameEnabled", False, _refresh)
    noneDisplay = stored(str, "noneDisplay", "None", _refresh)
    baseName = stored(str, "baseName", "")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "Singleton")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._current: Any = None
        self._nodes: list[Any] = []
        self._attributes: list[tuple[str, str, Any]] = []
        self._labels: dict[str, str] = {}
        self._scene_observers, self._node_observers = Observers(self), Observers(self)
        self._box = QtWidgets.QComboBox(self)
        self._box.activated.connect(self._activated)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._box)
        policy = QtWidgets.QSizePolicy
        self.setSizePolicy(policy.Policy.Preferred, policy.Policy.Fixed)
        self.setEnabled(False)

    # Slots and invokable methods

    def mrmlScene(self) -> Any:
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        """Show the nodes of that scene; without None allowed the first one becomes current."""
        if scene is self._scene:
            return
        self._scene_observers.clear()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            node_events = (scene.NodeAddedEvent, scene.NodeRemovedEvent)
            ends = (scene.EndBatchProcessEvent, scene.EndCloseEvent, scene.EndImportEvent)
            self._scene_observers.add(scene, node_events, type(self)._node_came_or_went)
            self._scene_observers.add(scene, ends, type(self)._scene_changed)
        self._refresh()

    def currentNode(self) -> Any:
        """The chosen node, or None."""
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        """Choose a node, or by its ID; one that is not shown means none."""
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene and node else None
        self._choose(node if node in self._nodes else None)

    def setCurrentNodeID(self, identifier: str) -> None:
        """Choose the node of that ID; an unknown one means none."""
        self.setCurrentNode(identifier)

    def setCurrentNodeIndex(self, index: int) -> None:
        """Choose by position among the nodes."""
        self._choose(self._nodes[index] if 0 <= index < len(self._nodes) else None)

    def nodeCount(self) -> int:
        """How many nodes there are to choose from."""
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        """The node at a position, or None."""
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        """Show nodes of that type only with this attribute (and value)."""
        self._attributes.append((node_type, name, value))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        """Undo `addAttribute`."""
        self._attributes = [a for a in self._attributes if a[:2] != (node_type, name)]
        self._refresh()

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        """How "Create new ..." calls a node type."""
        self._labels[node_type] = label
        self._refresh()

    def nodeTypeLabel(self, node_type: str) -> str:
        """How a node type is called."""
        return self._labels.get(node_type, node_type.removeprefix("vtkMRML").removesuffix("Node"))

    def addNode(self, node_type: str = "") -> Any:
        """Make a node of a type, the first one by default, and choose it."""
        types = self.property("nodeTypes")
        node_type = node_type or types[0]
        if node_type not in types:
            return None
        name = self.property("baseName") or self.nodeTypeLabel(node_type)
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(name))
        for kind, attribute, value in self._attributes:
            if node.IsA(kind):
                node.SetAttribute(attribute, value or "")
        self._refresh()
        if self.property("selectNodeUponCreation"):
            self._choose(node)
        self.nodeAddedByUserAction.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        """Remove the chosen node from the scene."""
        if self._current is not None:
            self._scene.RemoveNode(self._current)

    def renameCurrentNode(self) -> None:
        """Ask for another name."""
        if self._current is not None:
            name = dialogs.ask("qMRMLNodeComboBox", "Rename", self._current.GetName())
            if name:
                self._current.SetName(name)

    # Inner workings

    currentNodeID = Property(
        str, lambda self: self._current.GetID() if self._current else "", setCurrentNodeID
    )

    def _node_came_or_went(self, node: Any) -> None:
        """A node was added or removed, outside of a batch."""
        if self._scene.IsBatchProcessing():
            return
        gone = node in self._nodes
        if gone:
            self.nodeAboutToBeRemoved.emit(node)
        self._refresh()
        if not gone and node in self._nodes:
            self.nodeAdded.emit(node)
            self.nodeAddedByUser.emit(node)

    def _scene_changed(self, _: Any) -> None:
        self._refresh()

    def _node_modified(self, _: Any) -> None:
        """A name, or whether the node is hidden, may have changed."""
        before = self._box.currentText()
        current = self._current
        self._refresh()
        if current is self._current and current is not None and before != current.GetName():
            self.currentNodeRenamed.emit(current.GetName())

    def _shows(self, node: Any) -> bool:
        """Whether a node passes the filters."""
        types = self.property("nodeTypes")
        exact = not self.property("showChildNodeTypes")
        if not any(node.GetClassName() == t if exact else node.IsA(t) for t in types):
            return False
        if any(map(node.IsA, self.property("hideChildNodeTypes"))):
            return False
        if node.GetHideFromEditors() and not self.property("showHidden"):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def _candidates(self) -> list[Any]:
        """The nodes of the wanted types, hidden or not."""
        if self._scene is None:
            return []
        nodes = (self._scene.GetNthNode(i) for i in range(self._scene.GetNumberOfNodes()))
        return [n for n in nodes if any(map(n.IsA, self.property("nodeTypes")))]

    def _refresh(self) -> None:
        """Read the scene anew; a current node that is gone gives way to its neighbour."""
        candidates = self._candidates()
        before, self._nodes = self._nodes, list(filter(self._shows, candidates))
        self._node_observers.clear()
        for node in candidates:
            modified = (vtk.vtkCommand.ModifiedEvent,)
            self._node_observers.add(node, modified, type(self)._node_modified)
        current = self._current
        if current not in self._nodes:
            optional = self.property("noneEnabled")
            row = before.index(current) if current in before else 0
            others = self._nodes[: row + 1] if current is not None or not optional else []
            current = others[-1] if others else None
        self._fill()
        self._choose(current)

    def _fill(self) -> None:
        """Write the items anew: None, the nodes, what can be done with them."""
        with self._silently() as box:
            box.clear()
            if self.property("noneEnabled"):
                box.addItem(self.property("noneDisplay"), "")
            for node in self._nodes:
                box.addItem(node.GetName() or "", node.GetID())
            actions = self._actions()
            if actions and box.count():
                box.insertSeparator(box.count())
            for text, action in actions:
                box.addItem(text, action)
            self._show_current()

    def _actions(self) -> list[tuple[str, tuple[str, str]]]:
        items = []
        if self.property("renameEnabled") and self._current is not None:
            items.append(("Rename current node", (_RENAME, "")))
        if self.property("removeEnabled") and self._current is not None:
            items.append(("Delete current node", (_DELETE, "")))
        if self.property("addEnabled"):
            for node_type in self.property("nodeTypes"):
                text = f"Create new {self.nodeTypeLabel(node_type)}"
                items.append((text, (_CREATE, node_type)))
        return items

    def _choose(self, node: Any) -> None:
        """Make a node current and tell."""
        changed = node is not self._current
        self._current = node
        with self._silently():
            self._show_current()
        if changed:
            self._fill()
            self.currentNodeChanged[object].emit(node)
            self.currentNodeChanged[bool].emit(node is not None)
            self.currentNodeIDChanged.emit(node.GetID() if node else "")

    def _show_current(self) -> None:
        data = self._current.GetID() if self._current else ""
        self._box.setCurrentIndex(self._box.findData(data))

    def _activated(self, index: int) -> None:
        """The user chose an item."""
        data = self._box.itemData(index)
        if isinstance(data, str):
            self.setCurrentNode(data)
            self.nodeActivated.emit(self._current)
            return
        self._show_current()
        action, node_type = data
        if action == _CREATE:
            self.addNode(node_type)
        elif action == _RENAME:
            self.renameCurrentNode()
        else:
            self.removeCurrentNode()

    @contextlib.contextmanager
    def _silently(self) -> Iterator[QtWidgets.QComboBox]:
        with QtCore.QSignalBlocker(self._box):
            yield self._box


class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """Nodes to check, several at once; none at first."""

    checkedNodesChanged = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._checked: set[str] = set()
        self._box.setModel(QtGui.QStandardItemModel(self._box))
        self._box.model().itemChanged.connect(self._item_changed)

    def checkedNodes(self) -> list[Any]:
        """The checked nodes, in the order of the scene."""
        return [node for node in self._nodes if node.GetID() in self._checked]

    def uncheckedNodes(self) -> list[Any]:
        """The others."""
        return [node for node in self._nodes if node.GetID() not in self._checked]

    def allChecked(self) -> bool:
        """Whether no node is unchecked."""
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        """Whether no node is checked."""
        return not self.checkedNodes()

    def checkState(self, node: Any) -> QtCore.Qt.CheckState:
        """Checked or Unchecked."""
        states = QtCore.Qt.CheckState
        return states.Checked if node in self.checkedNodes() else states.Unchecked

    def setCheckState(self, node: Any, state: int) -> None:
        """Check or uncheck a node."""
        change = self._checked.add if int(state) else self._checked.discard
        before = set(self._checked)
        change(node.GetID())
        if before != self._checked:
            self._fill()
            self.checkedNodesChanged.emit()

    def check(self, node: Any) -> None:
        """Check a node."""
        self.setCheckState(node, 2)

    def uncheck(self, node: Any) -> None:
        """Uncheck a node."""
        self.setCheckState(node, 0)

    def _refresh(self) -> None:
        super()._refresh()
        kept = self._checked & {node.GetID() for node in self._nodes}
        if kept != self._checked:
            self._checked = kept
            self.checkedNodesChanged.emit()

    def _fill(self) -> None:
        super()._fill()
        model = self._box.model()
        with QtCore.QSignalBlocker(model):
            for row in range(model.rowCount()):
                data = model.item(row).data(_ROLE)
                if isinstance(data, str) and data:
                    model.item(row).setCheckable(True)
                    checked = QtCore.Qt.CheckState(2 if data in self._checked else 0)
                    model.item(row).setCheckState(checked)

    def _item_changed(self, item: QtGui.QStandardItem) -> None:
        """The user checked an item."""
        node = slicer.mrmlScene.GetNodeByID(item.data(_ROLE)) if item.isCheckable() else None
        if node is not None:
            self.setCheckState(node, item.checkState().value)
