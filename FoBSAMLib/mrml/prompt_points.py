"""The prompts of one slice as points that the user can drag, add and delete in the views."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import slicer
import vtk

from FoBSAMLib.image.volume import ARRAY_AXIS, Axis
from FoBSAMLib.prompts import Prompts

GREEN, RED = (0.15, 0.85, 0.25), (0.95, 0.2, 0.2)
#: Of the point under the mouse.
HOVERED = (1.0, 1.0, 0.4)
#: Of the view's size, in percent: several points side by side stay apart.
GLYPH_SCALE = 2.0
#: Points that moved less, in pixels, were not moved.
STILL = 1e-3

#: For each axis, which of (i, j, k) are a slice's x and y; see `Volume.take`.
_XY: dict[Axis, tuple[int, int]] = {"k": (0, 1), "j": (0, 2), "i": (1, 2)}

Edited = Callable[[Prompts], None]


class PromptPoints:
    """Two lists of points, green foreground and red background, of the slice that is shown.

    They can only be where the slice is: a point that is dragged or placed beside it is moved
    onto it. The lists are not saved with the scene. They stay in the subject hierarchy, since
    the views offer to delete only points that are there.
    """

    def __init__(
        self, scene: slicer.vtkMRMLScene, ijk_to_world: np.ndarray, shape: tuple[int, int, int]
    ):
        """For slices of the grid ``ijk_to_world`` of ``shape`` (K, J, I)."""
        self._ijk_to_world = ijk_to_world
        self._world_to_ijk = np.linalg.inv(ijk_to_world)
        self._shape = shape
        self._axis: Axis = "k"
        self._index = 0
        self._known = Prompts()
        self._callbacks: list[Edited] = []
        self._own_change = False
        self._dragging = False
        self._observed: list[tuple[vtk.vtkObject, int]] = []
        self._nodes: list[slicer.vtkMRMLNode] = []
        self.foreground = self._add_list(scene, "FoBSAM foreground", GREEN)
        self.background = self._add_list(scene, "FoBSAM background", RED)

    def on_edited(self, callback: Edited) -> None:
        """Call ``callback`` with the slice's prompts whenever the user has changed them, and on the
        way while a point is dragged."""
        self._callbacks.append(callback)

    def show(self, prompts: Prompts, axis: Axis, index: int) -> None:
        """Show the prompts of a slice, in place of those shown before; nobody is told."""
        self._axis, self._index, self._known = axis, index, prompts
        self._dragging = False
        self._place(prompts)
        for node in self._lists():
            node.GetDisplayNode().SetVisibility(True)

    def hide(self) -> None:
        """Show no points; nobody is told."""
        self._known = Prompts()
        self._dragging = False
        self._place(self._known)
        for node in self._lists():
            node.GetDisplayNode().SetVisibility(False)

    def remove(self) -> None:
        """Take the lists out of the scene and stop listening; twice does nothing."""
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed.clear()
        self._callbacks.clear()
        for node in self._nodes:
            if node.GetScene() is not None:
                node.GetScene().RemoveNode(node)

    def _lists(self) -> list[slicer.vtkMRMLMarkupsFiducialNode]:
        """Those that the user has not deleted."""
        return [node for node in (self.background, self.foreground) if node.GetScene() is not None]

    def _add_list(
        self, scene: slicer.vtkMRMLScene, name: str, color: tuple[float, float, float]
    ) -> slicer.vtkMRMLMarkupsFiducialNode:
        selection = scene.GetFirstNodeByClass("vtkMRMLSelectionNode")
        chosen = selection.GetActivePlaceNodeID() if selection else None
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", scene.GenerateUniqueName(name))
        if selection is not None:  # the user places points in a list of his own
            selection.SetActivePlaceNodeID(chosen)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        # A list that the user deletes leaves its display node behind.
        self._nodes += [node, display]
        for one in (node, display):
            one.SetSaveWithScene(False)
            one.SetUndoEnabled(False)
        display.SetColor(*color)
        display.SetSelectedColor(*color)
        display.SetActiveColor(*HOVERED)
        display.SetUseGlyphScale(True)
        display.SetGlyphScale(GLYPH_SCALE)
        display.SetPointLabelsVisibility(False)
        display.SetPropertiesLabelVisibility(False)
        display.SetSliceProjection(False)
        display.SetSnapMode(display.SnapModeUnconstrained)
        display.SetVisibility3D(False)
        display.SetVisibility(False)
        for event, react in (
            (node.PointStartInteractionEvent, self._start_dragging),
            (node.PointEndInteractionEvent, self._stop_dragging),
            (node.PointPositionDefinedEvent, self._look),
            (node.PointModifiedEvent, self._look),
            (node.PointRemovedEvent, self._look),
        ):
            self._observed.append((node, node.AddObserver(event, react)))
        return node

    def _place(self, prompts: Prompts) -> None:
        """Set the points; those that are there keep their IDs, so that views need not blink."""
        self._own_change = True
        try:
            for node, points in (
                (self.foreground, prompts.foreground),
                (self.background, prompts.background),
            ):
                placed = vtk.vtkPoints()
                for point in self._to_world(points):
                    placed.InsertNextPoint(point)
                node.SetControlPointPositionsWorld(placed)
        finally:
            self._own_change = False

    def _start_dragging(self, *_: object) -> None:
        self._dragging = True

    def _stop_dragging(self, *_: object) -> None:
        self._dragging = False
        self._look()

    def _look(self, *_: object) -> None:
        """Tell what the prompts are now, if they differ from what was told last.

        While a point is dragged that is on the way, too, so that the mask can follow. Placing a
        point begins with one that only follows the mouse: that is none yet.
        """
        if self._own_change:
            return
        prompts = Prompts(self._read(self.background), self._read(self.foreground))
        if _same(prompts, self._known):
            return
        self._known = prompts
        for callback in list(self._callbacks):
            callback(prompts)

    def _read(self, node: slicer.vtkMRMLMarkupsFiducialNode) -> np.ndarray:
        """The points of a list in pixels, float32 [n, 2]; those beside the slice are moved."""
        points = []
        for n in range(node.GetNumberOfControlPoints()):
            if node.GetNthControlPointPositionStatus(n) != node.PositionDefined:
                continue
            world = np.array(node.GetNthControlPointPositionWorld(n))
            point = self._to_slice(world)
            allowed = self._to_world(point[np.newaxis])[0]
            # What is being dragged is left to the mouse until it is let go.
            if not self._dragging and not np.allclose(world, allowed, atol=STILL):
                self._own_change = True
                node.SetNthControlPointPositionWorld(n, *allowed)
                self._own_change = False
            points.append(point)
        return np.array(points, np.float32).reshape(-1, 2)

    def _to_world(self, points: np.ndarray) -> np.ndarray:
        """Pixels (x, y), [n, 2], of the slice in world, [n, 3]."""
        x, y = _XY[self._axis]
        ijk = np.ones((len(points), 4))
        ijk[:, "ijk".index(self._axis)] = self._index
        ijk[:, [x, y]] = points
        return np.asarray((ijk @ self._ijk_to_world.T)[:, :3])

    def _to_slice(self, world: np.ndarray) -> np.ndarray:
        """A point [3] in the slice's pixels, (x, y): the nearest one, inside the image.

        Nearest in millimetres: along the slice's normal, which in a sheared grid is not its axis.
        """
        inward = self._world_to_ijk["ijk".index(self._axis), :3]
        beside = self._world_to_ijk @ [*world, 1]
        away = beside["ijk".index(self._axis)] - self._index
        ijk = self._world_to_ijk @ [*(world - inward * away / (inward @ inward)), 1]
        height, width = (n for axis, n in enumerate(self._shape) if axis != ARRAY_AXIS[self._axis])
        x, y = ijk[list(_XY[self._axis])]
        return np.array([np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)])


def _same(one: Prompts, other: Prompts) -> bool:
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=0, atol=STILL)
        for a, b in (
            (one.background, other.background),
            (one.foreground, other.foreground),
        )
    )
