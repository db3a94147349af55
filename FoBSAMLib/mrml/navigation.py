"""Slice views and the slices of a grid: which one a view shows, and moving views to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from FoBSAMLib.image.volume import Axis
from FoBSAMLib.mrml.labelmaps import to_numpy
from FoBSAMLib.mrml.naming import slice_normal

#: A view shows a grid's slices as long as its plane is tilted by less than this, in degrees.
PARALLEL = 5.0


def slice_nodes(scene: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLSliceNode]:
    """The scene's slice views, in the order of their creation: Red first."""
    nodes = scene.GetNodesByClass("vtkMRMLSliceNode")
    return [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]


def parallel_views(
    nodes: Sequence[slicer.vtkMRMLSliceNode], ijk_to_world: np.ndarray, axis: Axis
) -> list[slicer.vtkMRMLSliceNode]:
    """Those that show the grid's slices along an axis, best first."""
    normal = slice_normal(ijk_to_world, axis)
    along = [(abs(float(to_numpy(n.GetSliceToRAS())[:3, 2] @ normal)), n) for n in nodes]
    shown = [pair for pair in along if pair[0] > np.cos(np.radians(PARALLEL))]
    return [node for _, node in sorted(shown, key=lambda pair: -pair[0])]


def shown_slice(node: slicer.vtkMRMLSliceNode, ijk_to_world: np.ndarray, axis: Axis) -> int:
    """The index of the grid's slice nearest to a view's plane; outside the grid, too."""
    centre = to_numpy(node.GetSliceToRAS())[:, 3]
    return round(float((np.linalg.inv(ijk_to_world) @ centre)["ijk".index(axis)]))


def jump_to_slice(
    nodes: Sequence[slicer.vtkMRMLSliceNode],
    ijk_to_world: np.ndarray,
    shape: tuple[int, int, int],
    axis: Axis,
    index: int,
    mask: np.ndarray | None = None,
) -> None:
    """Move the views that show the grid's slices along an axis to one of them.

    Where a mask, bool [H, W], is given, the other views move to its middle. Where no view shows
    these slices, the one that comes nearest is turned into their plane.
    """
    place = _middle(shape, axis, index, mask)
    ras = (ijk_to_world @ place)[:3]
    views = parallel_views(nodes, ijk_to_world, axis)
    if not views and nodes:
        views = [_turn(nodes, ijk_to_world, axis, ras)]
    for node in nodes:
        if node in views or (mask is not None and mask.any()):
            node.JumpSliceByOffsetting(*ras)


def _middle(
    shape: tuple[int, int, int], axis: Axis, index: int, mask: np.ndarray | None
) -> np.ndarray:
    """The voxel (i, j, k, 1) in the middle of a slice, or of what is in it."""
    rows, columns = (n for n in "kji" if n != axis)
    sizes = dict(zip("kji", shape, strict=True))
    if mask is not None and mask.any():
        middle = {
            name: float(np.flatnonzero(mask.any(axis=1 - n)).mean())
            for n, name in enumerate((rows, columns))
        }
    else:
        middle = {name: (sizes[name] - 1) / 2 for name in (rows, columns)}
    middle[axis] = float(index)
    return np.array([middle["i"], middle["j"], middle["k"], 1.0])


def _turn(
    nodes: Sequence[slicer.vtkMRMLSliceNode], ijk_to_world: np.ndarray, axis: Axis, ras: np.ndarray
) -> slicer.vtkMRMLSliceNode:
    """Turn the view that is tilted least into the plane of the slices; its own up stays up."""
    normal = slice_normal(ijk_to_world, axis)
    node = max(nodes, key=lambda n: abs(float(to_numpy(n.GetSliceToRAS())[:3, 2] @ normal)))
    matrix = to_numpy(node.GetSliceToRAS())
    if matrix[:3, 2] @ normal < 0:
        normal = -normal
    across = np.cross(matrix[:3, 1], normal)
    node.SetSliceToRASByNTP(*normal, *(across / np.linalg.norm(across)), *ras, 0)
    return node
