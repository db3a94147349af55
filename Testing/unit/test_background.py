"""Steps taken by the event loop, and the worker that Slicer keeps: nothing waits or is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest
import standin
import worker_faults

standin.require()
standin.install()

from FoBSAMLib import FoBSAMError  # noqa: E402
from FoBSAMLib.background.engine import DEFAULT_MODELS, Engine  # noqa: E402
from FoBSAMLib.background.jobs import Jobs  # noqa: E402

OTHERS = ("fob-lite", "random-walker", "cpu")
#: A worker without torch, at 50 ms a slice.
SLOW = (*worker_faults.SCRIPTED[:2], "0.05")


@pytest.fixture
def jobs():
    made = Jobs()
    yield made
    made.drop_all()
    standin.raise_caught()


@pytest.fixture
def told():
    """What listeners were told, in turn."""
    return []


def steps(*results, value=None):
    """Steps with these results; None for one that waits."""
    yield from results
    return value


def forever():
    """Steps that never have to wait."""
    number = 0
    while True:
        number += 1
        yield number


def listeners(told, name=""):
    """What tells a list: of results, of the end, of a failure."""
    return {
        "on_result": lambda result: told.append(f"{name}{result}"),
        "on_done": lambda value: told.append(f"{name}done {value}"),
        "on_failed": lambda error: told.append(f"{name}{error.code}: {error.message}"),
    }


def run(jobs, seconds=30.0):
    standin.wait_until(lambda: not jobs.busy, seconds)


class TestJobs:
    def test_results_and_the_value_are_told_in_turn(self, jobs, told):
        job = jobs.start(steps(1, None, 2, value="all"), **listeners(told))
        assert told == []
        assert jobs.busy
        run(jobs)
        assert told == ["1", "2", "done all"]
        assert job.ended

    def test_nobody_need_listen(self, jobs):
        jobs.start(steps(1, 2))
        run(jobs)

    def test_a_job_that_never_waits_leaves_others_and_the_window_their_turn(self, jobs, told):
        greedy = jobs.start(forever())
        with standin.Responsiveness() as loop:
            jobs.start(steps(None, 1, None, 2, value=3), **listeners(told))
            standin.wait_until(lambda: "done 3" in told)
        assert loop.longest < 0.5
        assert not greedy.ended

    def test_a_job_that_fails_is_told_and_others_go_on(self, jobs, told):
        def fails(error):
            yield 1
            raise error

        jobs.start(fails(FoBSAMError("out_of_memory", "Too large.")), **listeners(told, "a "))
        jobs.start(fails(KeyError("x")), **listeners(told, "b "))
        jobs.start(steps(None, 2), **listeners(told, "c "))
        run(jobs)
        assert told[:2] == ["a 1", "a out_of_memory: Too large."]
        assert told[2] == "b 1"
        assert told[3].startswith("b internal: KeyError: 'x'")
        assert told[4:] == ["c 2", "c done None"]

    @pytest.mark.parametrize("listener", ["on_result", "on_done"])
    @pytest.mark.parametrize(
        ("error", "says"),
        [(ZeroDivisionError("by 0"), "internal: Zero"), (FoBSAMError("bad_request", "No."), "bad")],
    )
    def test_a_listener_that_fails_ends_its_job_alone(self, jobs, told, listener, error, says):
        def fail(_what):
            raise error

        closed = []

        def watched():
            try:
                yield 1
                yield 2
            finally:
                closed.append(True)

        jobs.start(watched(), **{**listeners(told, "bad "), listener: fail})
        jobs.start(steps(3, None, None, 4), **listeners(told, "good "))
        run(jobs)
        assert closed == [True]
        assert [one for one in told if one.startswith("bad ")][-1].startswith(f"bad {says}")
        assert told.count("bad 2") == (listener == "on_done")
        assert [one for one in told if "good" in one] == ["good 3", "good 4", "good done None"]

    def test_a_listener_of_failures_that_fails_disturbs_nobody(self, jobs, told, capsys):
        def fail(what):
            raise ZeroDivisionError(f"told {what}")

        jobs.start(steps(1), on_result=fail, on_failed=lambda error: fail(error.code))
        jobs.start(steps(None, 2), **listeners(told))
        run(jobs)
        assert told == ["2", "done None"]
        assert "ZeroDivisionError: told internal" in capsys.readouterr().err

    def test_dropped_by_its_own_listener(self, jobs, told):
        job = jobs.start(forever(), on_result=lambda n: (told.append(n), n == 3 and job.drop()))
        run(jobs)
        standin.wait(0.02)
        assert told == [1, 2, 3]

    def test_dropped_by_the_listener_of_another_before_its_turn_and_after(self, jobs, told):
        first = jobs.start(forever(), on_failed=told.append)
        jobs.start(steps(1), on_result=lambda _: (first.drop(), last.drop()))
        last = jobs.start(forever(), told.append, on_failed=told.append)
        run(jobs)
        assert told == []

    def test_dropped_by_its_own_step(self, jobs, told):
        def falls_silent():
            try:
                job.drop()  # as an observer of the scene may
                assert job.ended
                yield 1
            finally:
                told.append("closed")

        job = jobs.start(falls_silent(), **listeners(told))
        run(jobs)
        standin.wait(0.02)
        assert told == ["closed"]

    def test_steps_that_cannot_be_closed_disturb_nobody(self, jobs, told):
        def clings():
            try:
                yield 1
            finally:
                raise ZeroDivisionError

        job = jobs.start(clings(), lambda _result: job.drop(), told.append, told.append)
        jobs.start(steps(None, 2), **listeners(told))
        run(jobs)
        assert told == ["2", "done None"]

    def test_started_by_a_listener(self, jobs, told):
        jobs.start(steps(1), on_done=lambda _: jobs.start(steps(2), **listeners(told)))
        run(jobs)
        assert told == ["2", "done None"]

    def test_nothing_is_told_after_all_were_dropped(self, jobs, told):
        ended = []
        for _ in range(3):
            jobs.start(forever(), **listeners(told)).when_ended(lambda: ended.append(True))
        standin.wait_until(lambda: told)
        jobs.wake()  # a turn is due
        jobs.drop_all()
        told.clear()
        assert len(ended) == 3
        assert not jobs.busy
        standin.wait(0.05)
        assert told == []

    def test_all_dropped_by_a_listener_which_starts_another(self, jobs, told):
        def again(_result):
            jobs.drop_all()
            jobs.start(steps(5, value=6), **listeners(told))

        jobs.start(steps(1, 2), again, told.append, told.append)
        jobs.start(forever(), on_failed=told.append)
        run(jobs)
        assert told == ["5", "done 6"]

    def test_a_listener_may_let_events_through(self, jobs, told):
        """As a dialog does: meanwhile its own job and others go on."""

        def dialog(_result):
            standin.wait_until(lambda: "done None" in told)
            told.append("closed")

        jobs.start(steps(1, value=2), on_result=dialog, on_done=lambda v: told.append(f"own {v}"))
        jobs.start(steps(None, None, None, 3), **listeners(told))
        run(jobs)
        assert [one for one in told if one != "own 2"] == ["3", "done None", "closed"]
        assert told.count("own 2") == 1

    def test_a_step_that_lets_events_through_is_not_taken_twice(self, jobs, told):
        def steps_with_events():
            standin.wait(0.05)
            yield 1

        jobs.start(steps_with_events(), **listeners(told))
        run(jobs)
        assert told == ["1", "done None"]

    def test_an_idle_loop_is_left_alone(self, jobs):
        jobs.start(steps(1))
        run(jobs)
        standin.wait(0.02)
        jobs.wake()
        assert not jobs._timer.active


@pytest.fixture
def engine():
    made = Engine(DEFAULT_MODELS, SLOW)
    yield made
    made.kill()
    standin.raise_caught()


def ready(engine):
    """The engine with an image and supports; its worker's process id."""
    image = worker_faults.volume()
    for one in (
        engine.conversation.set_image(image),
        engine.conversation.set_supports(worker_faults.support(image)),
    ):
        job = engine.start(one, on_failed=lambda error: pytest.fail(str(error)))
        engine.finish(job)
    return pid_of(engine)


def pid_of(engine):
    return int(engine._transport._process.processId())


class TestEngine:
    def test_nothing_is_started_before_the_first_job(self, engine):
        assert not engine.started
        assert not engine.busy
        assert engine._transport._process is None
        engine.reset()
        engine.kill()

    def test_a_correction_does_not_wait_for_the_run_under_way(self, engine, told):
        ready(engine)

        def came(result):
            told.append((result.structure.name, result.index))
            if len(told) == 3:
                again = engine.conversation.correct("ball", result.index, result.prompts)
                engine.start(again, on_done=lambda r: told.append(f"corrected {r.index}"))

        engine.finish(engine.start(engine.conversation.segment(), came))
        corrected = next(n for n, one in enumerate(told) if isinstance(one, str))
        assert told[corrected] == f"corrected {told[2][1]}"
        assert 3 <= corrected <= 6
        assert len(told) == 23

    def test_a_worker_killed_in_a_run_is_replaced_and_each_slice_told_once(self, engine, told):
        pid = ready(engine)

        def came(result):
            told.append((result.structure.name, result.index))
            if len(told) == 5:
                os.kill(pid, signal.SIGKILL)

        engine.finish(engine.start(engine.conversation.segment(), came))
        assert len(told) == len(set(told)) == 22
        assert pid_of(engine) != pid
        assert "another one went on" in engine.conversation.notes[0]

    def test_the_same_choice_again_keeps_the_worker(self, engine):
        pid = ready(engine)
        engine.configure(DEFAULT_MODELS, SLOW)
        assert pid_of(engine) == pid
        assert engine.started

    @pytest.mark.parametrize("busy", [False, True])
    def test_another_choice_ends_the_worker_and_what_it_does(self, engine, told, busy):
        pid = ready(engine)
        if busy:
            engine.start(engine.conversation.segment(), told.append, told.append, told.append)
            standin.wait_until(lambda: len(told) == 2)
        with standin.Responsiveness() as loop:
            engine.configure(OTHERS, worker_faults.SCRIPTED)
            assert not engine.busy
            assert not engine.started
            standin.wait_until(lambda: worker_faults.is_gone(pid))
        assert loop.longest < 1.0
        assert len(told) == 2 * busy
        assert engine.models == OTHERS
        assert ready(engine) != pid
        found = []
        engine.finish(engine.start(engine.conversation.segment(), found.append))
        assert len(found) == 22

    def test_reset_while_a_worker_starts(self, engine, told):
        engine.start(engine.conversation.start(), told.append, told.append, told.append)
        standin.wait_until(lambda: engine._transport._process is not None)
        pid = pid_of(engine)
        engine.reset()
        assert ready(engine) != pid
        standin.wait_until(lambda: worker_faults.is_gone(pid))
        assert told == []

    def test_kill_leaves_no_process(self, engine):
        first = ready(engine)
        engine.reset()
        second = ready(engine)
        engine.start(engine.conversation.segment())
        began = time.monotonic()
        engine.kill()
        assert worker_faults.is_gone(first)
        assert worker_faults.is_gone(second)
        assert time.monotonic() - began < 10.0
        assert ready(engine) not in (first, second)

    def test_finish_within_a_listener_and_twice_for_one_job(self, engine, told):
        outer = engine.start(
            steps(None, 1, value="outer"),
            on_result=lambda _: engine.finish(inner),
            on_done=told.append,
        )
        inner = engine.start(
            steps(*[None] * 5, 2, value="inner"),
            on_result=lambda _: engine.finish(outer),
            on_done=told.append,
        )
        engine.finish(outer)
        engine.finish(outer)
        assert "outer" in told
        engine.finish(inner)
        assert sorted(told) == ["inner", "outer"]

    def test_finish_returns_when_the_job_is_given_up(self, engine, told):
        ready(engine)
        job = engine.start(
            engine.conversation.segment(), on_result=lambda _: engine.reset(), on_done=told.append
        )
        engine.finish(job)
        assert job.ended
        assert told == []
