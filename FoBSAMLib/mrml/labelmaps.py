"""Labelmaps between numpy and VTK, and matrices, as the modules of this package share them."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from FoBSAMLib.image.volume import Volume

#: What MRML calls the representations of a segment.
BINARY_LABELMAP = "Binary labelmap"
CLOSED_SURFACE = "Closed surface"


def to_numpy(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    """A VTK matrix as float64 [4, 4]."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def to_vtk(matrix: np.ndarray) -> vtk.vtkMatrix4x4:
    """A matrix [4, 4] as VTK has it."""
    result = vtk.vtkMatrix4x4()
    result.DeepCopy([float(value) for value in np.asarray(matrix).ravel()])
    return result


def world_to_node(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """The 4×4 matrix from world to a node's own coordinates, for a linear parent transform."""
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        None, node.GetParentTransformNode(), matrix
    )
    return to_numpy(matrix)


def labelmap_of(
    array: np.ndarray, ijk_to_node: np.ndarray, start: tuple[int, int, int] = (0, 0, 0)
) -> slicer.vtkOrientedImageData:
    """A labelmap on the memory of ``array``, uint8 [K, J, I] and contiguous.

    ``start`` is the index (k, j, i) of the array's first voxel on the grid ``ijk_to_node``.
    """
    image = slicer.vtkOrientedImageData()
    _set_box(image, start, array.shape)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(array.reshape(-1)))
    image.SetGeometryFromImageToWorldMatrix(to_vtk(ijk_to_node))
    return image


def geometry_of(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """The 4×4 matrix from a labelmap's indices to the coordinates of its node."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return to_numpy(matrix)


def start_of(image: slicer.vtkOrientedImageData) -> tuple[int, int, int]:
    """Index (k, j, i) of a labelmap's first voxel."""
    i, _, j, _, k, _ = image.GetExtent()
    return k, j, i


def array_of(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """The voxels of a labelmap, a view [K, J, I]; none for an empty one."""
    scalars = image.GetPointData().GetScalars()
    width, height, depth = image.GetDimensions()
    if scalars is None or not width * height * depth:
        return np.zeros((0, 0, 0), np.uint8)
    return numpy_support.vtk_to_numpy(scalars).reshape(depth, height, width)


def shift_onto(
    grid: np.ndarray,
    shape: tuple[int, int, int],
    ijk_to_node: np.ndarray,
    start: tuple[int, int, int] = (0, 0, 0),
) -> tuple[int, int, int] | None:
    """What to add to a voxel's index (k, j, i) to have its index on another grid.

    None where voxels of the box of ``shape`` at ``start`` are not voxels of ``grid``, within 0.1
    voxel.
    """
    box = ijk_to_node.copy()
    box[:3, 3] += box[:3, :3] @ np.array(start[::-1])
    first = np.rint((np.linalg.inv(grid) @ box)[:3, 3])
    moved = grid.copy()
    moved[:3, 3] += moved[:3, :3] @ first
    if not Volume(np.broadcast_to(np.uint8(0), shape), moved).same_grid(shape, box):
        return None
    k, j, i = (first[::-1] - start).astype(int).tolist()
    return k, j, i


def on_grid(
    image: slicer.vtkOrientedImageData,
    label: int,
    grid: np.ndarray,
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> np.ndarray:
    """The voxels of a label in a box of a grid, bool [K, J, I].

    They are exact where the labelmap's voxels are voxels of the grid, else the nearest.
    """
    result = np.zeros(shape, bool)
    labels = array_of(image)
    if not labels.size or not result.size:
        return result
    shift = shift_onto(grid, labels.shape, geometry_of(image), start_of(image))
    if shift is None:
        reference = slicer.vtkOrientedImageData()
        _set_box(reference, start, shape)
        reference.SetGeometryFromImageToWorldMatrix(to_vtk(grid))
        resampled = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            image, reference, resampled
        )
        image, labels, shift = resampled, array_of(resampled), (0, 0, 0)
    place = np.add(start_of(image), shift) - start
    first = np.maximum(place, 0)
    last = np.maximum(np.minimum(place + labels.shape, shape), first)
    here = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    there = tuple(slice(a, b) for a, b in zip(first - place, last - place, strict=True))
    result[here] = labels[there] == label
    return result


def segment_on_grid(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    grid: np.ndarray,
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> np.ndarray:
    """A segment in a box of a grid that is given in its node's coordinates, bool [K, J, I]."""
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    image = segment.GetRepresentation(BINARY_LABELMAP)
    if image is None:
        return np.zeros(shape, bool)
    return on_grid(image, segment.GetLabelValue(), grid, start, shape)


def _set_box(
    image: slicer.vtkOrientedImageData, start: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    (k, j, i), (depth, height, width) = start, shape
    image.SetExtent(i, i + width - 1, j, j + height - 1, k, k + depth - 1)
