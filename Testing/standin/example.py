"""The chest CT that comes with slicerio, as nodes of the scene."""

from __future__ import annotations

import numpy as np
import slicer
from vtkmodules.util.numpy_support import vtk_to_numpy

from FoBSAMLib.demo import STRUCTURE, read_example

#: A window for lungs and soft tissue, in Hounsfield units.
WINDOW = (-1250.0, 450.0)
COLOR = (0.69, 0.48, 0.87)


def add_example():
    """The CT, shown in all slice views, and its known lung in a segmentation; both nodes."""
    image, known = read_example()
    scene = slicer.mrmlScene
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CTChest")
    slicer.util.updateVolumeFromArray(volume, np.ascontiguousarray(image.array))
    ijk_to_ras = slicer.util.vtkMatrixFromArray(image.ijk_to_ras)
    volume.SetIJKToRASMatrix(ijk_to_ras)
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(*WINDOW)
    slicer.util.setSliceViewerLayers(background=volume)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    identifier = segmentation.GetSegmentation().AddEmptySegment("", STRUCTURE, COLOR)
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetDimensions(*known.shape[::-1])
    labelmap.AllocateScalars(3, 1)  # VTK_UNSIGNED_CHAR
    labelmap.SetImageToWorldMatrix(ijk_to_ras)
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = known.ravel()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetBinaryLabelmapToSegment(labelmap, segmentation, identifier)
    return volume, segmentation
