"""Sequences of volumes and of what was found in them, on real MRML."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_small import TILTED, Scene, drawn_structure, voxels  # noqa: E402

from FoBSAMLib.errors import FoBSAMError  # noqa: E402
from FoBSAMLib.mrml import tags  # noqa: E402
from FoBSAMLib.mrml.labelmaps import labelmap_of, segment_on_grid  # noqa: E402
from FoBSAMLib.mrml.sequences import store, time_points  # noqa: E402
from FoBSAMLib.mrml.volumes import read_volume  # noqa: E402

SHAPE = (4, 5, 6)
GRID = tags.SliceGrid("k", TILTED, SHAPE)
STRUCTURES = [
    drawn_structure("s1", name="Liver", color=(0.25, 0.5, 0.75), terminology="A~B"),
    drawn_structure("s2", name="Spleen"),
]


class Case:
    """A sequence of three volumes, the second of which is shown."""

    def __init__(self, with_logic: bool) -> None:
        self.scene = Scene()
        self.mrml = mrml = self.scene.mrml
        self.logic = slicer.vtkSlicerSequencesLogic()
        self.logic.SetMRMLScene(mrml)
        self.sequence = mrml.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
        self.sequence.SetIndexName("time")
        self.sequence.SetIndexUnit("s")
        for n in range(3):
            volume = self.scene.volume(np.full(SHAPE, n, np.int16), TILTED)
            self.sequence.SetDataNodeAtValue(volume, str(n / 2))
            mrml.RemoveNode(volume)
        self.browser = mrml.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        self.browser.SetAndObserveMasterSequenceNodeID(self.sequence.GetID())
        self.logic.UpdateProxyNodesFromSequences(self.browser)
        self.volume = self.browser.GetProxyNode(self.sequence)
        self.go_to(1)
        if not with_logic:
            self.logic.SetMRMLScene(None)

    def go_to(self, item: int) -> None:
        self.browser.SetSelectedItemNumber(item)
        self.logic.UpdateProxyNodesFromSequences(self.browser)


@pytest.fixture(params=[True, False], ids=["with the module's logic", "without"])
def case(request) -> Case:
    return Case(request.param)


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE) < 0.4


def found(seed: int) -> tuple:
    return {"s1": dict(enumerate(mask(seed)))}, GRID


def test_time_points_of_a_sequence(case):
    points = time_points(case.volume)
    assert [float(point.value) for point in points] == [0, 0.5, 1]
    assert points[1].label == "time 0.5 s"
    assert [point.current for point in points] == [False, True, False]
    assert [read_volume(point.node).array[0, 0, 0] for point in points] == [0, 1, 2]
    assert np.allclose(read_volume(points[2].node).ijk_to_ras, TILTED)


def test_other_volumes_have_no_time_points(case):
    assert time_points(case.scene.volume(np.zeros(SHAPE, np.int16))) == ()
    assert time_points(None) == ()
    with pytest.raises(FoBSAMError, match="not part of a sequence"):
        store(case.scene.volume(np.zeros(SHAPE, np.int16)), STRUCTURES, {})


def test_results_are_browsed_together_with_the_volumes(case):
    points = time_points(case.volume)
    node = store(case.volume, STRUCTURES, {points[0].value: found(0), points[2].value: found(2)})
    assert not voxels(node, "s1", SHAPE).any()
    for item, expected in ((0, mask(0)), (2, mask(2)), (1, np.zeros(SHAPE, bool)), (0, mask(0))):
        case.go_to(item)
        assert (voxels(node, "s1", SHAPE) == expected).all()
        assert not voxels(node, "s2", SHAPE).any()
    segment = node.GetSegmentation().GetSegment("s1")
    assert (segment.GetName(), segment.GetColor()) == ("Liver", (0.25, 0.5, 0.75))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is case.volume
    sums = {n: tags.checksum(mask(0)[n]) for n in range(4)}
    assert tags.found(segment, GRID, sums) == (0, 1, 2, 3)


def test_what_is_stored_later_is_added_to_the_same_sequence(case):
    points = time_points(case.volume)
    first = store(case.volume, STRUCTURES, {points[0].value: found(0)})
    second = store(case.volume, STRUCTURES, {points[2].value: found(2)})
    assert first is second
    assert case.mrml.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2
    for item, expected in ((0, mask(0)), (2, mask(2))):
        case.go_to(item)
        assert (voxels(first, "s1", SHAPE) == expected).all()
    store(case.volume, STRUCTURES, {points[2].value: found(5)})
    assert (voxels(first, "s1", SHAPE) == mask(5)).all()


def test_the_users_own_drawing_is_copied_and_left_alone(case):
    own = case.scene.segmentation({"s1": mask(7), "other": mask(8)}, TILTED, case.volume)
    shift = np.eye(4)
    shift[:3, 3] = 10, 20, 30
    case.scene.transform(shift, case.volume, own)
    points = time_points(case.volume)
    node = store(case.volume, STRUCTURES, {points[0].value: found(0)}, own)
    assert node is not own
    assert node.GetParentTransformNode() is case.volume.GetParentTransformNode()
    assert (voxels(node, "s1", SHAPE) == mask(7)).all()
    assert node.GetSegmentation().GetSegment("other") is None
    case.go_to(0)
    assert (voxels(node, "s1", SHAPE) == mask(0)).all()
    assert (voxels(own, "s1", SHAPE) == mask(7)).all()
    assert (voxels(own, "other", SHAPE) == mask(8)).all()


def test_a_copy_lies_where_the_drawing_is_in_the_world(case):
    shift = np.eye(4)
    shift[:3, 3] = 10, 20, 30
    own = case.scene.segmentation({"s1": mask(7)}, shift @ TILTED)
    case.scene.transform(shift, case.volume)
    node = store(case.volume, STRUCTURES, {}, own)
    assert (segment_on_grid(node, "s1", TILTED, (0, 0, 0), SHAPE) == mask(7)).all()


def test_edits_of_a_result_are_kept(case):
    points = time_points(case.volume)
    node = store(case.volume, STRUCTURES, {points[0].value: found(0)})
    case.logic.SetMRMLScene(case.mrml)
    case.go_to(0)
    edited = np.ones(SHAPE, np.uint8)
    case.scene.segmentations.SetBinaryLabelmapToSegment(labelmap_of(edited, TILTED), node, "s1")
    case.go_to(2)
    case.go_to(0)
    assert voxels(node, "s1", SHAPE).all()


def test_an_unknown_time_point_is_refused(case):
    with pytest.raises(FoBSAMError, match="no time point 9"):
        store(case.volume, STRUCTURES, {"9": found(0)})
    assert case.mrml.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 1
