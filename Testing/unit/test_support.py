"""Supports: annotated slices, however they were drawn."""

from __future__ import annotations

import numpy as np
import phantom
import pytest

from FoBSAMLib import FoBSAMError, Support, Volume


@pytest.fixture
def volume(tmp_path):
    return Volume.read(phantom.save(tmp_path / "mr.nii.gz", phantom.voxels()))


def drawn(axis: int, *indices: int) -> np.ndarray:
    """The ball on some slices along an array axis."""
    whole = phantom.labels() == phantom.BALL
    kept = np.zeros_like(whole)
    for index in indices:
        at = [slice(None)] * 3
        at[axis] = index
        kept[tuple(at)] = whole[tuple(at)]
    return kept


@pytest.mark.parametrize(("axis", "name", "index"), [(0, "k", 6), (1, "j", 22), (2, "i", 24)])
def test_the_axis_is_the_one_drawn_along(volume, axis, name, index):
    mask = drawn(axis, index)
    support = Support.from_masks(volume, {"ball": mask})
    (structure,) = support.structures
    assert support.axis == name
    assert support.indices(structure) == (index,)
    np.testing.assert_array_equal(support.mask(structure, index), mask.take(index, axis))


def test_several_slices_and_structures_from_a_file(volume, tmp_path):
    labels = phantom.drawn(6)
    labels[4] = np.where(phantom.labels()[4] == phantom.BALL, phantom.BALL, 0)
    path = phantom.save(tmp_path / "drawn.nii.gz", labels)
    support = Support.read(path, volume, absent={str(phantom.EGG): [0]})
    ball, egg = support.structures
    assert support.indices(ball) == (4, 6)
    assert support.indices(egg) == (6,)
    assert support.absent == {egg.name: (0,)}
    only = Support.read(path, volume, labels=[phantom.EGG])
    assert [s.label for s in only.structures] == [phantom.EGG]


@pytest.mark.parametrize(
    ("absent", "words"),
    [({"ball": [6]}, "drawn in slice 6"), ({"ball": [12]}, "no slice 12"), ({"cube": [1]}, "cube")],
)
def test_absent_slices_that_cannot_be(volume, absent, words):
    with pytest.raises(FoBSAMError, match=words):
        Support.from_masks(volume, {"ball": drawn(0, 6)}, absent=absent)


def test_a_mask_of_another_shape_is_refused(volume):
    with pytest.raises(FoBSAMError, match="ball") as caught:
        Support.from_masks(volume, {"ball": np.ones((3, 4, 5), bool)})
    assert caught.value.code == "bad_geometry"


def test_an_unknown_axis_is_refused(volume):
    with pytest.raises(FoBSAMError, match="auto, i, j or k"):
        Support.from_masks(volume, {"ball": drawn(0, 6)}, axis="z")


def test_an_axis_other_than_the_one_drawn_along_is_noticed(volume):
    with pytest.raises(FoBSAMError, match="--axis k"):
        Support.from_masks(volume, {"ball": drawn(0, 6)}, axis="i")


def test_absent_slices_named_by_label_and_by_name_add_up(volume):
    support = Support.from_masks(volume, {"ball": drawn(0, 6)}, absent={"ball": [0], "1": [11]})
    assert support.absent == {"ball": (0, 11)}
