"""Widgets that show the segments of a segmentation: the table and the selector."""

# ruff: noqa: N801, N802, N815 (Slicer's and Qt's names)

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .node_combo_box import qMRMLNodeComboBox, qMRMLWidget
from .observers import Observers
from .properties import stored

_ID = QtCore.Qt.ItemDataRole.UserRole


def _events() -> tuple[int, ...]:
    segmentation = slicer.vtkSegmentation
    return (
        segmentation.SegmentAdded,
        segmentation.SegmentRemoved,
        segmentation.SegmentModified,
        segmentation.SegmentsOrderModified,
    )


def _segment_ids(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []


class qMRMLSegmentsTableView(qMRMLWidget):
    """A row a segment; the user selects rows."""

    SIGNATURES = {}  # noqa: RUF012
    selectionChanged = Signal(QtCore.QItemSelection, QtCore.QItemSelection)
    segmentAboutToBeModified = Signal(str)
    headerVisible = stored(bool, "headerVisible", True, lambda self: self._apply())
    visibilityColumnVisible = stored(bool, "visibility", True, lambda self: self._apply())
    colorColumnVisible = stored(bool, "color", True, lambda self: self._apply())
    opacityColumnVisible = stored(bool, "opacity", False, lambda self: self._apply())
    statusColumnVisible = stored(bool, "status", False, lambda self: self._apply())
    layerColumnVisible = stored(bool, "layer", False)
    readOnly = stored(bool, "readOnly", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    jumpToSelectedSegmentEnabled = stored(bool, "jump", False)
    textFilter = stored(str, "textFilter", "", lambda self: self._refresh())

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._hidden: list[str] = []
        self._observers = Observers(self)
        self._table = QtWidgets.QTableWidget(0, 4, self)
        self._table.setHorizontalHeaderLabels(["", "", "Opacity", "Name"])
        self._table.verticalHeader().hide()
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.setSelectionBehavior(QtWidgets.QTableWidget.SelectionBehavior.SelectRows)
        self._table.setEditTriggers(QtWidgets.QTableWidget.EditTrigger.NoEditTriggers)
        for column, width in enumerate((28, 28, 60)):
            self._table.setColumnWidth(column, width)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged)
        self._apply()

    def segmentationNode(self) -> Any:
        """The segmentation node, or None."""
        return self._node

    def tableWidget(self) -> QtWidgets.QTableWidget:
        """The table inside."""
        return self._table

    def setSegmentationNode(self, node: Any) -> None:
        """Show the segments of that node, or nothing."""
        self._observers.clear()
        self._node = node
        if node is not None:
            self._observers.add(node, _events(), lambda self, _: self._refresh())
        self._refresh()

    def setMRMLScene(self, scene: Any) -> None:
        """Use that scene."""
        super().setMRMLScene(scene)

    def selectedSegmentIDs(self) -> list[str]:
        """The IDs of the selected rows, from top to bottom."""
        rows = {index.row() for index in self._table.selectionModel().selectedRows()}
        return [self.segmentIDForRow(row) for row in sorted(rows)]

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        """Select these rows and no other."""
        if list(ids) == self.selectedSegmentIDs():
            return
        selection = QtCore.QItemSelection()
        model = self._table.model()
        for row in range(self._table.rowCount()):
            if self.segmentIDForRow(row) in ids:
                last = model.index(row, model.columnCount() - 1)
                selection.select(model.index(row, 0), last)
        flag = QtCore.QItemSelectionModel.SelectionFlag.ClearAndSelect
        self._table.selectionModel().select(selection, flag)

    def clearSelection(self) -> None:
        """Select nothing."""
        self._table.clearSelection()

    def setHideSegments(self, ids: list[str]) -> None:
        """Do not show these segments."""
        self._hidden = list(ids)
        self._refresh()

    def hideSegments(self) -> list[str]:
        """The segments not shown."""
        return list(self._hidden)

    def displayedSegmentIDs(self) -> list[str]:
        """The segments shown, from top to bottom."""
        return [self.segmentIDForRow(row) for row in range(self._table.rowCount())]

    def rowForSegmentID(self, identifier: str) -> int:
        """The row of a segment, or -1."""
        shown = self.displayedSegmentIDs()
        return shown.index(identifier) if identifier in shown else -1

    def segmentIDForRow(self, row: int) -> str:
        """The segment of a row, or ""."""
        item = self._table.item(row, 3)
        return item.data(_ID) if item is not None else ""

    def setSelectionMode(self, mode: int) -> None:
        """QAbstractItemView's mode, as an int."""
        self._table.setSelectionMode(QtWidgets.QTableWidget.SelectionMode(int(mode)))

    segmentCount = Property(int, lambda self: self._table.rowCount())
    selectionMode = Property(int, lambda self: self._table.selectionMode().value, setSelectionMode)

    def _apply(self) -> None:
        self._table.horizontalHeader().setVisible(self.property("headerVisible"))
        names = ("visibilityColumnVisible", "colorColumnVisible", "opacityColumnVisible")
        for column, name in enumerate(names):
            self._table.setColumnHidden(column, not self.property(name))

    def _refresh(self) -> None:
        """Write the rows anew; what was selected and is still there stays selected."""
        words = self.property("textFilter").lower()
        segmentation = self._node.GetSegmentation() if self._node is not None else None
        shown = [
            identifier
            for identifier in _segment_ids(self._node)
            if identifier not in self._hidden
            and words in segmentation.GetSegment(identifier).GetName().lower()
        ]
        selected = self.selectedSegmentIDs()
        model = self._table.selectionModel()
        model.blockSignals(True)
        self._table.setRowCount(len(shown))
        for row, identifier in enumerate(shown):
            self._fill_row(row, identifier, segmentation.GetSegment(identifier))
        model.blockSignals(False)
        kept = [identifier for identifier in selected if identifier in shown]
        if kept != self.selectedSegmentIDs():
            self.setSelectedSegmentIDs(kept)
        if kept != selected:
            empty = QtCore.QItemSelection()
            self.selectionChanged.emit(empty, empty)

    def _fill_row(self, row: int, identifier: str, segment: Any) -> None:
        color = QtGui.QColor.fromRgbF(*segment.GetColor())
        for column, text in enumerate(("", "", "1.00", segment.GetName())):
            item = QtWidgets.QTableWidgetItem(text)
            item.setData(_ID, identifier)
            self._table.setItem(row, column, item)
        self._table.item(row, 1).setBackground(color)


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    SIGNATURES = {"currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged(PyObject)"}  # noqa: RUF012
    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._observers = Observers(self)
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        for name in ("addEnabled", "removeEnabled"):
            self._nodes.setProperty(name, False)
        self._segments = QtWidgets.QComboBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._nodes)
        row.addWidget(self._segments)
        self._nodes.currentNodeChanged[object].connect(self._on_node)
        self._segments.currentIndexChanged.connect(self._on_segment)

    def setMRMLScene(self, scene: Any) -> None:
        """Use that scene."""
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def currentNode(self) -> Any:
        """The segmentation node, or None."""
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        """Its ID, or ""."""
        return self.currentNode().GetID() if self.currentNode() else ""

    def setCurrentNode(self, node: Any) -> None:
        """Choose a segmentation."""
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, identifier: str) -> None:
        """Choose a segmentation by its ID."""
        self._nodes.setCurrentNodeID(identifier)

    def currentSegmentID(self) -> str:
        """The chosen segment's ID, or ""."""
        return self._segments.currentData() or ""

    def setCurrentSegmentID(self, identifier: str) -> None:
        """Choose a segment."""
        self._segments.setCurrentIndex(self._segments.findData(identifier))

    noneEnabled = Property(
        bool,
        lambda self: self._nodes.property("noneEnabled"),
        lambda self, enabled: self._nodes.setProperty("noneEnabled", enabled),
    )
    segmentationNodeSelectorVisible = Property(
        bool,
        lambda self: not self._nodes.isHidden(),
        lambda self, shown: self._nodes.setVisible(shown),
    )

    def _on_node(self, node: Any) -> None:
        self._observers.clear()
        if node is not None:
            self._observers.add(node, _events(), lambda self, _: self._fill())
        self._fill()
        self.currentNodeChanged.emit(node)

    def _fill(self) -> None:
        before = self.currentSegmentID()
        with QtCore.QSignalBlocker(self._segments):
            self._segments.clear()
            for identifier in _segment_ids(self.currentNode()):
                segment = self.currentNode().GetSegmentation().GetSegment(identifier)
                self._segments.addItem(segment.GetName(), identifier)
            self._segments.setCurrentIndex(max(0, self._segments.findData(before)))
        if self.currentSegmentID() != before:
            self.currentSegmentChanged.emit(self.currentSegmentID())

    def _on_segment(self, index: int) -> None:
        self.currentSegmentChanged.emit(self.currentSegmentID())
