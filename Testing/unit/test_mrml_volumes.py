"""Volume nodes of real MRML are read as they lie in the world."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import mrml_scenes as scenes
from mrml_scenes import scene  # noqa: F401

from FoBSAMLib import FoBSAMError
from FoBSAMLib.mrml.volumes import read_volume

POINT = (5, 30, 7)


def in_world(node, ijk: tuple[int, int, int]) -> np.ndarray:
    """Where MRML itself says that a voxel lies."""
    matrix = scenes.vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ras = matrix.MultiplyPoint([*ijk, 1])[:3]
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(ras, world)
    return np.array(world)


@pytest.mark.parametrize("geometry", scenes.GEOMETRIES)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_voxels_lie_in_the_world_under_all_transforms(scene, geometry, depth):  # noqa: F811
    voxels = scenes.gradient()
    node = scene.volume(voxels, scenes.GEOMETRIES[geometry], "MR")
    child = node
    for n in range(depth):
        child = scene.transform(scenes.moved(scenes.rotation(20 + n, -7, 50), 4, 5 * n, 6), child)
    volume = read_volume(node)
    np.testing.assert_array_equal(volume.array, voxels)
    np.testing.assert_allclose((volume.ijk_to_ras @ [*POINT, 1])[:3], in_world(node, POINT))
    assert (volume.name, volume.modality, volume.array.dtype) == ("MR", "auto", np.int16)


def test_voxels_are_a_view(scene):  # noqa: F811
    node = scene.volume(scenes.gradient())
    assert np.shares_memory(read_volume(node).array, read_volume(node).array)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_are_read_without_alpha(scene, channels, dtype):  # noqa: F811
    voxels = scenes.gradient((2, 5, 6, channels), dtype)
    volume = read_volume(scenes.vector_volume(scene, voxels))
    assert volume.modality == "rgb"
    assert volume.shape == (2, 5, 6)
    np.testing.assert_array_equal(volume.array, voxels[..., :3])


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros((2, 5, 6, 2), np.uint8), "2 values at a voxel"),
        (np.zeros((2, 5, 6, 7), np.int16), "7 values at a voxel"),
        (np.zeros((2, 5, 6, 4), np.float32), "4 values at a voxel"),
        (np.zeros((2, 5, 6, 3), np.float32), "not colours"),
    ],
)
def test_vectors_are_no_image(scene, voxels, words):  # noqa: F811
    with pytest.raises(FoBSAMError, match=words):
        read_volume(scenes.vector_volume(scene, voxels))


def test_without_voxels(scene):  # noqa: F811
    empty = scene.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    with pytest.raises(FoBSAMError, match="Empty holds no image"):
        read_volume(empty)
    with pytest.raises(FoBSAMError, match="CT holds no image"):
        read_volume(scene.volume(np.zeros((0, 4, 5), np.int16)))
    with pytest.raises(FoBSAMError, match="no volume"):
        read_volume(None)


def test_a_warped_volume_is_to_be_hardened(scene):  # noqa: F811
    node = scene.volume(scenes.gradient())
    scenes.bend(scene, node)
    with pytest.raises(FoBSAMError, match="CT is under a non-linear transform") as error:
        read_volume(node)
    assert error.value.code == "bad_geometry"
    assert "Harden" in error.value.hint


def test_a_transform_that_flattens(scene):  # noqa: F811
    node = scene.volume(scenes.gradient())
    scene.transform(np.diag([1.0, 1.0, 0.0, 1.0]), node)
    with pytest.raises(FoBSAMError, match="no extent"):
        read_volume(node)
