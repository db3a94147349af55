"""What is drawn in a segmentation node is read as supports, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scenes import (
    GEOMETRIES,
    SHAPE,
    blob,
    gradient,
    moved,
    rotation,
    scene,  # noqa: F401
)

from FoBSAMLib.image.volume import ARRAY_AXIS
from FoBSAMLib.mrml.drawn import read_drawn, support_of
from FoBSAMLib.mrml.volumes import read_volume

AXES = [("k", 5), ("j", 13), ("i", 31)]
SHIFTED = moved(rotation(12, 5, -30), 3, -8, 20)
OTHER = moved(rotation(-5, 40, 9), 30, 8, -2)


def whole(drawn, segment_id: str) -> np.ndarray:
    """A structure's masks as one, bool [K, J, I]."""
    (one,) = (s for s in drawn.structures if s.segment_id == segment_id)
    result = np.zeros(drawn.shape, bool)
    for index, mask in one.masks.items():
        np.moveaxis(result, ARRAY_AXIS[drawn.axis], 0)[index] = mask
    return result


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("axis", "index"), AXES)
def test_one_slice_is_read_back_voxel_for_voxel(scene, geometry, axis, index):  # noqa: F811
    volume = scene.volume(gradient(), GEOMETRIES[geometry])
    mask = blob(SHAPE, ARRAY_AXIS[axis], index)
    node = scene.segmentation({"liver": mask}, GEOMETRIES[geometry])
    drawn = read_drawn(volume, node)
    assert (drawn.axis, drawn.shape, drawn.oblique) == (axis, SHAPE, False)
    np.testing.assert_array_equal(whole(drawn, "liver"), mask)
    np.testing.assert_allclose(drawn.ijk_to_world, GEOMETRIES[geometry])
    support = support_of(drawn, read_volume(volume))
    assert support.indices(support.structures[0]) == (index,)
