"""Slices corrected after a run, on bare MRML: what the user says meanwhile counts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_runs import (  # noqa: E402, F401 (the fixtures)
    SCRIPTED,
    Patient,
    bare,
    worker_ends,
)

from FoBSAMLib import FoBSAMError  # noqa: E402
from FoBSAMLib.mrml import waiting  # noqa: E402
from FoBSAMLib.mrml.drawn import read_drawn  # noqa: E402
from FoBSAMLib.mrml.editing import LogicEditing  # noqa: E402
from FoBSAMLib.mrml.run import Run  # noqa: E402
from FoBSAMLib.prompts import Prompts  # noqa: E402
from FoBSAMLib.worker.conversation import Conversation  # noqa: E402
from FoBSAMLib.worker.transport import SubprocessTransport  # noqa: E402

BALL, INDEX = "ball", 4
MOVED = Prompts(foreground=np.array([[3, 3]], np.float32))


def through(steps):
    """Take steps to their end; what they return."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


class Found(SimpleNamespace):
    """A run that is through, with the conversation that it was had in."""

    def __init__(self, patient: Patient) -> None:
        engine = waiting.shared_engine()
        engine.configure(("fob-lite", "compact", "auto"), list(SCRIPTED))
        run = Run(read_drawn(patient.volume, patient.node), patient.volume, patient.node)
        through(run.steps(engine.conversation))
        super().__init__(
            patient=patient,
            run=run,
            target=run.targets[0],
            engine=engine,
            talk=engine.conversation,
            editing=LogicEditing(patient.scene.mrml),
        )

    def correction(self):
        """The steps of a correction."""
        return self.run.correct(self.talk, self.target, BALL, INDEX, MOVED)

    def shown(self) -> np.ndarray:
        """The slice in the preview."""
        return self.target.preview.mask_of(BALL)[INDEX].astype(bool)

    def kept_for_the_next_worker(self) -> list[int]:
        return [result.index for result in self.talk.state.corrected.all()]


@pytest.fixture
def found(bare) -> Found:  # noqa: F811
    return Found(Patient(bare))


def test_a_slice_is_corrected(found):
    original = found.target.found[BALL][INDEX]
    result = through(found.correction())
    np.testing.assert_array_equal(result.mask, ~original.mask)  # as the worker of tests does it
    assert found.target.results(BALL)[INDEX] is result
    np.testing.assert_array_equal(found.shown(), result.mask)
    assert found.kept_for_the_next_worker() == [INDEX]


#: What a user may do while a correction is being made.
ANSWERS = {
    "not in this slice": lambda f: f.run.mark_absent(f.target, BALL, INDEX, f.editing),
    "use as support": lambda f: f.run.accept_slice(f.target, BALL, INDEX, f.editing),
    "reset": lambda f: f.run.reset(f.talk, f.target, BALL, INDEX),
    "accept": lambda f: (f.run.accept(f.target, f.editing), f.run.targets.clear()),
    "discard": lambda f: (f.run.discard(), f.run.targets.clear()),
    "gone from the run": lambda f: f.run.targets.clear(),
    "discard alone": lambda f: f.run.discard(f.target),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "about to be asked"])
def test_a_later_answer_counts(found, answer, asked):
    steps = found.correction()
    if asked:
        next(steps)
    else:  # the worker has to be told first what the run is about
        found.engine.reset()
        found.engine.configure(("fob-lite", "compact", "auto"), list(SCRIPTED))
        found.talk = found.engine.conversation
        steps = found.correction()
        next(steps)
    ANSWERS[answer](found)
    shown = found.shown() if found.target.preview is not None else None
    assert through(steps) is None
    assert not found.target.corrected.get(BALL)
    assert not found.kept_for_the_next_worker()
    if shown is not None:
        np.testing.assert_array_equal(found.shown(), shown)
        assert shown.any() == (answer in ("reset", "gone from the run"))


def test_a_slice_that_was_answered_for_is_not_corrected(found):
    found.run.mark_absent(found.target, BALL, INDEX, found.editing)
    assert through(found.correction()) is None
    assert INDEX not in found.target.results(BALL)
    assert not found.shown().any()


def test_the_latest_of_two_corrections_counts(found):
    first, second = found.correction(), found.correction()
    next(first)
    next(second)
    assert through(first) is None
    result = through(second)
    assert found.target.results(BALL)[INDEX] is result
    assert found.kept_for_the_next_worker() == [INDEX]


def test_reset(found):
    original = found.target.found[BALL][INDEX]
    through(found.correction())
    assert found.run.reset(found.talk, found.target, BALL, INDEX) is original
    assert found.target.results(BALL)[INDEX] is original
    np.testing.assert_array_equal(found.shown(), original.mask)
    assert not found.kept_for_the_next_worker()
    assert found.run.reset(found.talk, found.target, BALL, 6) is None, "that one is drawn"
    # It can be corrected again.
    assert through(found.correction()) is found.target.results(BALL)[INDEX]


def test_reset_leaves_what_other_runs_corrected(found):
    other = Found(Patient(found.patient.scene, name="Other"))
    through(other.correction())
    found.run.reset(other.talk, found.target, BALL, INDEX)
    assert other.kept_for_the_next_worker() == [INDEX]


def test_a_correction_of_an_earlier_run_is_none_of_the_next(found):
    steps = found.correction()
    next(steps)
    Found(Patient(found.patient.scene, {"egg": found.patient.masks[BALL]}, name="Other"))
    assert through(steps).structure.id == BALL
    assert not found.kept_for_the_next_worker()


class TestOtherModels:
    """What a run has found is corrected by what has found it, or not at all."""

    def other(self, found: Found, segmenter: str, command=None) -> None:
        command = list(SCRIPTED) if command is None else command
        found.engine.configure(("fob-lite", segmenter, "auto"), command)
        found.talk = found.engine.conversation

    def test_by_name(self, found):
        self.other(found, "random-walker")
        with pytest.raises(FoBSAMError, match="not with fob-lite, random-walker") as caught:
            through(found.correction())
        assert "segment again" in caught.value.hint
        with pytest.raises(FoBSAMError, match="not with fob-lite, random-walker"):
            through(found.run.suggest(found.talk, BALL))
        assert not found.talk.worker, "no worker was started for it"
        assert not found.target.corrected.get(BALL)

    def test_by_what_a_worker_says(self, found):
        found.talk = Conversation(("fob-lite", "compact", "auto"), SubprocessTransport())
        for _ in range(2):
            with pytest.raises(FoBSAMError, match="found with scripted, copy"):
                through(found.correction())
        assert found.talk.state.image is None
        found.talk.close()

    def test_the_same_ones_again(self, found):
        self.other(found, "random-walker")
        self.other(found, "compact", [*SCRIPTED, "0.001"])
        assert through(found.correction()) is found.target.results(BALL)[INDEX]
        assert through(found.run.suggest(found.talk, BALL)) == 11


class TestUndo:
    """What is said of a slice is a step of its own in the Segment Editor's undo."""

    def absent(self, found: Found) -> tuple[int, ...]:
        return self.drawn(found).absent

    def drawn(self, found: Found):
        return read_drawn(found.patient.volume, found.patient.node).structures[0]

    def test_not_in_this_slice(self, found):
        before = found.patient.voxels()
        found.run.accept_slice(found.target, BALL, 2, found.editing)
        support = found.patient.voxels()
        found.run.mark_absent(found.target, BALL, INDEX, found.editing)
        assert self.absent(found) == (INDEX,)
        assert found.editing.undo()
        assert self.absent(found) == ()
        np.testing.assert_array_equal(found.patient.voxels(), support)
        assert found.editing.undo()
        np.testing.assert_array_equal(found.patient.voxels(), before)
        assert found.editing.redo()
        assert self.absent(found) == ()
        assert found.editing.redo()
        assert self.absent(found) == (INDEX,)
        np.testing.assert_array_equal(found.patient.voxels(), support)
        assert not found.run.problems(found.target)

    def test_use_as_support(self, found):
        found.run.accept(found.target, found.editing)
        found.run.targets.clear()
        again = Found(found.patient)
        assert INDEX in self.drawn(found).found
        again.run.accept_slice(again.target, BALL, INDEX, found.editing)
        for _ in range(2):
            assert INDEX in self.drawn(found).masks
            assert found.editing.undo()
            assert INDEX in self.drawn(found).found
            assert found.editing.redo()
        assert INDEX in self.drawn(found).masks

    def test_use_as_support_is_through_with_the_step(self, found):
        """Whoever takes the state at the step's end has the tags too."""
        found.run.accept(found.target, found.editing)
        again, states = Found(found.patient), []
        again.editing.end = lambda: states.append(self.drawn(found).found)
        again.run.accept_slice(again.target, BALL, INDEX, again.editing)
        assert [INDEX in state for state in states] == [False]
        assert [2 in state for state in states] == [True]

    def test_a_state_that_cannot_be_saved(self, found):
        def fail(*_: object) -> None:
            raise RuntimeError("no state")

        found.editing._save_state = fail
        for act in (found.run.mark_absent, found.run.accept_slice):
            with pytest.raises(RuntimeError, match="no state"):
                act(found.target, BALL, INDEX, found.editing)
        assert self.absent(found) == ()
        assert INDEX in found.target.results(BALL)
        assert not found.patient.node.GetDisableModifiedEvent()
