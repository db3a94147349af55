"""Geometries, volumes and drawings of real MRML for the tests of what is read from it."""

from __future__ import annotations

import numpy as np
import pytest
from mrml_small import STRAIGHT, TILTED, Scene, slicer, vtk

from FoBSAMLib.mrml.labelmaps import labelmap_of, to_vtk

SHAPE = (12, 40, 48)


def rotation(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """A 4×4 rotation about the axes in turn, in degrees."""
    transform = vtk.vtkTransform()
    transform.RotateX(x)
    transform.RotateY(y)
    transform.RotateZ(z)
    matrix = transform.GetMatrix()
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def moved(matrix: np.ndarray, *shift: float) -> np.ndarray:
    result = matrix.copy()
    result[:3, 3] += shift
    return result


#: Matrices of volumes, none of which forgives a mix-up of axes or signs.
GEOMETRIES = {
    "straight": STRAIGHT,
    "tilted": TILTED,
    "flipped": moved(np.diag([-0.7, -0.7, -5.0, 1.0]), 100, 80, 60),
    "permuted": np.array([[0, 0, 2.0, 5], [-0.5, 0, 0, 9], [0, 0.6, 0, -30], [0, 0, 0, 1.0]]),
    "oblique": moved(rotation(20, -35, 50) @ np.diag([0.7, 0.9, -3.0, 1]), -20, 11, 7),
}


def gradient(shape: tuple[int, ...] = SHAPE, dtype=np.int16) -> np.ndarray:
    """Voxels each of which differs from its neighbours."""
    return (np.arange(np.prod(shape)) % 997).astype(dtype).reshape(shape)


def vector_volume(scene: Scene, voxels: np.ndarray):
    """A volume of several values at a voxel, [K, J, I, C]."""
    node = scene.mrml.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photograph")
    image = vtk.vtkImageData()
    image.SetDimensions(*voxels.shape[2::-1])
    values = vtk.util.numpy_support.numpy_to_vtk(voxels.reshape(-1, voxels.shape[3]), deep=True)
    image.GetPointData().SetScalars(values)
    node.SetAndObserveImageData(image)
    return node


def blob(shape: tuple[int, int, int], axis: int, *indices: int) -> np.ndarray:
    """A lopsided shape, so that a flip shows, on slices along an array axis."""
    h, w = (n for other, n in enumerate(shape) if other != axis)
    plane = np.zeros((h, w), bool)
    plane[h // 4 : h // 2, w // 4 : 3 * w // 4] = True
    plane[h // 2 : h // 2 + 2, w // 4 : w // 2] = True
    plane[h // 4, w // 4] = False
    mask = np.zeros(shape, bool)
    for index in indices:
        np.moveaxis(mask, axis, 0)[index] = plane
    return mask


def add_segment(scene: Scene, node, segment_id: str, mask, ijk_to_node, start=(0, 0, 0)) -> None:
    """A segment stored as it is given, on a grid of its own; its first voxel is ``start``."""
    node.GetSegmentation().AddEmptySegment(segment_id, segment_id.title(), (1.0, 0.5, 0.25))
    labelmap = slicer.vtkOrientedImageData()
    labelmap.DeepCopy(labelmap_of(np.ascontiguousarray(mask, np.uint8), ijk_to_node, start))
    segment = node.GetSegmentation().GetSegment(segment_id)
    segment.AddRepresentation("Binary labelmap", labelmap)


def slice_node(scene: Scene, slice_to_ras: np.ndarray):
    """A slice view's node that looks along the third column of a matrix."""
    node = scene.mrml.CreateNodeByClass("vtkMRMLSliceNode")
    node.UnRegister(None)
    scene.mrml.AddNode(node)
    node.GetSliceToRAS().DeepCopy(to_vtk(slice_to_ras))
    node.UpdateMatrices()
    return node


def bend(scene: Scene, *nodes):
    """A non-linear transform above nodes."""
    transform = scene.mrml.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    warp = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for n, corner in enumerate([*np.eye(3).tolist(), [0, 0, 0], [1, 1, 1]]):
        source.InsertNextPoint(corner)
        target.InsertNextPoint([c + 0.1 * n for c in corner])
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    warp.SetBasisToR()
    transform.SetAndObserveTransformToParent(warp)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


@pytest.fixture
def scene() -> Scene:
    return Scene()
