"""`mrml.segment` in the stand-in for Slicer: Qt's event loop drives the worker."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import standin

standin.require()

import slicer  # noqa: E402
from mrml_runs import SCRIPTED, Patient, drawn, previews, truth  # noqa: E402
from mrml_small import Scene  # noqa: E402
from slicer_module import chest, paint_lung, segment_editor  # noqa: E402, F401 (the fixture)
from slicer_module import voxels as lung_voxels  # noqa: E402

from FoBSAMLib import FoBSAMError, mrml  # noqa: E402
from FoBSAMLib.mrml import console, packages, waiting  # noqa: E402
from FoBSAMLib.mrml.drawn import read_drawn  # noqa: E402
from FoBSAMLib.mrml.run import Run  # noqa: E402
from FoBSAMLib.mrml.widget_editing import WidgetEditing  # noqa: E402

FAILING = [sys.executable, str(Path(__file__).with_name("failing_worker.py"))]
ALL = 11


@pytest.fixture(scope="module", autouse=True)
def application():
    standin.install()
    yield
    console._engine().kill()


@pytest.fixture(autouse=True)
def fresh(application):
    yield from standin.fresh()


@pytest.fixture
def patient() -> Patient:
    """The phantom in the application's scene."""
    return Patient(ApplicationScene())


class ApplicationScene(Scene):
    def __init__(self) -> None:
        self.mrml = slicer.mrmlScene
        self.segmentations = slicer.modules.segmentations.logic()


class Heard:
    """What the callbacks of a call were told."""

    def __init__(self) -> None:
        self.done: list[mrml.Segmented] = []
        self.errors: list[FoBSAMError] = []
        self.options = {"onDone": self.done.append, "onError": self.errors.append}

    def wait(self) -> None:
        standin.wait_until(lambda: self.done or self.errors, 60)


def test_the_same_as_without_qt(patient, monkeypatch):
    first = patient.segment(accept=False)
    monkeypatch.setattr(console, "_engine", waiting.shared_engine)
    second = patient.segment(accept=False)
    mrml.close()
    assert first.models == second.models
    for index, result in first.slices("ball").items():
        other = second.slices("ball")[index]
        np.testing.assert_array_equal(result.mask, other.mask)
        assert result.confidence == pytest.approx(other.confidence)
    monkeypatch.undo()
    assert len(previews(patient.scene)) == 2
    first.discard()
    second.accept()
    np.testing.assert_array_equal(patient.voxels()[6], truth("ball")[6])


def test_undone_in_the_segment_editor(patient):
    editor = segment_editor()
    patient.scripted()
    after = patient.voxels()
    assert after.sum() == 12 * drawn("ball").sum()
    editor.undo()
    np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
    editor.redo()
    np.testing.assert_array_equal(patient.voxels(), after)


def test_said_to_be_absent_is_undone_in_the_segment_editor(patient):
    editor = segment_editor()
    found = patient.scripted(accept=False)
    run = found._run
    run.mark_absent(run.targets[0], "ball", 3, WidgetEditing())
    absent = [read_drawn(patient.volume, patient.node).structures[0].absent]
    for press in (editor.undo, editor.redo):
        press()
        absent.append(read_drawn(patient.volume, patient.node).structures[0].absent)
    assert absent == [(3,), (), (3,)]


def test_the_chest(chest):  # noqa: F811
    segmentation = paint_lung(chest)
    (painted,) = np.flatnonzero(lung_voxels(segmentation, chest).any(axis=(1, 2)))
    before = lung_voxels(segmentation, chest)[painted]
    found = mrml.segment(chest, segmentation, slices=range(painted - 2, painted + 3))
    after = lung_voxels(segmentation, chest)
    np.testing.assert_array_equal(after[painted], before)
    assert sorted(np.flatnonzero(after.any(axis=(1, 2)))) == sorted(
        [*found.slices("lung"), painted]
    )
    array = slicer.util.arrayFromVolume(chest)
    assert (array[after] < -300).mean() > 0.9, "it is air"
    segment_editor().undo()
    assert lung_voxels(segmentation, chest).sum() == before.sum()


class TestMeanwhile:
    def test_slicer_goes_on(self, patient):
        heard = Heard()
        found = patient.scripted(0.02, **heard.options)
        assert not found.done
        assert not heard.done
        with pytest.raises(FoBSAMError, match="not ended"):
            found.accept()
        with pytest.raises(FoBSAMError, match="at work already"):
            patient.scripted()
        heard.wait()
        assert heard.done == [found]
        assert found.done
        assert patient.voxels().sum() == 12 * drawn("ball").sum()

    def test_cancelled(self, patient):
        heard, counts = Heard(), []
        found = patient.scripted(
            0.05, progress=lambda done, total, result: counts.append(done), **heard.options
        )
        standin.wait_until(lambda: len(counts) == 3)
        found.cancel()
        heard.wait()
        assert found.cancelled
        kept = found.slices("ball")
        assert 3 <= len(kept) < ALL
        assert sorted(np.flatnonzero(patient.voxels().any(axis=(1, 2)))) == sorted([*kept, 6])

    def test_cancelled_at_once(self, patient):
        heard = Heard()
        found = patient.scripted(**heard.options)
        found.cancel()
        heard.wait()
        assert heard.done == [found]
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))

    @pytest.mark.skipif(sys.platform == "win32", reason="stops a process")
    @pytest.mark.parametrize("stage", ["starting", "sending"])
    def test_cancelled_before_anything_was_found(self, patient, stage):
        """Neither a worker that does not answer nor a slow link is waited for."""
        command = [sys.executable, "-c", "import time; time.sleep(60)"]
        if stage == "sending":
            command = list(SCRIPTED)
            patient.segment(workerCommand=command, accept=False).discard()
            pid = console._engine().conversation._transport._process.processId()
            os.kill(pid, signal.SIGSTOP)  # nothing it is sent is taken any more
        heard = Heard()
        found = patient.segment(workerCommand=command, **heard.options)
        standin.wait_until(lambda: previews(patient.scene))
        standin.wait(0.1)
        found.cancel()
        began = time.perf_counter()
        heard.wait()
        assert time.perf_counter() - began < 10
        assert heard.done == [found]
        assert not previews(patient.scene)
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        patient.scripted(accept=False).discard()

    @pytest.mark.parametrize("at_once", [True, False])
    def test_discarded(self, patient, at_once):
        heard = Heard()
        found = patient.scripted(0.05, **heard.options)
        if not at_once:
            standin.wait_until(lambda: len(found.slices("ball")) > 2)
        found.discard()
        standin.wait(0.3)
        assert not heard.done
        assert not heard.errors
        assert not previews(patient.scene)
        patient.scripted()
        assert patient.voxels().sum() == 12 * drawn("ball").sum()

    @pytest.mark.parametrize("at_once", [True, False])
    def test_closed(self, patient, at_once):
        heard = Heard()
        found = patient.scripted(0.05, **heard.options)
        if not at_once:
            standin.wait_until(lambda: len(found.slices("ball")) > 2)
        mrml.close()
        assert [error.code for error in heard.errors] == ["cancelled"]
        assert found.done
        assert not previews(patient.scene)

    def test_closed_while_a_script_waits(self, patient):
        with pytest.raises(FoBSAMError, match="given up") as caught:
            patient.scripted(0.05, progress=lambda *_: mrml.close())
        assert caught.value.code == "cancelled"
        assert not previews(patient.scene)

    def test_the_scene_is_closed(self, patient):
        heard = Heard()
        found = patient.scripted(0.05, **heard.options)
        standin.wait_until(lambda: len(found.slices("ball")) > 2)
        standin.close_scene()
        heard.wait()
        assert "deleted" in str(heard.errors[0])
        assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")

    def test_nodes_are_deleted(self, patient):
        other = Patient(patient.scene, {}, seed=1, name="Other")
        heard = Heard()
        found = patient.scripted(0.05, queries=[other.volume], **heard.options)
        standin.wait_until(lambda: len(found.slices("ball")) > 2)
        slicer.mrmlScene.RemoveNode(other.volume)
        heard.wait()
        assert "Other was deleted" in str(heard.errors[0])
        assert not previews(patient.scene)
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))


class TestFailures:
    def test_packages_that_are_missing(self, patient, monkeypatch):
        monkeypatch.setattr(packages, "TORCH", "torch>=999")
        heard = Heard()
        with pytest.raises(FoBSAMError, match="packages that are missing: torch"):
            patient.segment(**heard.options)
        assert not console._engine().busy
        assert not heard.errors
        assert not previews(patient.scene)

    @pytest.mark.parametrize(
        ("how", "code"),
        [("die", "worker_died"), ("memory", "out_of_memory"), ("weights", "weights_missing")],
    )
    @pytest.mark.parametrize("waiting_for_it", [True, False])
    def test_of_the_worker(self, patient, how, code, waiting_for_it):
        heard = Heard()
        if waiting_for_it:
            with pytest.raises(FoBSAMError) as caught:
                patient.segment(workerCommand=[*FAILING, how])
            heard.errors.append(caught.value)
        else:
            patient.segment(workerCommand=[*FAILING, how], **heard.options)
            heard.wait()
        assert [error.code for error in heard.errors] == [code]
        assert not previews(patient.scene)
        np.testing.assert_array_equal(patient.voxels(), drawn("ball"))
        patient.scripted(accept=False).discard()

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_of_progress(self, patient, error, capsys):
        def fail(*_: object) -> None:
            raise error("mine")

        with pytest.raises(error, match="mine"):
            patient.scripted(progress=fail)
        heard = Heard()
        patient.scripted(progress=fail, **heard.options)
        heard.wait()
        assert "callback failed" in str(heard.errors[0])
        assert "mine" in capsys.readouterr().err
        assert not previews(patient.scene)

    def test_of_the_other_callbacks(self, patient, capsys):
        def fail(*_: object) -> None:
            told.append(True)
            raise ValueError("mine")

        told: list[bool] = []
        patient.scripted(accept=False, onDone=fail)
        standin.wait_until(lambda: told)
        patient.segment(workerCommand=[*FAILING, "memory"], onDone=print, onError=fail)
        standin.wait_until(lambda: len(told) == 2)
        assert capsys.readouterr().err.count("ValueError: mine") == 2
        assert len(previews(patient.scene)) == 1, "what was found stays"

    def test_stale_results_are_told(self, patient):
        heard = Heard()
        found = patient.scripted(0.05, **heard.options)
        standin.wait_until(lambda: len(found.slices("ball")) > 2)
        patient.node.GetSegmentation().RemoveSegment("ball")
        heard.wait()
        assert "segment Ball was deleted" in str(heard.errors[0])
        assert not previews(patient.scene)


def test_a_call_from_a_callback(patient):
    told = SimpleNamespace(second=None)

    def again(found: mrml.Segmented) -> None:
        found.discard()
        told.second = patient.scripted()

    patient.scripted(accept=False, onDone=again)
    standin.wait_until(lambda: told.second is not None, 30)
    assert told.second.resultNode() is patient.node


def test_another_run_takes_over(patient):
    """The panel's run and a script's use one worker: the one that began first is given up."""
    heard = Heard()
    found = patient.scripted(0.05, **heard.options)
    standin.wait_until(lambda: len(found.slices("ball")) > 2)
    engine = console._engine()
    other = Patient(patient.scene, name="Other")
    run = Run(read_drawn(other.volume, other.node), other.volume, other.node)
    engine.start(run.steps(engine.conversation))
    heard.wait()
    assert "another one has begun" in str(heard.errors[0])
    standin.wait_until(lambda: not engine.busy, 30)
    assert run.found == ALL
    run.discard()
