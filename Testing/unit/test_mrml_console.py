"""`mrml.segment` and what it returns, on bare MRML: what a script can do, and what may go wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_runs import (  # noqa: E402, F401 (the fixtures)
    SCRIPTED,
    SHAPE,
    Patient,
    bare,
    drawn,
    names,
    previews,
    truth,
    worker_ends,
)
from mrml_small import STRAIGHT, voxels  # noqa: E402

from FoBSAMLib import FoBSAMError, mrml  # noqa: E402
from FoBSAMLib.mrml import packages, waiting  # noqa: E402
from FoBSAMLib.mrml.editing import LogicEditing  # noqa: E402
from FoBSAMLib.mrml.labelmaps import labelmap_of, to_vtk  # noqa: E402

FAILING = str(Path(__file__).with_name("failing_worker.py"))
#: How many slices are not drawn.
QUERIES = SHAPE[0] - 1


@pytest.fixture
def patient(bare) -> Patient:  # noqa: F811
    return Patient(bare)


def everywhere() -> np.ndarray:
    """What the worker of tests finds: what is drawn, in every slice."""
    return np.broadcast_to(drawn("ball").any(axis=0), SHAPE)


def check_usable(patient: Patient) -> None:
    """The next call works, and nothing is left of the one before."""
    assert not previews(patient.scene)
    np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
    patient.scripted()
    np.testing.assert_array_equal(patient.voxels(), everywhere())


class TestResults:
    def test_stay_a_preview_until_accepted(self, patient):
        found = patient.scripted(accept=False)
        assert found.done
        assert not found.cancelled
        assert found.volumes == [patient.volume]
        assert previews(patient.scene) == [found.previewNode()]
        assert found.previewNode().GetName() == "Organs (FoBSAM preview)"
        np.testing.assert_array_equal(voxels(found.previewNode(), "ball", SHAPE), everywhere())
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        assert found.resultNode() is None
        accepted = found.accept()
        assert accepted.added == {"ball": QUERIES * drawn("ball").sum()}
        assert not previews(patient.scene)
        assert found.volumes == []
        assert found.previewNode() is None
        assert found.accepted is accepted
        assert found.resultNode() is patient.node
        assert len(found.slices("ball")) == QUERIES, "they can be looked at all the same"
        np.testing.assert_array_equal(patient.voxels(), everywhere())
        with pytest.raises(FoBSAMError, match="no such results"):
            found.accept()

    def test_discarded_leave_nothing(self, patient):
        before = names(patient.scene)
        found = patient.scripted(accept=False)
        found.discard()
        assert names(patient.scene) == before
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        found.discard()

    def test_of_volumes_one_by_one(self, patient):
        other = Patient(patient.scene, {}, seed=1, name="Other")
        found = patient.scripted(queries=[other.volume], accept=False)
        assert found.volumes == [patient.volume, other.volume]
        assert found.accept(other.volume) is None
        assert found.volumes == [patient.volume]
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        assert len(previews(patient.scene)) == 1
        assert found.accept() is not None
        with pytest.raises(FoBSAMError, match="no such results"):
            found.slices("ball", patient.node)

    def test_undone_and_done_again(self, patient):
        editing = LogicEditing(patient.scene.mrml)
        patient.scripted(editing=editing)
        assert editing.undo()
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        # Undone, nothing counts as found: what is drawn is the support.
        assert patient.scripted(accept=False, editing=editing).slices("ball")
        assert editing.redo()
        np.testing.assert_array_equal(patient.voxels(), everywhere())

    def test_are_masked_as_the_segment_editor_is(self, patient):
        editing = LogicEditing(patient.scene.mrml)
        editing.editor_node.SetSourceVolumeIntensityMask(True)
        editing.editor_node.SetSourceVolumeIntensityMaskRange(150, 1000)
        patient.scripted(editing=editing)
        array = slicer.util.arrayFromVolume(patient.volume)
        bright = (array >= 150) & everywhere()
        np.testing.assert_array_equal(patient.voxels(), bright | drawn("ball"))

    @pytest.mark.parametrize("allowed", [True, False])
    def test_that_overlap(self, bare, allowed):  # noqa: F811
        left, right = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        left[6, 5:12, 5:12] = right[4, 5:12, 9:18] = True
        patient = Patient(bare, {"left": left, "right": right})
        editing = LogicEditing(bare.mrml)
        node = editing.editor_node
        node.SetOverwriteMode(node.OverwriteNone if allowed else node.OverwriteAllSegments)
        patient.scripted(editing=editing)
        both = patient.voxels("left") & patient.voxels("right")
        assert both.any() == allowed
        np.testing.assert_array_equal(patient.voxels("left")[6], left[6])
        np.testing.assert_array_equal(patient.voxels("right")[4], right[4])
        union = patient.voxels("left") | patient.voxels("right")
        assert union[0].sum() == (left[6] | right[4]).sum()


#: What may befall a patient's nodes, and what is said of it.
CHANGES = {
    "voxels of CT changed": lambda p: (
        p.volume.GetImageData().GetPointData().GetScalars().Modified()
    ),
    "geometry of CT changed": lambda p: p.volume.SetIJKToRASMatrix(to_vtk(np.diag([1, 1, 3, 1]))),
    "CT was moved": lambda p: p.scene.transform(np.diag([1, 1, 2, 1]), p.volume, p.node),
    "Organs was moved": lambda p: p.scene.transform(np.diag([1, 1, 2, 1]), p.node),
    "drawn of Ball changed": lambda p: erase(p),
    "segment Ball was deleted": lambda p: p.node.GetSegmentation().RemoveSegment("ball"),
    "segmentation Organs was deleted": lambda p: p.scene.mrml.RemoveNode(p.node),
    "volume CT was deleted": lambda p: p.scene.mrml.RemoveNode(p.volume),
}


@pytest.mark.parametrize("problem", CHANGES)
class TestStale:
    """Results of what is no more are never written."""

    def test_after_the_run(self, patient, problem):
        found = patient.scripted(accept=False)
        CHANGES[problem](patient)
        before = content(patient)
        with pytest.raises(FoBSAMError, match=problem):
            found.accept()
        assert content(patient) == before
        found.discard()
        assert not previews(patient.scene)

    def test_in_the_middle(self, patient, problem):
        def change(done: int, total: int, result: object) -> None:
            if done == 3:
                CHANGES[problem](patient)
                before.append(content(patient))

        before: list[object] = []
        with pytest.raises(FoBSAMError, match=problem):
            patient.scripted(progress=change)
        assert [content(patient)] == before
        assert not previews(patient.scene)


def test_of_several_volumes_one_is_gone(patient):
    other = Patient(patient.scene, {}, seed=1, name="Other")
    found = patient.scripted(queries=[other.volume], accept=False)
    patient.scene.mrml.RemoveNode(other.volume)
    with pytest.raises(FoBSAMError, match="Other was deleted"):
        found.accept()
    np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
    found.accept(patient.volume)
    np.testing.assert_array_equal(patient.voxels(), everywhere())


def test_what_is_no_change(patient):
    found = patient.scripted(accept=False)
    patient.volume.SetName("Renamed")
    patient.node.GetDisplayNode().SetOpacity(0.3)
    patient.node.GetSegmentation().AddEmptySegment("another")
    found.accept()
    np.testing.assert_array_equal(patient.voxels(), everywhere())


def erase(patient: Patient) -> None:
    mask = drawn("ball")
    mask[:, :, 8:] = False
    image = labelmap_of(mask.astype(np.uint8), STRAIGHT)
    patient.scene.segmentations.SetBinaryLabelmapToSegment(image, patient.node, "ball")


def content(patient: Patient) -> object:
    """All that accepting might have changed."""
    ids = patient.node.GetSegmentation().GetSegmentIDs()
    shown = ("preview", "DisplayNode")
    nodes = [one for one in names(patient.scene) if not any(word in one for word in shown)]
    return ids, [int(voxels(patient.node, one, SHAPE).sum()) for one in ids], nodes


class TestFailures:
    """One clear error, nothing left over, and the next call works."""

    @pytest.mark.parametrize(
        ("how", "code", "words"),
        [
            ("die", "worker_died", "ended unexpectedly"),
            ("memory", "out_of_memory", "out of memory"),
            ("weights", "weights_missing", "weights are missing"),
        ],
    )
    def test_of_the_worker(self, patient, how, code, words):
        before = names(patient.scene)
        with pytest.raises(FoBSAMError, match=words) as caught:
            patient.segment(workerCommand=[sys.executable, FAILING, how])
        assert caught.value.code == code
        assert names(patient.scene) == before
        check_usable(patient)

    def test_no_such_worker(self, patient):
        with pytest.raises(FoBSAMError, match="cannot be started"):
            patient.segment(workerCommand=["no-such-program"])
        check_usable(patient)

    def test_a_worker_that_dies_once_is_replaced(self, patient):
        def kill(done: int, total: int, result: object) -> None:
            if done == 3:
                waiting.shared_engine().conversation._transport._process.kill()

        told = []
        found = patient.scripted(
            0.05, progress=lambda *state: (told.append(state[0]), kill(*state))
        )
        assert told == list(range(1, QUERIES + 1))
        assert "another one went on" in found.notes[0]
        np.testing.assert_array_equal(patient.voxels(), everywhere())

    def test_what_progress_raises_is_raised(self, patient):
        def fail(done: int, total: int, result: object) -> None:
            if done == 3:
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            patient.scripted(progress=fail)
        check_usable(patient)

    def test_an_interrupt_in_a_callback(self, patient):
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            patient.scripted(progress=interrupt)
        check_usable(patient)

    def test_an_interrupt_while_it_waits(self, patient):
        patient.scripted(0.3, accept=False, slices=range(1)).discard()  # the worker is warm
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.6, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            patient.scripted(0.3)
        check_usable(patient)

    def test_a_second_call_meanwhile_is_refused(self, patient):
        refused = []

        def call_again(done: int, total: int, result: object) -> None:
            if done == 1:
                with pytest.raises(FoBSAMError, match="at work already") as caught:
                    patient.scripted()
                refused.append(caught.value)

        patient.scripted(progress=call_again)
        assert len(refused) == 1
        np.testing.assert_array_equal(patient.voxels(), everywhere())

    def test_packages_that_are_missing(self, patient, monkeypatch):
        """As on a fresh Slicer: what it needs is told before anything is started."""
        mrml.close()
        monkeypatch.setattr(packages, "TORCH", "torch>=999")
        with pytest.raises(FoBSAMError, match="packages that are missing: torch"):
            patient.segment(segmenter="random-walker")
        assert waiting.shared_engine().conversation.models[1] != "random-walker"
        check_usable(patient)  # a worker that runs elsewhere has packages of its own

    def test_nothing_is_drawn(self, bare):  # noqa: F811
        patient = Patient(bare, {})
        with pytest.raises(FoBSAMError, match="Nothing is drawn"):
            patient.scripted()
        with pytest.raises(FoBSAMError, match="no segment 'liver'"):
            patient.scripted(segmentIDs="liver")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"volumeNode": None}, "volume is None"),
            ({"volumeNode": "CT"}, "volume is 'CT'"),
            ({"segmentationNode": None}, "segmentation is None"),
            ({"queries": ["CT"]}, "volume to look in is 'CT'"),
            ({"slices": [3, 4]}, r"range\(first, last"),
            ({"workerCommand": "fobsam worker"}, "as a list"),
            ({"workerCommand": []}, "as a list"),
        ],
    )
    def test_what_makes_no_sense(self, patient, options, words):
        nodes = {"volumeNode": patient.volume, "segmentationNode": patient.node}
        with pytest.raises(FoBSAMError, match=words):
            mrml.segment(**{**nodes, **options})

    def test_nodes_of_another_kind(self, patient):
        with pytest.raises(FoBSAMError, match="volume is a vtkMRMLSegmentationNode"):
            mrml.segment(patient.node, patient.volume)
        other = Patient(patient.scene, {})
        found = patient.scripted(queries=other.volume, ownVolume=False)
        assert found.resultNode(other.volume) is not None
        patient.scene.mrml.RemoveNode(other.volume)
        with pytest.raises(FoBSAMError, match="in no scene"):
            patient.scripted(queries=[other.volume])


class TestCallbacks:
    def test_progress_cancels_with_false(self, patient):
        found = patient.scripted(0.02, progress=lambda done, total, result: done < 4)
        assert found.cancelled
        kept = found.slices("ball")
        assert 4 <= len(kept) < QUERIES
        after = patient.voxels()
        touched = sorted(np.flatnonzero(after.any(axis=(1, 2))))
        assert touched == sorted([*kept, 6]), "what was found is accepted"
        check = patient.scripted(accept=False)
        assert len(check.slices("ball")) == QUERIES
        check.discard()

    def test_cancelled_before_other_volumes(self, patient):
        other = Patient(patient.scene, {}, seed=1, name="Other")
        found = patient.scripted(queries=[other.volume], progress=lambda *_: False)
        assert found.resultNode() is patient.node
        assert found.resultNode(other.volume) is None
        assert patient.scene.mrml.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2

    def test_done_without_an_event_loop(self, patient):
        told = []
        found = patient.scripted(onDone=told.append, onError=told.append)
        assert told == [found]
        assert found.models["generator"] == "scripted"

    def test_errors_are_told(self, patient, capsys):
        told = []
        command = [sys.executable, FAILING, "memory"]
        found = patient.segment(workerCommand=command, onDone=told.append, onError=told.append)
        assert [error.code for error in told] == ["out_of_memory"]
        assert found.done
        assert found.volumes == []
        patient.segment(workerCommand=command, onDone=told.append)
        assert "FoBSAM: The worker ran out of memory." in capsys.readouterr().out
        check_usable(patient)

    def test_a_callback_that_fails_is_printed(self, patient, capsys):
        def fail(*_: object) -> None:
            raise ValueError("mine")

        patient.scripted(onDone=fail)
        assert "ValueError: mine" in capsys.readouterr().err
        np.testing.assert_array_equal(patient.voxels(), everywhere())
        told = []
        patient.scripted(progress=fail, onDone=told.append, onError=told.append)
        assert "ValueError: mine" in capsys.readouterr().err
        assert ["callback failed" in str(error) for error in told] == [True]
        assert not previews(patient.scene)

    def test_another_call_from_one(self, patient):
        told = []
        patient.scripted(
            accept=False,
            onDone=lambda found: (found.discard(), told.append(patient.scripted())),
        )
        assert told[0].resultNode() is patient.node


NAMES = ["", "Œsophage – 食道", 'a "b" \\ {c}', "two\nlines\tand % signs", " "]


@pytest.mark.parametrize("name", NAMES)
def test_names(bare, name):  # noqa: F811
    patient = Patient(bare, {"ball": drawn("ball")}, name=name)
    patient.node.SetName(name)
    patient.node.GetSegmentation().GetSegment("ball").SetName(name)
    others = [Patient(bare, {}, seed=n, name=name) for n in (1, 2)]
    nodes = [other.volume for other in others]
    found = patient.scripted(queries=nodes, accept=False)
    shown = [found.previewNode(node).GetName() for node in found.volumes]
    assert len(set(shown)) == 3
    assert all(text.strip() and "None" not in text for text in shown)
    found.accept()
    np.testing.assert_array_equal(patient.voxels(), everywhere())
    for node in nodes:
        result = found.resultNode(node)
        assert result.GetName().endswith("(FoBSAM)") or "(FoBSAM)" in result.GetName()
        assert "None" not in result.GetName()
        segment = result.GetSegmentation().GetSegment("ball")
        assert segment.GetName() == (name or "ball")


def test_equal_names_stay_equal(bare):  # noqa: F811
    patient = Patient(bare, {"ball": drawn("ball"), "egg": drawn("egg")})
    other = Patient(bare, {}, seed=1)
    for segment_id in ("ball", "egg"):
        patient.node.GetSegmentation().GetSegment(segment_id).SetName("Lesion")
    found = patient.scripted(queries=[other.volume], accept=False)
    shown = found.previewNode(other.volume).GetSegmentation()
    assert [shown.GetSegment(s).GetName() for s in ("ball", "egg")] == ["Lesion", "Lesion (2)"]
    found.accept()
    result = found.resultNode(other.volume).GetSegmentation()
    assert [result.GetSegment(s).GetName() for s in ("ball", "egg")] == ["Lesion", "Lesion"]


def test_closed_it_starts_another_worker(patient):
    def pid() -> int:
        return waiting.shared_engine().conversation._transport._process.pid

    patient.scripted(accept=False).discard()
    first = pid()
    patient.scripted(accept=False).discard()
    assert pid() == first
    mrml.close()
    assert waiting.shared_engine().conversation._transport._process is None
    patient.scripted(accept=False).discard()
    assert pid() != first


def test_closed_in_the_middle(patient):
    with pytest.raises(FoBSAMError, match="given up"):
        patient.scripted(0.02, progress=lambda *_: mrml.close())
    check_usable(patient)


def test_in_a_process_of_its_own(environment, tmp_path):
    """As a script does it: no Qt, no application."""
    script = """
from mrml_runs import Patient
from mrml_small import Scene
patient = Patient(Scene())
print(patient.scripted().models)
print(int(patient.voxels().sum()))
"""
    here = str(Path(__file__).parent)
    environment = {**environment, "PYTHONPATH": f"{here}:{environment['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "'generator': 'scripted'" in done.stdout
    assert str(SHAPE[0] * drawn("ball").sum()) in done.stdout
