"""Volume nodes of the scene as images. All geometry is in world coordinates."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.mrml.labelmaps import to_numpy

#: A geometry whose voxels are flatter than this, relative to their size, is no geometry.
FLAT = 1e-6


def read_volume(node: slicer.vtkMRMLVolumeNode | None) -> Volume:
    """A volume node's voxels, a view [K, J, I] or, of a colour image, [K, J, I, 3].

    Nothing is copied and no voxel is looked at, so it takes no time; ``ijk_to_ras`` goes to
    world coordinates. Of an RGBA image the alpha channel is ignored.
    Raises FoBSAMError for no node, no voxels, several images in one node (4-D), vectors that are
    no colours, and a parent transform that is not linear.
    """
    if node is None:
        raise FoBSAMError("bad_request", "There is no volume.", "Choose a volume.")
    name = node.GetName() or "image"
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    if scalars is None or not scalars.GetNumberOfTuples():
        raise FoBSAMError(
            "bad_request", f"The volume {name} holds no image.", "Load or choose another volume."
        )
    geometry = ijk_to_world(node)
    k, j, i = reversed(image.GetDimensions())
    voxels = vtk_to_numpy(scalars)
    if voxels.ndim == 2 and voxels.shape[1] > 1:
        return Volume(_colours(voxels, name).reshape(k, j, i, 3), geometry, name, "rgb")
    return Volume(voxels.reshape(k, j, i), geometry, name)


def ijk_to_world(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The 4×4 matrix from a volume's voxel indices (i, j, k, 1) to world, in mm.

    Raises FoBSAMError for a parent transform that is not linear, and for flat voxels.
    """
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    geometry = node_to_world(node) @ to_numpy(matrix)
    size = np.linalg.norm(geometry[:3, :3], axis=0)
    if not abs(np.linalg.det(geometry[:3, :3])) > FLAT * float(np.prod(size)):
        raise FoBSAMError(
            "bad_geometry",
            f"The voxels of {node.GetName()} have no extent: its spacing, its directions or its "
            "transform are wrong.",
            "Correct them in the Volumes and Transforms modules.",
        )
    return geometry


def node_to_world(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """The 4×4 matrix of a node's parent transforms, from its own coordinates to world.

    Raises FoBSAMError where one of them is not linear.
    """
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    if not parent.IsTransformToWorldLinear():
        raise FoBSAMError(
            "bad_geometry",
            f"{node.GetName()} is under a non-linear transform ({parent.GetName()}).",
            "Harden it first: in the Data module, right-click the node's transform and choose "
            "'Harden transform'.",
        )
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return to_numpy(matrix)


def _colours(voxels: np.ndarray, name: str) -> np.ndarray:
    """Colours [N, 3], a view, of voxels with several values each [N, C]."""
    count, dtype = voxels.shape[1], voxels.dtype
    if count in (3, 4) and dtype in (np.uint8, np.uint16):
        return voxels[:, :3]
    if count == 3:
        raise FoBSAMError(
            "bad_request",
            f"The voxels of {name} are vectors of {dtype}, not colours.",
            "Choose a scalar volume or a colour image of 8 or 16 bits.",
        )
    raise FoBSAMError(
        "bad_request",
        f"{name} holds {count} values at a voxel: it is not one 3-D image.",
        "Extract one image first: a time series is loaded as a sequence, single components are "
        "extracted in the Vector to Scalar Volume module.",
    )
