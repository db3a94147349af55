"""Small scenes of real MRML for the tests of what is written into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from FoBSAMLib.image.segmentation import Structure

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
vtk = pytest.importorskip("vtk", reason="vtk is not installed")

from FoBSAMLib.mrml.labelmaps import array_of, labelmap_of, start_of, to_vtk  # noqa: E402

#: Anisotropic, flipped in i, tilted: a matrix that forgives no mix-up of axes.
TILTED = np.array(
    [
        [-0.8 * np.cos(0.3), 0, 2.5 * np.sin(0.3), 12.0],
        [0, 0.9, 0, -7.0],
        [0.8 * np.sin(0.3), 0, 2.5 * np.cos(0.3), 3.0],
        [0, 0, 0, 1],
    ]
)
STRAIGHT = np.diag([1.0, 1.0, 2.0, 1.0])


@contextmanager
def _converters_once() -> Iterator[None]:
    """Every scene's logic adds its converters to those of the process; all that there are, equal
    or not, are tried whenever a segmentation is copied: after a hundred scenes ten times as slow.
    """
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    before = factory.GetConverterRules()
    yield
    for rule in factory.GetConverterRules() if before else ():
        if rule not in before:
            factory.UnregisterConverterRule(rule)


class Scene:
    """A scene with the logics that register converters and file types."""

    def __init__(self) -> None:
        self.mrml = slicer.vtkMRMLScene()
        self.segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
        with _converters_once():
            self.segmentations.SetMRMLScene(self.mrml)

    def volume(self, array: np.ndarray, ijk_to_ras: np.ndarray = STRAIGHT, name: str = "CT"):
        node = self.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        image = vtk.vtkImageData()
        image.SetDimensions(*array.shape[::-1])
        image.GetPointData().SetScalars(
            vtk.util.numpy_support.numpy_to_vtk(array.ravel(), deep=True)
        )
        node.SetAndObserveImageData(image)
        node.SetIJKToRASMatrix(to_vtk(ijk_to_ras))
        return node

    def transform(self, matrix: np.ndarray, *nodes):
        node = self.mrml.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
        node.SetMatrixTransformToParent(to_vtk(matrix))
        for child in nodes:
            child.SetAndObserveTransformNodeID(node.GetID())
        return node

    def segmentation(
        self,
        masks: Mapping[str, np.ndarray],
        ijk_to_node: np.ndarray = STRAIGHT,
        volume=None,
        name: str = "Organs",
        shared: bool = False,
    ):
        """A segmentation of masks, bool [K, J, I], by segment ID; in one layer where shared."""
        node = self.mrml.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        if volume is not None:
            node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for number, (segment_id, mask) in enumerate(masks.items(), 1):
            node.GetSegmentation().AddEmptySegment(
                segment_id, segment_id.title(), (number / 8, 0.5, 0.25)
            )
            self.segmentations.SetBinaryLabelmapToSegment(
                labelmap_of(mask.astype(np.uint8), ijk_to_node), node, segment_id
            )
        if shared:
            node.GetSegmentation().CollapseBinaryLabelmaps(False)
        return node


def voxels(node, segment_id: str, shape: tuple[int, int, int]) -> np.ndarray:
    """A segment's voxels, bool [K, J, I], on the grid on which it is stored.

    Fails where it has voxels outside the shape.
    """
    image = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(segment_id, image)
    array, start = array_of(image) > 0, start_of(image)
    result = np.zeros(shape, bool)
    if array.any():
        index = np.argwhere(array) + start
        assert (index >= 0).all(), f"{segment_id} reaches out of the grid: {index.min(axis=0)}"
        assert (index < shape).all(), f"{segment_id} reaches out of the grid: {index.max(axis=0)}"
        result[tuple(index.T)] = True
    return result


def drawn_structure(segment_id: str, masks=None, **about):
    """What `drawn.DrawnStructure` says of a segment, as far as it is used here."""
    about = {"name": segment_id.title(), "label": 1, "id": segment_id, **about}
    return SimpleNamespace(
        segment_id=segment_id, structure=Structure(**about), masks=masks or {}, absent=(), found=()
    )
