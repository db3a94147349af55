"""The results of a run as they come, in a segmentation of their own."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk

from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis
from FoBSAMLib.mrml.labelmaps import (
    BINARY_LABELMAP,
    CLOSED_SURFACE,
    labelmap_of,
    world_to_node,
)

if TYPE_CHECKING:
    from FoBSAMLib.mrml.drawn import DrawnStructure

#: What is proposed is filled more lightly than what is drawn (0.5); its outline is as strong.
FILL_OPACITY = 0.25

#: Tags of ours say what happened to the segment they are of, and are not for its preview.
_OWN_TAGS = "FoBSAM."


class Preview:
    """Segments with the names, colours and terminology of the structures, beside the user's own.

    The node moves with the volume, is not saved with the scene and is not offered for editing.
    Each segment has one labelmap on the whole working grid; memory that is never written costs
    nothing, so that structures of few slices stay small.
    """

    def __init__(
        self,
        volume_node: slicer.vtkMRMLVolumeNode,
        segmentation_node: slicer.vtkMRMLSegmentationNode | None,
        drawn_structures: Iterable[DrawnStructure],
        ijk_to_world: np.ndarray,
        shape: tuple[int, int, int],
        name: str = "",
        scene: slicer.vtkMRMLScene | None = None,
    ):
        """A preview on the working grid ``ijk_to_world`` of ``shape`` (K, J, I).

        It is named after the segmentation, or after ``name`` where that is given; results on
        another volume than the support's have no segmentation yet. It is put into ``scene``,
        else into the volume's, which for a time point of a sequence is not the one in view.
        """
        scene = scene or volume_node.GetScene()
        node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)  # the scene holds it from here on, not the caller
        name = name or (segmentation_node or volume_node).GetName() or "Volume"
        node.SetName(scene.GenerateUniqueName(f"{name} (FoBSAM preview)"))
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node.SetUndoEnabled(False)
        scene.AddNode(node)
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
        self.node: slicer.vtkMRMLSegmentationNode = node
        self._ijk_to_node = world_to_node(node) @ ijk_to_world
        self._masks: dict[str, np.ndarray] = {}
        self._images: dict[str, slicer.vtkOrientedImageData] = {}
        self._changed: set[str] = set()
        self._surfaces = False  # whether there are any of what is shown
        self._boxes: dict[str, np.ndarray] = {}
        for drawn in drawn_structures:
            self._add(drawn.segment_id, drawn.structure, shape)
        self._set_up_display()

    def _add(self, segment_id: str, structure: Structure, shape: tuple[int, int, int]) -> None:
        # Not np.zeros: numpy asks for huge pages, and the first slice across them would take long.
        mask = np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)
        image = labelmap_of(mask, self._ijk_to_node)
        segment = add_segment(self.node, segment_id, structure)
        # Added to a segment that is already there, the labelmap is observed by its segmentation.
        segment.AddRepresentation(BINARY_LABELMAP, image)
        segment.SetLabelValue(1)
        self._masks[segment_id], self._images[segment_id] = mask, image

    def _set_up_display(self) -> None:
        self.node.CreateDefaultDisplayNodes()
        self._display = display = self.node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetUndoEnabled(False)
        display.SetOpacity2DFill(FILL_OPACITY)
        display.SetOpacity2DOutline(1.0)
        display.SetPreferredDisplayRepresentationName2D(BINARY_LABELMAP)
        display.SetPreferredDisplayRepresentationName3D(CLOSED_SURFACE)
        display.SetVisibility3D(False)

    @property
    def segment_ids(self) -> tuple[str, ...]:
        """The structures' segment IDs, those of the support."""
        return tuple(self._masks)

    def put(self, segment_id: str, axis: Axis, index: int, mask: np.ndarray) -> None:
        """Write one slice, bool [H, W], over what was there; shown after `flush`."""
        self._grow_box(segment_id, axis, index, mask)
        if segment_id not in self._boxes:
            return
        # Outside its box the labelmap is empty, and its memory better left alone.
        ends = np.delete(self._boxes[segment_id], ARRAY_AXIS[axis], axis=1)
        box = tuple(slice(first, last + 1) for first, last in ends.T)
        np.moveaxis(self._masks[segment_id], ARRAY_AXIS[axis], 0)[index][box] = mask[box]
        self._changed.add(segment_id)

    def flush(self) -> None:
        """Show what was put since: one event for all.

        The surfaces in 3-D views go, since they are of what was before: they take long, so
        `show_3d` makes them again when the caller has the time.
        """
        if self._changed:
            self._surfaces = False
        modifying = self.node.StartModify()
        for segment_id in self._changed:
            image = self._images[segment_id]
            image.GetPointData().GetScalars().Modified()
            image.Modified()
        self._changed.clear()
        self.node.EndModify(modifying)

    def mask_of(self, segment_id: str) -> np.ndarray:
        """A structure's voxels as they are now, a view, uint8 [K, J, I] of 0 and 1."""
        return self._masks[segment_id]

    def show_3d(self, visible: bool) -> None:
        """Make the surfaces of what was found and show them in 3-D views; or hide them."""
        if visible:
            self.flush()
            if not self._surfaces:
                self._make_surfaces()
                self._surfaces = True
        self._display.SetVisibility3D(visible)

    def remove(self) -> None:
        """Take the preview out of the scene, with all that belongs to it; twice does nothing."""
        scene = self.node.GetScene()
        if scene is not None:
            hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
            item = hierarchy.GetItemByDataNode(self.node) if hierarchy else 0
            if item:
                hierarchy.RemoveItem(item, False, True)
        # Nodes that are deleted one by one, also by the user, leave these behind.
        for node in (self.node.GetStorageNode(), self.node, self._display):
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self._masks.clear()
        self._images.clear()

    def _grow_box(self, segment_id: str, axis: Axis, index: int, mask: np.ndarray) -> None:
        """Keep the box, [first, last] of (K, J, I), that holds all that was ever put."""
        rows, columns = (np.flatnonzero(mask.any(axis=n)) for n in (1, 0))
        if not len(rows):
            return
        ends = [[rows[0], columns[0]], [rows[-1], columns[-1]]]
        box = np.array([np.insert(end, ARRAY_AXIS[axis], index) for end in ends])
        before = self._boxes.get(segment_id, box)
        self._boxes[segment_id] = np.array(
            [np.minimum(box[0], before[0]), np.maximum(box[1], before[1])]
        )

    def _make_surfaces(self) -> None:
        """The surface of each segment, from what is in its box: the whole grid takes longer,
        and most of it is empty."""
        scratch = slicer.vtkSegmentation()
        scratch.CopyConversionParameters(self.node.GetSegmentation())
        for segment_id, (first, last) in self._boxes.items():
            box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
            part = np.ascontiguousarray(self._masks[segment_id][box])
            segment = slicer.vtkSegment()
            segment.AddRepresentation(
                BINARY_LABELMAP, labelmap_of(part, self._ijk_to_node, tuple(first.tolist()))
            )
            scratch.AddSegment(segment, segment_id)
        scratch.CreateRepresentation(CLOSED_SURFACE)
        modifying = self.node.StartModify()
        for segment_id in self._masks:
            made = scratch.GetSegment(segment_id)
            surface = made.GetRepresentation(CLOSED_SURFACE) if made else None
            self.node.GetSegmentation().GetSegment(segment_id).AddRepresentation(
                CLOSED_SURFACE, surface or vtk.vtkPolyData()
            )
        self.node.EndModify(modifying)


def add_segment(
    node: slicer.vtkMRMLSegmentationNode, segment_id: str, structure: Structure
) -> slicer.vtkSegment:
    """A new, empty segment with a structure's name, colour, terminology and the user's own tags."""
    segmentation = node.GetSegmentation()
    segmentation.AddEmptySegment(segment_id, structure.name, structure.color)
    segment = segmentation.GetSegment(segment_id)
    if structure.terminology:
        segment.SetTag(segment.GetTerminologyEntryTagName(), structure.terminology)
    for name, value in structure.tags:
        if not name.startswith(_OWN_TAGS):
            segment.SetTag(name, value)
    return segment
