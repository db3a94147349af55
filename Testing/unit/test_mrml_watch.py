"""Changes of the scene under a run, on real MRML."""

from __future__ import annotations

import gc

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from mrml_small import STRAIGHT, TILTED, Scene  # noqa: E402
from vtk.util.numpy_support import vtk_to_numpy  # noqa: E402

from FoBSAMLib.mrml.editing import LogicEditing  # noqa: E402
from FoBSAMLib.mrml.labelmaps import labelmap_of, to_vtk  # noqa: E402
from FoBSAMLib.mrml.watch import Fingerprint, Watch  # noqa: E402

SHAPE = (5, 6, 7)
LIVER = np.zeros(SHAPE, bool)
LIVER[2, 1:4, 1:5] = True
SPLEEN = np.zeros(SHAPE, bool)
SPLEEN[2, 4:6, 1:5] = True


class Case:
    def __init__(self) -> None:
        self.scene = Scene()
        self.mrml = self.scene.mrml
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        self.volume = self.scene.volume(array, TILTED)
        self.volume.CreateDefaultDisplayNodes()
        masks = {"liver": LIVER, "spleen": SPLEEN}
        self.node = self.scene.segmentation(masks, TILTED, self.volume, shared=True)
        self.calls: list[int] = []

    @property
    def segmentation(self):
        return self.node.GetSegmentation()

    def fingerprint(self) -> Fingerprint:
        return Fingerprint.of(self.volume, self.node, ["liver"])

    def watch(self) -> Watch:
        return Watch([self.volume, self.node], lambda: self.calls.append(1))

    def paint(self, segment_id: str, mask: np.ndarray) -> None:
        editing = LogicEditing(self.mrml)
        editing.begin(self.node, self.volume)
        editing.add(segment_id, labelmap_of(mask.astype(np.uint8), TILTED))
        editing.end()
        self.undo = editing.undo


@pytest.fixture
def case() -> Case:
    return Case()


MORE = np.zeros(SHAPE, bool)
MORE[3, 0, 0] = True


def delete_volume(case):
    case.mrml.RemoveNode(case.volume)


def delete_segmentation(case):
    case.mrml.RemoveNode(case.node)


def close_scene(case):
    case.mrml.Clear(0)


def change_voxels(case):
    scalars = case.volume.GetImageData().GetPointData().GetScalars()
    vtk_to_numpy(scalars)[0] = 99
    scalars.Modified()
    case.volume.GetImageData().Modified()


def replace_voxels(case):
    image = vtk.vtkImageData()
    image.DeepCopy(case.volume.GetImageData())
    case.volume.SetAndObserveImageData(image)


def change_geometry(case):
    case.volume.SetIJKToRASMatrix(to_vtk(STRAIGHT))


def move_volume(case):
    case.scene.transform(STRAIGHT, case.volume)


def move_segmentation(case):
    case.scene.transform(STRAIGHT, case.node)


def delete_segment(case):
    case.segmentation.RemoveSegment("liver")


def paint(case):
    case.paint("liver", MORE)


CHANGES = [
    (delete_volume, "The volume CT was deleted."),
    (delete_segmentation, "The segmentation Organs was deleted."),
    (close_scene, "The volume CT was deleted."),
    (change_voxels, "The voxels of CT changed."),
    (replace_voxels, "The voxels of CT changed."),
    (change_geometry, "The geometry of CT changed."),
    (move_volume, "The volume CT was moved: its transform changed."),
    (move_segmentation, "The segmentation Organs was moved: its transform changed."),
    (delete_segment, "The segment Liver was deleted."),
    (paint, "What is drawn of Liver changed."),
]


@pytest.mark.parametrize(
    ("change", "text"), CHANGES, ids=[change.__name__ for change, _ in CHANGES]
)
def test_a_change_is_noticed_and_said(case, change, text):
    fingerprint, watch = case.fingerprint(), case.watch()
    assert fingerprint.problem() is None
    change(case)
    assert fingerprint.problem() == text
    assert case.calls
    watch.close()


def rename(case):
    case.volume.SetName("MR")
    case.node.SetName("Structures")


def show_otherwise(case):
    case.volume.GetDisplayNode().SetAutoWindowLevel(False)
    case.volume.GetDisplayNode().SetWindowLevel(100, 50)
    case.node.GetDisplayNode().SetOpacity(0.3)
    case.node.GetDisplayNode().SetSegmentVisibility("liver", False)


def add_temporary_nodes(case):
    node = case.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "__temp__")
    case.mrml.RemoveNode(node)


@pytest.mark.parametrize("change", [rename, show_otherwise, add_temporary_nodes])
def test_names_display_and_other_nodes_do_not_count(case, change):
    fingerprint, watch = case.fingerprint(), case.watch()
    change(case)
    assert fingerprint.problem() is None
    assert case.calls == []
    watch.close()


def test_another_segment_does_not_count(case):
    fingerprint = case.fingerprint()
    case.paint("spleen", MORE)
    assert fingerprint.problem() is None


def test_a_surface_does_not_count(case):
    fingerprint = case.fingerprint()
    case.node.CreateClosedSurfaceRepresentation()
    assert fingerprint.problem() is None


def test_an_edit_that_is_undone_is_no_problem_any_more(case):
    fingerprint = case.fingerprint()
    paint(case)
    assert fingerprint.problem()
    assert case.undo()
    assert fingerprint.problem() is None


def test_the_same_array_in_another_image_is_the_same(case):
    fingerprint = case.fingerprint()
    image = vtk.vtkImageData()
    image.ShallowCopy(case.volume.GetImageData())
    case.volume.SetAndObserveImageData(image)
    assert fingerprint.problem() is None


def test_a_transform_that_is_changed_moves_the_volume(case):
    transform = case.scene.transform(STRAIGHT, case.volume, case.node)
    fingerprint, watch = case.fingerprint(), case.watch()
    transform.SetMatrixTransformToParent(to_vtk(TILTED))
    assert fingerprint.problem() == "The volume CT was moved: its transform changed."
    assert case.calls
    watch.close()


def test_without_a_segmentation_only_the_volume_counts(case):
    fingerprint = Fingerprint.of(case.volume, None)
    delete_segmentation(case)
    assert fingerprint.problem() is None
    delete_volume(case)
    assert fingerprint.problem()


def test_closing_the_scene_is_told_once(case):
    watch = case.watch()
    case.calls.clear()
    close_scene(case)
    assert len(case.calls) == 1
    watch.close()


def test_a_closed_watch_is_silent_and_leaves_no_observer(case):
    watch = case.watch()
    watch.close()
    watch.close()
    paint(case)
    change_voxels(case)
    delete_volume(case)
    assert case.calls == []


def test_a_watch_can_close_itself_when_it_calls(case):
    watch: Watch | None = None

    def stop():
        case.calls.append(1)
        watch.close()

    watch = Watch([case.volume, case.node], stop)
    delete_volume(case)
    delete_segmentation(case)
    assert len(case.calls) == 1


def test_a_fingerprint_outlives_what_it_is_of(case):
    fingerprint = case.fingerprint()
    delete_volume(case)
    delete_segmentation(case)
    case.volume = case.node = None
    gc.collect()
    assert fingerprint.problem() == "The volume CT was deleted."
