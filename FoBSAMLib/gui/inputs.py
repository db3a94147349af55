"""What to segment: the panel's first section, and what a run will cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui import settings
from FoBSAMLib.image.volume import Axis
from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure, read_drawn
from FoBSAMLib.mrml.masks import read_segments
from FoBSAMLib.mrml.naming import orientation
from FoBSAMLib.mrml.navigation import jump_to_slice, slice_nodes
from FoBSAMLib.mrml.run import Query, Run
from FoBSAMLib.mrml.sequences import time_points
from FoBSAMLib.mrml.volumes import ijk_to_world, node_to_world, read_volume
from FoBSAMLib.mrml.watch import Watch

#: Milliseconds after an edit until it is read: strokes come in bursts.
DELAY = 250
AXES: tuple[Any, ...] = ("auto", "k", "j", "i")
#: Seconds for which is read at a stretch; a segmentation may have a hundred structures.
STRETCH = 0.015

#: A row that can be ticked and clicked.
ROW = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable | qt.Qt.ItemIsUserCheckable


class Inputs:
    """Reads what is drawn, as it changes, and makes runs of it."""

    def __init__(self, ui: Any, on_changed: Callable[[], None]) -> None:
        """``on_changed`` is called whenever there is something else to segment."""
        self._ui = ui
        self._on_changed = on_changed
        self._parameters: Any = None
        self._watch: Watch | None = None
        self._filling = False
        #: What is drawn in the ticked segments, None where `problem` says why not.
        self.drawn: Drawn | None = None
        self.problem = ""
        self._reading: Iterator[None] = iter(())
        self._segmentation_id = ""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._turn)
        for value in AXES:
            ui.axisComboBox.addItem(_("found by itself") if value == "auto" else value, value)
        ui.structuresList.connect("itemChanged(QListWidgetItem*)", self._ticked)
        ui.structuresList.connect("itemClicked(QListWidgetItem*)", self._clicked)
        ui.queriesList.connect("itemChanged(QListWidgetItem*)", self._ticked)
        ui.axisComboBox.connect("currentIndexChanged(int)", self._axis_chosen)
        ui.allSlicesCheckBox.connect("toggled(bool)", self._show_range)

    def set_parameters(self, parameters: Any) -> None:
        """Show a scene's choices (a parameter node), None for none."""
        self.close()
        self._parameters = parameters
        self.refresh()

    def refresh_soon(self) -> None:
        """Read everything again, once no more changes come in."""
        self._reading = self._steps()
        self._timer.start(DELAY)

    def refresh(self) -> None:
        """Read what is drawn, and show it: a few structures at once, many little by little."""
        self._reading = self._steps()
        self._turn()

    def read_now(self) -> None:
        """Read what is drawn in the ticked structures, whatever else there is to show."""
        if self._parameters is not None:
            self._read()

    def _turn(self) -> None:
        self._timer.stop()
        until = time.perf_counter() + STRETCH
        for _step in self._reading:
            if time.perf_counter() > until:
                self._timer.start(0)
                return

    def _steps(self) -> Iterator[None]:
        """Everything there is to read and to show; yields after each structure."""
        parameters = self._parameters
        if parameters is not None:
            with self._fill():
                self._show_options()
                self._show_queries()
                items = self._make_rows()
            readable = not self._problem_of_nodes()
            for item in items:
                with self._fill():
                    self._describe(item, readable=readable)
                yield
            self._read()
            self._observe()
        self._on_changed()

    def close(self) -> None:
        """Look at nothing any more."""
        self._timer.stop()
        self._reading = iter(())
        self._parameters = None
        self.drawn, self.problem = None, ""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def make_run(self) -> Run:
        """The run that the user asks for; raises FoBSAMError where there is nothing to find."""
        parameters = self._parameters
        gone = parameters is None or None in (parameters.volume, parameters.segmentation)
        if self.drawn is None or gone:
            raise FoBSAMError("bad_request", self.problem or _("There is nothing to segment."))
        slices = None
        if not parameters.allSlices:
            slices = range(parameters.firstSlice, parameters.lastSlice + 1)
            if not slices:
                raise FoBSAMError("bad_request", _("The first slice lies after the last one."))
        return Run(
            self.drawn,
            parameters.volume,
            parameters.segmentation,
            own=parameters.ownVolume,
            slices=slices,
            queries=self._queries(),
        )

    def cost(self) -> str:
        """What a run will cost, or why there can be none."""
        if self.problem:
            return self.problem
        try:
            total = self.make_run().total
        except FoBSAMError as error:
            return str(error)
        device = settings.device_used()
        text = _("{total} slices to look in, about {time}")
        if self.drawn is not None and len(self.drawn.structures) > 1:
            text = _("{total} slices to look in for {count} structures, about {time}")
        text = text.format(
            total=total,
            count=len(self.drawn.structures) if self.drawn is not None else 0,
            time=duration(total * settings.seconds_a_slice()),
        )
        if device:
            return _("{slices} on {device}.").format(slices=text, device=device.upper())
        return _("{slices}, and some seconds to start.").format(slices=text)

    @contextmanager
    def _fill(self) -> Any:
        """What the code changes in the widgets is no choice of the user's."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def _make_rows(self) -> list[Any]:
        """A row for each segment, those there are already as they are."""
        parameters, rows = self._parameters, self._ui.structuresList
        node = parameters.segmentation
        ids = list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []
        if self._segmentation_id and node is not None and node.GetID() != self._segmentation_id:
            parameters.leftOut = []  # other segmentations have segments of the same IDs
        self._segmentation_id = node.GetID() if node is not None else self._segmentation_id
        if ids != _data(rows):
            rows.clear()
            for segment_id in ids:
                item = qt.QListWidgetItem(node.GetSegmentation().GetSegment(segment_id).GetName())
                item.setData(qt.Qt.UserRole, segment_id)
                item.setFlags(qt.Qt.NoItemFlags)
                rows.addItem(item)
            height = rows.sizeHintForRow(0) if ids else 20
            rows.setFixedHeight(8 + max(20, height) * min(6, max(1, len(ids))))
        return [rows.item(n) for n in range(rows.count)]

    def _describe(self, item: Any, *, readable: bool) -> None:
        """Say what is painted of a segment, or why it cannot be ticked."""
        node, segment_id = self._parameters.segmentation, item.data(qt.Qt.UserRole)
        segment = node.GetSegmentation().GetSegment(segment_id)
        pixmap = qt.QPixmap(14, 14)
        pixmap.fill(qt.QColor.fromRgbF(*segment.GetColor()))
        item.setIcon(qt.QIcon(pixmap))
        text, problem = segment.GetName(), ""
        try:
            if readable:
                text = self._read_segments([segment_id]).describe()[0]
        except FoBSAMError as error:
            problem, text = str(error), _("{name}: not on single slices")
            if segment_id not in read_segments(node, [segment_id]):
                text = _("{name}: nothing painted")
            text = text.format(name=segment.GetName())
        item.setText(text)
        item.setToolTip(problem)
        if problem or not readable:
            item.setFlags(qt.Qt.NoItemFlags)
            item.setData(qt.Qt.CheckStateRole, None)
        else:
            item.setFlags(ROW)
            ticked = segment_id not in self._parameters.leftOut
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)

    def _show_queries(self) -> None:
        parameters, rows = self._parameters, self._ui.queriesList
        rows.clear()
        chosen = {node.GetID() for node in parameters.queries if node is not None}
        for node in _volumes(parameters.volume):
            item = qt.QListWidgetItem(node.GetName())
            item.setData(qt.Qt.UserRole, node.GetID())
            ticked = node.GetID() in chosen
            item.setCheckState(qt.Qt.Checked if ticked else qt.Qt.Unchecked)
            rows.addItem(item)
        rows.setFixedHeight(8 + 20 * min(4, max(1, rows.count)))

    def _show_options(self) -> None:
        box, parameters = self._ui.axisComboBox, self._parameters
        box.setCurrentIndex(AXES.index(parameters.axis))
        for n, axis in enumerate(AXES[1:], 1):
            box.setItemText(n, _slices_along(parameters.volume, axis))
        self._show_range(self._parameters.allSlices)
        points = time_points(self._parameters.volume)
        self._ui.timePointsCheckBox.setEnabled(bool(points))

    def _show_range(self, everything: bool) -> None:
        for box in (self._ui.firstSliceSpinBox, self._ui.lastSliceSpinBox):
            box.setEnabled(not everything)

    def _read(self) -> None:
        """What is drawn in the ticked segments."""
        self.drawn = None
        self.problem = self._problem_of_nodes()
        ticked = self._ticked_segments()
        if self.problem:
            return
        if not ticked and self._ui.structuresList.count:
            why = [item.toolTip() for item in _items(self._ui.structuresList) if item.toolTip()]
            self.problem = _("Tick a structure that is painted on single slices.")
            if len(why) == self._ui.structuresList.count:
                self.problem = why[0]
            return
        try:
            self.drawn = self._read_segments(ticked or None)
        except FoBSAMError as error:
            self.problem = str(error)

    def _problem_of_nodes(self) -> str:
        """Why nothing can be read, whatever is painted; empty where it can."""
        parameters = self._parameters
        if parameters.volume is None:
            return _("Choose the volume that you painted on.")
        if parameters.segmentation is None:
            return _("Paint a structure on one slice in the Segment Editor.")
        try:
            read_volume(parameters.volume)
            node_to_world(parameters.segmentation)
        except FoBSAMError as error:
            return str(error)
        return ""

    def _read_segments(self, segment_ids: list[str] | None) -> Drawn:
        parameters = self._parameters
        views = slice_nodes(slicer.mrmlScene)
        return read_drawn(
            parameters.volume, parameters.segmentation, segment_ids, views, parameters.axis
        )

    def _ticked_segments(self) -> list[str]:
        return _ticked_data(self._ui.structuresList)

    def _queries(self) -> list[Query]:
        """The other volumes to look in."""
        parameters = self._parameters
        others = [node for node in parameters.queries if node not in (None, parameters.volume)]
        chosen = [Query(node.GetName(), node) for node in others]
        if parameters.timePoints:
            shown = parameters.volume
            points = time_points(shown)
            chosen += [Query(point.label, shown, point) for point in points if not point.current]
        return chosen

    def _observe(self) -> None:
        """Look when volume or segmentation change."""
        if self._watch is not None:
            self._watch.close()
        parameters = self._parameters
        nodes = [node for node in (parameters.volume, parameters.segmentation) if node is not None]
        self._watch = Watch(nodes, self.refresh_soon)

    def _ticked(self, _item: Any = None) -> None:
        if self._filling or self._parameters is None:
            return
        rows, left_out = self._ui.structuresList, set(self._parameters.leftOut)
        # What cannot be ticked now may be painted later.
        can = {i.data(qt.Qt.UserRole) for i in _items(rows) if i.flags() & qt.Qt.ItemIsEnabled}
        ticked = set(self._ticked_segments())
        self._parameters.leftOut = sorted((left_out - ticked) | (can - ticked))
        scene = slicer.mrmlScene
        queries = _ticked_data(self._ui.queriesList)
        self._parameters.queries = [scene.GetNodeByID(node_id) for node_id in queries]
        self.refresh_soon()

    def _clicked(self, item: Any) -> None:
        """Show the slice on which a structure is painted, in the middle where there are several."""
        for one in self.drawn.structures if self.drawn is not None else ():
            if one.segment_id == item.data(qt.Qt.UserRole):
                self.show_drawn(one)

    def show_drawn(self, one: DrawnStructure) -> None:
        """Show the slice on which a structure is painted."""
        assert self.drawn is not None
        index = sorted(one.masks)[len(one.masks) // 2]
        grid = (self.drawn.ijk_to_world, self.drawn.shape, self.drawn.axis)
        jump_to_slice(slice_nodes(slicer.mrmlScene), *grid, index, one.masks[index])

    def _axis_chosen(self, _index: int) -> None:
        if not self._filling and self._parameters is not None:
            self._parameters.axis = self._ui.axisComboBox.currentData
            self.refresh_soon()


def duration(seconds: float) -> str:
    """Seconds in words, as exactly as is known."""
    if seconds < 90:
        return _("{seconds} s").format(seconds=max(1, round(seconds)))
    return _("{minutes} min").format(minutes=round(seconds / 60))


def _items(rows: Any) -> list[Any]:
    return [rows.item(n) for n in range(rows.count)]


def _data(rows: Any) -> list[str]:
    return [item.data(qt.Qt.UserRole) for item in _items(rows)]


def _ticked_data(rows: Any) -> list[str]:
    ticked = [item for item in _items(rows) if item.checkState() == qt.Qt.Checked]
    return [item.data(qt.Qt.UserRole) for item in ticked]


def _slices_along(volume: Any, axis: Axis) -> str:
    """What a volume's slices along an axis are called."""
    words = {
        "axial": _("axial slices ({axis})"),
        "coronal": _("coronal slices ({axis})"),
        "sagittal": _("sagittal slices ({axis})"),
        "oblique": _("slices along {axis}"),
    }
    try:
        word = orientation(ijk_to_world(volume), axis) if volume is not None else "oblique"
    except FoBSAMError:  # told elsewhere
        word = "oblique"
    return words[word].format(axis=axis.upper())


def _volumes(but: Any) -> list[Any]:
    """The scene's volumes that can be looked in, without one."""
    scene = slicer.mrmlScene
    found = []
    for kind in ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"):
        nodes = scene.GetNodesByClass(kind)
        found += [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
    labelmap = "vtkMRMLLabelMapVolumeNode"
    return [
        node
        for node in dict.fromkeys(found)
        if node is not but and not node.GetHideFromEditors() and not node.IsA(labelmap)
    ]
