"""Tags of segments: which slices were found, which do not hold the structure."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_small import STRAIGHT, TILTED, Scene  # noqa: E402

from FoBSAMLib.mrml import tags  # noqa: E402

SHAPE = (5, 6, 7)
GRID = tags.SliceGrid("k", TILTED, SHAPE)


@pytest.fixture
def segment():
    return slicer.vtkSegment()


def test_the_checksum_is_of_the_pixels_and_their_place():
    mask = np.zeros((9, 8), bool)
    mask[3:6, 2:5] = [[1, 0, 1], [0, 1, 0], [1, 1, 1]]
    same = tags.checksum(mask)
    assert tags.checksum(mask[2:8, 1:6], (2, 1)) == same
    assert tags.checksum(np.pad(mask, ((0, 4), (0, 5)))) == same
    assert tags.checksum(mask[3:6, 2:5]) != same  # elsewhere
    edited = mask.copy()
    edited[4, 2] = True
    assert tags.checksum(edited) != same
    assert tags.checksum(np.zeros((9, 8), bool)) == 0


def test_slices_found_are_known_until_they_are_edited(segment):
    assert tags.found(segment, GRID, {1: 11}) == ()
    assert tags.found_grid(segment) is None
    tags.mark_found(segment, GRID, {1: 11, 3: 33})
    tags.mark_found(segment, GRID, {4: 44})
    assert tags.found(segment, GRID, {1: 11, 3: 99, 4: 44, 2: 0}) == (1, 4)
    assert tags.found_grid(segment).same(GRID)


def test_slices_forgotten_count_as_annotated(segment):
    tags.mark_found(segment, GRID, {1: 11, 3: 33})
    tags.forget_found(segment, GRID, [3, 4])
    assert tags.found(segment, GRID, {1: 11, 3: 33}) == (1,)
    tags.forget_found(segment, GRID, [1])
    assert not segment.HasTag(tags.FOUND)


def test_an_index_means_nothing_on_another_grid(segment):
    tags.mark_found(segment, GRID, {1: 11})
    tags.mark_absent(segment, GRID, [2])
    moved = TILTED.copy()
    moved[:3, 3] += 0.5
    for other in (
        tags.SliceGrid("j", TILTED, SHAPE),
        tags.SliceGrid("k", moved, SHAPE),
        tags.SliceGrid("k", TILTED, (6, 6, 7)),
    ):
        assert tags.found(segment, other, {1: 11}) == ()
        assert tags.absent(segment, other) == ()
        tags.forget_found(segment, other, [1])
    assert tags.found(segment, GRID, {1: 11}) == (1,)
    tags.mark_found(segment, tags.SliceGrid("j", TILTED, SHAPE), {2: 22})
    assert tags.found(segment, GRID, {1: 11}) == ()


def test_absent_slices_are_replaced_by_those_said_last(segment):
    tags.mark_absent(segment, GRID, [4, 2, 4])
    assert tags.absent(segment, GRID) == (2, 4)
    tags.mark_absent(segment, GRID, [])
    assert tags.absent(segment, GRID) == ()
    assert not segment.HasTag(tags.ABSENT)


@pytest.mark.parametrize(
    "value", ["", "{", "[1]", "{}", '{"axis":"x","shape":[1,2,3],"matrix":[],"slices":{}}']
)
def test_a_tag_that_was_edited_by_hand_is_ignored(segment, value):
    segment.SetTag(tags.FOUND, value)
    segment.SetTag(tags.ABSENT, value)
    assert tags.found(segment, GRID, {1: 11}) == ()
    assert tags.found_grid(segment) is None
    assert tags.absent(segment, GRID) == ()


def test_a_segmentation_moved_with_its_volume_keeps_its_tags():
    scene = Scene()
    volume = scene.volume(np.zeros(SHAPE, np.int16), STRAIGHT)
    node = scene.segmentation({"liver": np.ones(SHAPE, bool)}, STRAIGHT, volume)
    segment = node.GetSegmentation().GetSegment("liver")
    tags.mark_found(segment, tags.SliceGrid.of(node, STRAIGHT, SHAPE, "k"), {1: 11})
    scene.transform(TILTED, volume, node)
    moved = tags.SliceGrid.of(node, TILTED @ STRAIGHT, SHAPE, "k")
    assert tags.found(segment, moved, {1: 11}) == (1,)
    stays = tags.SliceGrid.of(node, STRAIGHT, SHAPE, "k")
    assert tags.found(segment, stays, {1: 11}) == ()


def test_tags_are_saved_with_the_segmentation(tmp_path):
    scene = Scene()
    node = scene.segmentation({"liver": np.ones(SHAPE, bool)}, STRAIGHT)
    segment = node.GetSegmentation().GetSegment("liver")
    tags.mark_found(segment, GRID, {1: 11, 3: 2**32 - 1})
    tags.mark_absent(segment, GRID, [2])
    node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    storage.SetFileName(str(tmp_path / "organs.seg.nrrd"))
    assert storage.WriteData(node)
    other = Scene()
    again = other.mrml.AddNewNodeByClass("vtkMRMLSegmentationNode")
    again.AddDefaultStorageNode()
    again.GetStorageNode().SetFileName(str(tmp_path / "organs.seg.nrrd"))
    assert again.GetStorageNode().ReadData(again)
    read = again.GetSegmentation().GetSegment(again.GetSegmentation().GetNthSegmentID(0))
    assert tags.found(read, GRID, {1: 11, 3: 2**32 - 1}) == (1, 3)
    assert tags.absent(read, GRID) == (2,)
