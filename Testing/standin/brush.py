"""Test-side: paint with Slicer's round 2-D brush, without a mouse.

The brush is a disc in the plane of the view, as thick as a slice, and snaps to the nearest voxel;
masking, overwriting and undo are the Segment Editor's own.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

#: The patient axis (R, A or S) along which a slice of each name is one voxel thick.
PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}


def paint(editor, segment_id: str, view, centre_ras, radius_mm: float) -> None:
    """Paint a disc into a segment: one stroke, one step of undo.

    ``editor`` is a ``qMRMLSegmentEditorWidget`` with its nodes set. ``view`` is a slice node of any
    orientation, or "axial", "sagittal" or "coronal": the plane of the segmentation's own voxels
    that comes nearest to it. With the effects' parameter ``BrushSphere`` a ball is painted.
    """
    effect = editor.effectByName("Paint")
    _stroke(editor, effect, effect.ModificationModeAdd, segment_id, view, centre_ras, radius_mm)


def erase(editor, segment_id: str, view, centre_ras, radius_mm: float) -> None:
    """Erase a disc from a segment, with the same arguments as ``paint``."""
    effect = editor.effectByName("Erase")
    _stroke(editor, effect, effect.ModificationModeRemove, segment_id, view, centre_ras, radius_mm)


def _stroke(editor, effect, mode, segment_id, view, centre_ras, radius_mm) -> None:
    editor.setCurrentSegmentID(segment_id)
    labelmap = effect.defaultModifierLabelmap()
    if labelmap is None:
        raise RuntimeError("the segment editor lacks a segmentation or a source volume")
    world_from_ijk = _world_from_ijk(labelmap, editor.segmentationNode())
    normal, thickness = _plane(view, world_from_ijk)
    if effect.integerParameter("BrushSphere"):
        normal = None
    centre = np.linalg.inv(world_from_ijk) @ np.append(centre_ras, 1.0)
    voxels = np.rint(centre[:3]).astype(int) + _brush(
        world_from_ijk[:3, :3], normal, thickness, radius_mm
    )
    _fill(labelmap, voxels)
    effect.saveStateForUndo()
    effect.modifySegmentByLabelmap(editor.segmentationNode(), segment_id, labelmap, mode)


def _world_from_ijk(labelmap, segmentation_node) -> np.ndarray:
    """The labelmap's voxels in the world, the segmentation's parent transforms applied."""
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkSlicerSegmentEditorLogic.ImageToWorldMatrix(labelmap, segmentation_node, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _plane(view, world_from_ijk: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit normal of the view in the world, and the thickness of its slices in mm."""
    columns = world_from_ijk[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if isinstance(view, str):
        towards = np.abs((columns / spacing)[PLANES[view]])
        axis = int(np.argmax(towards))
        others = np.delete(columns, axis, axis=1)
        normal = np.cross(others[:, 0], others[:, 1])
        return normal / np.linalg.norm(normal), float(spacing[axis])
    normal = slicer.util.arrayFromVTKMatrix(view.GetSliceToRAS())[:3, 2]
    return normal / np.linalg.norm(normal), slice_thickness(view)


def slice_thickness(slice_node) -> float:
    """The thickness of a view's slices in mm, as its logic has it; 1 without a logic."""
    logics = slicer.app.applicationLogic()
    logic = logics.GetSliceLogic(slice_node) if logics.GetSliceLogics() else None
    return slicer.vtkSlicerSegmentEditorLogic.GetSliceSpacing(slice_node, logic)


def _brush(columns: np.ndarray, normal, thickness: float, radius: float) -> np.ndarray:
    """Offsets in voxels from the centre, int [N, 3] (i, j, k): a disc, or a ball without normal."""
    reach = np.hypot(radius, thickness / 2) * np.linalg.norm(np.linalg.inv(columns), axis=1)
    ranges = [np.arange(-int(n), int(n) + 1) for n in np.ceil(reach)]
    offsets = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    mm = offsets @ columns.T
    along = np.zeros(len(mm)) if normal is None else mm @ normal
    across = np.sqrt(np.maximum((mm**2).sum(axis=1) - along**2, 0))
    return offsets[(np.abs(along) < thickness / 2) & (across <= radius)]


def _fill(labelmap, voxels: np.ndarray) -> None:
    """Set those of the voxels (i, j, k) to 1 that lie inside the labelmap's extent."""
    extent = np.reshape(labelmap.GetExtent(), (3, 2))
    inside = voxels[((voxels >= extent[:, 0]) & (voxels <= extent[:, 1])).all(axis=1)]
    shape = (extent[:, 1] - extent[:, 0] + 1)[::-1]
    array = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(shape)
    i, j, k = (inside - extent[:, 0]).T
    array[k, j, i] = 1
    labelmap.Modified()
