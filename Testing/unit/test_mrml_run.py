"""Runs from what is drawn to what is found, on real MRML and through a real worker."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import phantom
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_runs import (  # noqa: E402, F401 (the fixtures)
    MIDDLE,
    SHAPE,
    Patient,
    bare,
    dice,
    drawn,
    previews,
    truth,
    worker_ends,
)
from mrml_scenes import (  # noqa: E402
    GEOMETRIES,
    bend,
    moved,
    rotation,
    slice_node,
    vector_volume,
)
from mrml_small import STRAIGHT, voxels, vtk  # noqa: E402

from FoBSAMLib import FoBSAMError, mrml  # noqa: E402
from FoBSAMLib.image.oblique import plane_grid  # noqa: E402
from FoBSAMLib.mrml.drawn import read_drawn  # noqa: E402
from FoBSAMLib.mrml.labelmaps import to_vtk  # noqa: E402
from FoBSAMLib.mrml.run import Run  # noqa: E402
from FoBSAMLib.mrml.sequences import time_points  # noqa: E402
from FoBSAMLib.mrml.targets import Query, Target  # noqa: E402
from FoBSAMLib.worker.conversation import Conversation  # noqa: E402
from FoBSAMLib.worker.transport import SubprocessTransport  # noqa: E402

#: A patient who lies otherwise.
TURNED = moved(rotation(12, 5, -30), 3, -8, 20)
FINE = np.diag([0.5, 0.5, 2.0, 1.0])


def slices_along(mask: np.ndarray, axis: str) -> np.ndarray:
    return np.moveaxis(mask, "kji".index(axis), 0)


@pytest.mark.parametrize(
    ("geometry", "axis"),
    [
        ("straight", "k"),
        ("straight", "j"),
        ("straight", "i"),
        ("tilted", "j"),
        ("flipped", "k"),
        ("permuted", "i"),
        ("oblique", "k"),
    ],
)
def test_a_slice_drawn_in_any_view(bare, geometry, axis):  # noqa: F811
    patient = Patient(bare, {"ball": drawn("ball", axis)}, GEOMETRIES[geometry])
    found = patient.segment()
    after, expected = patient.voxels(), truth("ball")
    assert dice(after, expected) > 0.95
    middle = MIDDLE[axis]
    np.testing.assert_array_equal(
        slices_along(after, axis)[middle], slices_along(expected, axis)[middle]
    )
    assert found.done
    assert found.models["generator"] == "fob-lite"
    assert found.resultNode() is patient.node
    results = found.slices("ball")
    assert sorted(results) == [n for n in range(SHAPE["kji".index(axis)]) if n != middle]
    for index, result in results.items():
        np.testing.assert_array_equal(slices_along(after, axis)[index], result.mask)


def test_the_next_run_starts_from_what_is_drawn(bare):  # noqa: F811
    patient = Patient(bare)
    first = patient.segment().slices("ball")
    after = patient.voxels()
    second = patient.segment().slices("ball")
    assert sorted(first) == sorted(second)
    for index in first:
        np.testing.assert_array_equal(first[index].mask, second[index].mask)
    np.testing.assert_array_equal(patient.voxels(), after)


def test_volume_and_drawing_under_transforms(bare):  # noqa: F811
    patient = Patient(bare, None, GEOMETRIES["oblique"])
    plain = patient.segment(accept=False)
    expected = {n: r.mask for n, r in plain.slices("ball").items()}
    plain.discard()
    bare.transform(TURNED, patient.volume, patient.node)
    both = patient.segment(accept=False)
    for index, mask in expected.items():
        np.testing.assert_array_equal(both.slices("ball")[index].mask, mask)
    both.discard()
    # The volume is moved onto what was drawn on it while it lay elsewhere.
    other = Patient(bare)
    other.volume.SetIJKToRASMatrix(to_vtk(np.linalg.inv(TURNED) @ STRAIGHT))
    bare.transform(TURNED, other.volume)
    other.segment()
    assert dice(other.voxels(), truth("ball")) > 0.95
    np.testing.assert_array_equal(other.voxels()[MIDDLE["k"]], truth("ball")[MIDDLE["k"]])


def test_a_transform_that_is_not_linear_is_refused(bare):  # noqa: F811
    patient = Patient(bare)
    nodes = bare.mrml.GetNumberOfNodes()
    for node in (patient.volume, patient.node):
        warp = bend(bare, node)
        with pytest.raises(FoBSAMError, match="Harden"):
            patient.scripted()
        bare.mrml.RemoveNode(warp)
    other = Patient(bare)
    bend(bare, other.volume)
    with pytest.raises(FoBSAMError, match="Harden"):
        patient.scripted(queries=[other.volume])
    assert bare.mrml.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2
    assert bare.mrml.GetNumberOfNodes() > nodes


def test_a_segmentation_on_a_finer_grid(bare):  # noqa: F811
    patient = Patient(bare, {})
    fine = [drawn("ball").repeat(2, axis=1).repeat(2, axis=2)]
    offset = moved(FINE, -0.25, -0.25, 0)
    patient.node = bare.segmentation({"ball": fine[0]}, offset)
    patient.segment()
    shape = fine[0].shape
    after = voxels(patient.node, "ball", shape)
    expected = truth("ball").repeat(2, axis=1).repeat(2, axis=2)
    assert dice(after, expected) > 0.95
    np.testing.assert_array_equal(after[MIDDLE["k"]], expected[MIDDLE["k"]])


def tilted_plane(geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ball where an oblique view cuts it, and the view's matrix."""
    k, j, i = (int(n.mean()) for n in np.nonzero(truth("ball")))
    view = geometry.copy()
    view[:3, :3] = (geometry[:3, :3] / np.linalg.norm(geometry[:3, :3], axis=0)) @ rotation(
        20, 0, 0
    )[:3, :3]
    view[:3, 3] = (geometry @ [i, j, k, 1])[:3]
    indices = np.stack([*np.indices(SHAPE)[::-1], np.ones(SHAPE)], axis=-1)
    along = (indices @ geometry.T)[..., :3] @ view[:3, 2] - view[:3, 3] @ view[:3, 2]
    thick = np.abs(view[:3, 2] @ geometry[:3, :3]).max()
    return truth("ball") & (np.abs(along) < thick / 2), view


def test_a_plane_drawn_in_an_oblique_view(bare):  # noqa: F811
    painted, view = tilted_plane(STRAIGHT)
    slice_node(bare, view)
    patient = Patient(bare, {"ball": painted})
    other = Patient(bare, {}, TURNED @ STRAIGHT, seed=1, name="Other")
    found = patient.segment(queries=[other.volume])
    after = patient.voxels()
    assert (after & painted).sum() == painted.sum()
    assert dice(after, truth("ball")) > 0.85
    node = found.resultNode(other.volume)
    assert dice(voxels(node, "ball", SHAPE), truth("ball")) > 0.7
    again = patient.segment(accept=False)
    assert len(again.slices("ball")) == len(found.slices("ball"))
    again.discard()


@pytest.mark.parametrize("when", ["its own", "another", "sending"])
def test_cancelled_before_anything_is_looked_at(bare, when):  # noqa: F811
    """To resample a volume and to send it may take long: nothing of it is waited for."""
    painted, view = tilted_plane(STRAIGHT)
    shown = slice_node(bare, view)
    patient, other = Patient(bare, {"ball": painted}), Patient(bare, {}, seed=1, name="Other")
    queries = [Query("Other", other.volume)]
    drawn_there = read_drawn(patient.volume, patient.node, None, [shown])
    run = Run(drawn_there, patient.volume, patient.node, own=when == "its own", queries=queries)
    talk = Conversation(("fob-lite", "compact", "cpu"), SubprocessTransport(["no-such-program"]))
    if when == "sending":
        silent = [sys.executable, "-c", "import time; time.sleep(60)"]
        talk = Conversation(talk.models, SubprocessTransport(silent), tick=0.0)
    steps = run.steps(talk)
    next(steps)
    while when != "its own" and run.current is None:
        next(steps)
    while when == "sending" and not previews(bare):
        next(steps)
    assert bool(previews(bare)) == (when == "sending")
    run.cancel()
    assert next(steps, "through") == "through"
    assert not previews(bare)
    assert talk.state.image is None
    talk.close()


@pytest.mark.parametrize("angle", [40, 44.9, 45.1, 50])
def test_slices_of_another_volume_are_the_same_side_up(bare, angle):  # noqa: F811
    normal = rotation(angle, 0, 0)[:3, 2]
    grid = plane_grid(STRAIGHT, SHAPE, np.array([10, 10, 10]), normal)
    drawn_there = SimpleNamespace(ijk_to_world=grid[0], shape=grid[1], oblique=True, axis="k")
    for seed in range(8):
        turn = rotation(*np.random.default_rng(seed).uniform(-6, 6, 3))
        other = bare.volume(phantom.voxels(SHAPE), turn @ STRAIGHT)
        matrix, _ = Target(Query("Other", other), own=False).grid(drawn_there)
        steps = np.linalg.inv(grid[0])[:3, :3] @ matrix[:3, :3]
        assert (np.diag(steps) > 0.9).all()


def test_weights_that_are_missing(bare):  # noqa: F811
    patient = Patient(bare)
    with pytest.raises(FoBSAMError, match="sam_vit_l") as caught:
        patient.segment(segmenter="sam-vit-l")
    assert caught.value.code == "weights_missing"
    assert not previews(bare)


def test_several_structures_with_equal_names(bare):  # noqa: F811
    patient = Patient(bare, {"ball": drawn("ball"), "egg": drawn("egg")})
    for segment_id in ("ball", "egg"):
        patient.node.GetSegmentation().GetSegment(segment_id).SetName("Lesion")
    told = []
    found = patient.segment(progress=lambda *state: told.append(state))
    assert [state[0] for state in told] == list(range(1, 2 * (SHAPE[0] - 1) + 1))
    assert {state[1] for state in told} == {2 * (SHAPE[0] - 1)}
    assert {state[2].structure.id for state in told} == {"ball", "egg"}
    for segment_id in ("ball", "egg"):
        assert dice(patient.voxels(segment_id), truth(segment_id)) > 0.95
        assert len(found.slices(segment_id)) == SHAPE[0] - 1
        assert patient.node.GetSegmentation().GetSegment(segment_id).GetName() == "Lesion"


def test_some_segments_on_some_slices(bare):  # noqa: F811
    patient = Patient(bare, {"ball": drawn("ball"), "egg": drawn("egg")})
    found = patient.segment(segmentIDs=["egg"], slices=range(4, 8), axis="k")
    assert sorted(found.slices("egg")) == [4, 5, 7]
    np.testing.assert_array_equal(patient.voxels("ball"), drawn("ball"))
    after = patient.voxels("egg")
    assert sorted(np.flatnonzero(after.any(axis=(1, 2)))) == [4, 5, 6, 7]
    assert dice(after[4:8], truth("egg")[4:8]) > 0.95


@pytest.mark.parametrize("slices", [range(0), range(4, 99), range(-1, 3), range(0, 6, 2)])
def test_slices_that_there_are_not(bare, slices):  # noqa: F811
    with pytest.raises(FoBSAMError, match="run from 0 to 11"):
        Patient(bare).scripted(slices=slices)


def test_an_axis_that_is_given(bare):  # noqa: F811
    dot = np.zeros(SHAPE, bool)
    dot[6, 8, 9] = True
    patient = Patient(bare, {"ball": dot})
    with pytest.raises(FoBSAMError, match="so small"):
        patient.scripted()
    assert len(patient.scripted(axis="i").slices("ball")) == SHAPE[2] - 1
    with pytest.raises(FoBSAMError, match="no axis"):
        patient.scripted(axis="axial")


class TestOtherVolumes:
    """Queries: what is drawn on one volume is looked for in others."""

    def test_in_its_study_with_colour_and_terminology(self, bare):  # noqa: F811
        patient, other = Patient(bare), Patient(bare, {}, seed=1, name="Other")
        segment = patient.node.GetSegmentation().GetSegment("ball")
        segment.SetColor(0.1, 0.9, 0.3)
        segment.SetTag(segment.GetTerminologyEntryTagName(), "A~B^C^D~E~F~G~H")
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(bare.mrml)
        study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
        hierarchy.CreateItem(study, other.volume)
        found = patient.segment(queries=[other.volume], ownVolume=False)
        node = found.resultNode(other.volume)
        assert node.GetName() == "Other (FoBSAM)"
        assert dice(voxels(node, "ball", SHAPE), truth("ball")) > 0.9
        result = node.GetSegmentation().GetSegment("ball")
        assert result.GetName() == "Ball"
        assert np.allclose(result.GetColor(), (0.1, 0.9, 0.3))
        tag = _tag(result, result.GetTerminologyEntryTagName())
        assert tag == "A~B^C^D~E~F~G~H"
        role = node.GetReferenceImageGeometryReferenceRole()
        assert node.GetNodeReference(role) is other.volume
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))

    def test_however_their_voxels_are_stored(self, bare):  # noqa: F811
        patient, plain = Patient(bare), Patient(bare, {}, seed=1)
        array = np.ascontiguousarray(phantom.voxels(SHAPE, 1).transpose(2, 0, 1)[::-1, :, ::-1])
        # i, j, k of this one are -j, k and -i of the plain one.
        matrix = STRAIGHT[:, [1, 2, 0, 3]] * [-1, 1, -1, 1]
        matrix[:3, 3] = STRAIGHT[:3, 3] + STRAIGHT[:3, :3] @ [SHAPE[2] - 1, SHAPE[1] - 1, 0]
        stored = bare.volume(array, matrix, "Stored otherwise")
        under = Patient(bare, {}, np.linalg.inv(TURNED) @ STRAIGHT, seed=1)
        bare.transform(TURNED, under.volume)
        found = patient.segment(
            queries=[plain.volume, stored, under.volume, plain.volume], ownVolume=False
        )
        assert found.volumes == []
        expected = voxels(found.resultNode(plain.volume), "ball", SHAPE)
        assert dice(expected, truth("ball")) > 0.9
        back = voxels(found.resultNode(stored), "ball", array.shape)
        np.testing.assert_array_equal(back[::-1, :, ::-1].transpose(1, 2, 0), expected)
        moved_too = found.resultNode(under.volume)
        assert moved_too.GetParentTransformNode() is under.volume.GetParentTransformNode()
        np.testing.assert_array_equal(voxels(moved_too, "ball", SHAPE), expected)

    def test_beside_the_own_one(self, bare):  # noqa: F811
        patient = Patient(bare)
        others = [Patient(bare, {}, seed=n, name="CT") for n in (1, 2)]
        told = []
        found = patient.scripted(
            queries=[other.volume for other in others], progress=lambda *state: told.append(state)
        )
        assert len({found.resultNode(other.volume) for other in others}) == 2
        total = 3 * SHAPE[0] - 1
        # The worker of tests does not look into the slice where the support was drawn.
        assert {state[1] for state in told} == {total}
        assert patient.voxels().sum() == SHAPE[0] * drawn("ball").sum()
        names = {found.resultNode(other.volume).GetName() for other in others}
        assert len(names) == 2

    def test_that_make_no_sense(self, bare):  # noqa: F811
        patient = Patient(bare)
        with pytest.raises(FoBSAMError, match="None"):
            patient.scripted(queries=[None])
        with pytest.raises(FoBSAMError, match="drawn on"):
            patient.scripted(queries=[patient.volume])
        empty = bare.mrml.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
        with pytest.raises(FoBSAMError, match="Nothing holds no image"):
            patient.scripted(queries=[empty])
        with pytest.raises(FoBSAMError, match="Nothing is chosen to look in"):
            patient.scripted(ownVolume=False)


class TestSequences:
    """The time points of a sequence that a volume node shows."""

    @pytest.fixture
    def beating(self, bare) -> SimpleNamespace:  # noqa: F811
        logic = slicer.vtkSlicerSequencesLogic()
        logic.SetMRMLScene(bare.mrml)
        sequence = bare.mrml.AddNewNodeByClass("vtkMRMLSequenceNode", "Heart")
        for n in range(2):
            volume = bare.volume(phantom.voxels(SHAPE, n))
            sequence.SetDataNodeAtValue(volume, str(n))
            bare.mrml.RemoveNode(volume)
        browser = bare.mrml.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        logic.UpdateProxyNodesFromSequences(browser)
        patient = Patient(bare)
        patient.volume = browser.GetProxyNode(sequence)
        patient.node.SetReferenceImageGeometryParameterFromVolumeNode(patient.volume)

        def go_to(item: int) -> None:
            browser.SetSelectedItemNumber(item)
            logic.UpdateProxyNodesFromSequences(browser)

        go_to(1)
        return SimpleNamespace(patient=patient, go_to=go_to, browser=browser, logic=logic)

    def test_all_time_points(self, beating):
        patient = beating.patient
        found = patient.segment(timePoints=True)
        np.testing.assert_array_equal(patient.voxels()[6], truth("ball")[6])
        assert dice(patient.voxels(), truth("ball")) > 0.95
        assert found.resultNode() is patient.node
        shown = found.resultNode(patient.volume, "0")
        assert beating.browser.GetSequenceNode(shown) is not None
        for item in (0, 1):
            beating.go_to(item)
            assert dice(voxels(shown, "ball", SHAPE), truth("ball")) > 0.9, item
        beating.go_to(0)
        for index, result in found.slices("ball", timePoint="0").items():
            np.testing.assert_array_equal(voxels(shown, "ball", SHAPE)[index], result.mask)

    def test_what_is_stored_survives_another_run(self, beating):
        patient = beating.patient
        for _ in range(2):
            found = patient.scripted(timePoints=True)
            shown = found.resultNode(timePoint="0")
            for item in (0, 1):
                beating.go_to(item)
                # The worker of tests leaves out the slice that is drawn, in all images.
                expected = np.broadcast_to(drawn("ball").any(axis=0), SHAPE).copy()
                expected[6] &= item == 1
                np.testing.assert_array_equal(voxels(shown, "ball", SHAPE), expected)

    def test_browsing_meanwhile_does_no_harm(self, beating):
        patient = beating.patient
        still = patient.segment(timePoints=True, accept=False)
        expected = {p: still.slices("ball", timePoint=p) for p in "01"}
        assert len(previews(patient.scene)) == 2
        visible = [n.GetDisplayNode().GetVisibility() for n in previews(patient.scene)]
        assert sum(visible) == 1, "they lie in the same place"
        still.discard()
        items = iter([0, 1] * 20)
        found = patient.segment(
            timePoints=True, accept=False, progress=lambda *_: beating.go_to(next(items))
        )
        beating.go_to(0)
        for point, results in expected.items():
            for index, result in results.items():
                again = found.slices("ball", timePoint=point)[index]
                np.testing.assert_array_equal(again.mask, result.mask)
        found.accept()
        assert dice(patient.voxels(), truth("ball")) > 0.95

    def test_voxels_and_transform_of_a_time_point_count(self, beating):
        patient = beating.patient
        found = patient.scripted(accept=False)
        point = time_points(patient.volume)[1]
        patient.scene.transform(TURNED, patient.volume)
        with pytest.raises(FoBSAMError, match="moved"):
            found.accept()
        patient.volume.SetAndObserveTransformNodeID(None)
        point.node.GetImageData().GetPointData().GetScalars().Modified()
        with pytest.raises(FoBSAMError, match="voxels"):
            found.accept()
        found.discard()

    def test_a_volume_of_no_sequence_has_none(self, bare):  # noqa: F811
        with pytest.raises(FoBSAMError, match="not part of a sequence"):
            Patient(bare).scripted(timePoints=True)


class TestPhotographs:
    """One slice with colours; the other one has another size."""

    FIRST, SECOND = (12, 48, 48), (12, 40, 56)

    def photograph(self, bare, shape, channels: int = 3):  # noqa: F811
        grey = phantom.voxels(shape, seed=shape[1])[6].astype(float) / 450
        tint = np.array([1.0, 0.7, 0.5, 1.0])[:channels]
        colours = np.clip(grey[..., np.newaxis] * tint * 255, 0, 255).astype(np.uint8)
        if channels == 1:
            return bare.volume(colours[np.newaxis, ..., 0], np.eye(4))
        return vector_volume(bare, colours[np.newaxis])

    def ball(self, shape) -> np.ndarray:
        return phantom.labels(shape)[6:7] == phantom.BALL

    @pytest.mark.parametrize("channels", [1, 3, 4], ids=["grey", "RGB", "RGBA"])
    def test_another_one(self, bare, channels):  # noqa: F811
        first = self.photograph(bare, self.FIRST, channels)
        second = self.photograph(bare, self.SECOND, channels)
        node = bare.segmentation({"ball": self.ball(self.FIRST)}, np.eye(4), first)
        found = mrml.segment(first, node, queries=[second])
        with pytest.raises(FoBSAMError, match="no such results"):
            found.slices("ball", first)
        expected = self.ball(self.SECOND)
        assert dice(voxels(found.resultNode(second), "ball", expected.shape), expected) > 0.9
        drawn_there = voxels(node, "ball", self.ball(self.FIRST).shape)
        np.testing.assert_array_equal(drawn_there, self.ball(self.FIRST))

    def test_alone_has_nothing_to_find(self, bare):  # noqa: F811
        first = self.photograph(bare, self.FIRST)
        node = bare.segmentation({"ball": self.ball(self.FIRST)}, np.eye(4), first)
        with pytest.raises(FoBSAMError, match="other volumes"):
            mrml.segment(first, node)


def _tag(segment, name: str) -> str:
    value = vtk.reference("")
    segment.GetTag(name, value)
    return str(value)
