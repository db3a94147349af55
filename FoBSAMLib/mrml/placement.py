"""Where results go: the grid of a segmentation, and its place in the subject hierarchy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import slicer

from FoBSAMLib.image.volume import ARRAY_AXIS
from FoBSAMLib.mrml.labelmaps import (
    geometry_of,
    labelmap_of,
    on_grid,
    shift_onto,
    to_vtk,
    world_to_node,
)
from FoBSAMLib.mrml.masks import Patch
from FoBSAMLib.mrml.tags import SliceGrid
from FoBSAMLib.mrml.volumes import ijk_to_world

#: The conversion parameter in which a segmentation keeps the grid it is edited on.
GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()


@dataclass(frozen=True)
class Target:
    """The grid on which a segmentation is edited, in its node's coordinates.

    ``extent`` is the segmentation's own (i, j, k, first and last); voxels beyond it are on the
    same lattice. ``image_to_node`` and ``image_shape`` (K, J, I) are those of the volume.
    """

    ijk_to_node: np.ndarray
    extent: tuple[int, int, int, int, int, int]
    image_to_node: np.ndarray
    image_shape: tuple[int, int, int]

    def exact(self, ijk_to_node: np.ndarray, shape: tuple[int, int, int]) -> bool:
        """Whether the voxels of another grid are voxels of this one."""
        return shift_onto(self.ijk_to_node, shape, ijk_to_node) is not None

    def take(self, patch: Patch, ijk_to_node: np.ndarray) -> Patch:
        """A patch of another grid on this one: the same voxels, else the nearest.

        An oblique grid reaches out of the volume, and what is nearest out there is left out.
        """
        shape = patch.voxels.shape
        k, j, i = shape
        shift = shift_onto(self.ijk_to_node, (k, j, i), ijk_to_node, patch.start)
        if shift is not None:
            k, j, i = (a + b for a, b in zip(patch.start, shift, strict=True))
            return Patch(patch.voxels, (k, j, i))
        source = labelmap_of(np.ascontiguousarray(patch.voxels, np.uint8), ijk_to_node, patch.start)
        ends = [(a - 0.5, a + n - 0.5) for a, n in zip(patch.start, shape, strict=True)][::-1]
        corners = np.stack([*np.meshgrid(*ends), np.ones((2, 2, 2))]).reshape(4, 8)
        here = (np.linalg.inv(self.ijk_to_node) @ ijk_to_node @ corners)[:3]
        first = np.floor(here.min(axis=1)).astype(int)
        last = np.ceil(here.max(axis=1)).astype(int)
        i, j, k = (int(n) for n in first)
        width, height, depth = (int(n) for n in last - first + 1)
        voxels = on_grid(source, 1, self.ijk_to_node, (k, j, i), (depth, height, width))
        voxels &= self._in_image((k, j, i), (depth, height, width))
        return Patch(voxels, (k, j, i))

    def _in_image(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        """Which voxels of a box of this grid have their centre in the volume, bool [K, J, I]."""
        to_image = np.linalg.inv(self.image_to_node) @ self.ijk_to_node
        k, j, i = np.ogrid[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]
        inside = np.ones(shape, bool)
        for n, count in enumerate(self.image_shape[::-1]):
            along_i, along_j, along_k, offset = to_image[n]
            place = along_k * k + along_j * j + along_i * i + offset
            inside &= (place > -0.5) & (place < count - 0.5)
        return inside

    def clear_slices(
        self,
        voxels: np.ndarray,
        start: tuple[int, int, int],
        grid: SliceGrid,
        indices: Collection[int],
    ) -> None:
        """Take out of a box of this grid, bool [K, J, I], what a pixel of these slices is nearest
        to: read back, the slices stay as they are."""
        if not indices:
            return
        to_box = np.linalg.inv(self.ijk_to_node) @ grid.ijk_to_node
        for index in indices:
            ranges = [np.arange(n) for n in grid.shape]
            ranges[ARRAY_AXIS[grid.axis]] = np.array([index])
            k, j, i = (axis.ravel() for axis in np.meshgrid(*ranges, indexing="ij"))
            places = to_box @ np.stack([i, j, k, np.ones(len(k))])
            nearest = np.rint(places[2::-1]).astype(int) - np.array(start)[:, None]
            size = np.array(voxels.shape)[:, None]
            inside = np.all((nearest >= 0) & (nearest < size), axis=0)
            voxels[tuple(nearest[:, inside])] = False

    @contextmanager
    def room_for(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, patch: Patch
    ) -> Iterator[None]:
        """Let the segmentation's geometry reach as far as a patch does, for a while.

        The Segment Editor masks only inside it, and what lies outside counts as editable.
        """
        first = np.minimum(self.extent[::2], patch.start[::-1])
        last = np.maximum(self.extent[1::2], np.add(patch.start, patch.voxels.shape)[::-1] - 1)
        image = slicer.vtkOrientedImageData()
        image.SetExtent(*(int(n) for pair in zip(first, last, strict=True) for n in pair))
        image.SetGeometryFromImageToWorldMatrix(to_vtk(self.ijk_to_node))
        segmentation = segmentation_node.GetSegmentation()
        before = segmentation.GetConversionParameter(GEOMETRY)
        serialized = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
        segmentation.SetConversionParameter(GEOMETRY, serialized)
        try:
            yield
        finally:
            segmentation.SetConversionParameter(GEOMETRY, before)


def target_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode
) -> Target:
    """The grid of a segmentation; one that has none yet gets the volume's.

    It is what the Segment Editor works on: the reference geometry, else the common geometry of
    the segments.
    """
    segmentation = segmentation_node.GetSegmentation()
    serialized = segmentation.GetConversionParameter(GEOMETRY)
    if not serialized:
        serialized = segmentation.DetermineCommonLabelmapGeometry(
            segmentation.EXTENT_UNION_OF_SEGMENTS, None
        )
        segmentation.SetConversionParameter(GEOMETRY, serialized)
    if not serialized:
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        serialized = segmentation.GetConversionParameter(GEOMETRY)
    image = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(serialized, image, False)
    to_node = world_to_node(segmentation_node) @ ijk_to_world(volume_node)
    width, height, depth = volume_node.GetImageData().GetDimensions()
    return Target(geometry_of(image), image.GetExtent(), to_node, (depth, height, width))


def folder_of(node: slicer.vtkMRMLNode) -> int:
    """The item of the subject hierarchy under which the user has put a node; 0 for none."""
    hierarchy = _hierarchy(node)
    if hierarchy is None or not hierarchy.GetItemByDataNode(node):
        return 0
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    return 0 if parent == hierarchy.GetSceneItemID() else int(parent)


def file_under(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    folder: int = 0,
) -> None:
    """What export as DICOM SEG asks for: the image it is of, and its place in the image's study.

    ``folder`` is where the user had put the segmentation; there it stays.
    """
    role = segmentation_node.GetReferenceImageGeometryReferenceRole()
    if segmentation_node.GetNodeReference(role) is None:
        segmentation_node.SetNodeReferenceID(role, volume_node.GetID())
    hierarchy = _hierarchy(volume_node)
    if hierarchy is None or not hierarchy.GetItemByDataNode(volume_node):
        return
    parent = folder or hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume_node))
    item = hierarchy.GetItemByDataNode(segmentation_node)
    if not item:
        hierarchy.CreateItem(parent, segmentation_node)
    elif hierarchy.GetItemParent(item) != parent:
        hierarchy.SetItemParent(item, parent)


def _hierarchy(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLSubjectHierarchyNode | None:
    return node.GetScene().GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")
