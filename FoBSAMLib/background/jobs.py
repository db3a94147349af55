"""Steps of `FoBSAMLib.worker.conversation`, taken by Qt's event loop."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import qt

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Steps

#: Milliseconds between two turns while nothing is heard: steps that compute here take a few, too.
HEARTBEAT = 5
#: Seconds of steps at a stretch; then the window has its turn.
STRETCH = 0.01


def ignore(*_: object) -> None:
    """What is called where nobody wants to know."""


class Job:
    """Steps under way, and who is told of what they find."""

    def __init__(
        self,
        steps: Steps[Any],
        on_result: Callable[[SliceResult], None],
        on_done: Callable[[Any], None],
        on_failed: Callable[[FoBSAMError], None],
    ) -> None:
        self._steps = steps
        self._on_result = on_result
        self._on_done = on_done
        self._on_failed = on_failed
        #: Called when the job has ended, however it did.
        self.on_ended: Callable[[], None] = ignore
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether there are no steps left to take."""
        return self._ended

    def advance(self, until: float) -> bool:
        """Take steps up to a time; whether there are more to take at once.

        Whatever goes wrong is told, as an error: nothing leaves this for Qt's event loop.
        """
        while not self.ended and time.perf_counter() < until:
            try:
                result = next(self._steps)
                if result is None:
                    return False
                self._on_result(result)
            except StopIteration as end:
                self._end()
                self._on_done(end.value)
            except FoBSAMError as error:
                self.drop()
                self._on_failed(error)
            except Exception as error:
                self.drop()
                traceback.print_exception(error)
                self._on_failed(_unforeseen(error))
        return not self.ended

    def drop(self) -> None:
        """Stop at once and tell nobody; what it asked of the worker is cancelled."""
        self._steps.close()
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.on_ended()


class Jobs:
    """Runs jobs turn by turn on Qt's event loop."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._turning = False
        self._timer = qt.QTimer()
        self._timer.setInterval(HEARTBEAT)
        self._timer.connect("timeout()", self.turn)
        self._again = qt.QTimer()
        self._again.setSingleShot(True)
        self._again.setInterval(0)
        self._again.connect("timeout()", self.turn)

    @property
    def busy(self) -> bool:
        """Whether any is under way."""
        return any(not job.ended for job in self._jobs)

    def start(
        self,
        steps: Steps[Any],
        on_result: Callable[[SliceResult], None] = ignore,
        on_done: Callable[[Any], None] = ignore,
        on_failed: Callable[[FoBSAMError], None] = ignore,
    ) -> Job:
        """Begin steps; their first ones are taken when the event loop comes to it."""
        job = Job(steps, on_result, on_done, on_failed)
        self._jobs.append(job)
        self._timer.start()
        self._again.start()
        return job

    def turn(self) -> None:
        """Take every job some steps further; called by the timer, and when a worker says
        something."""
        if self._turning:  # a job's listener has let events through
            return
        self._turning = True
        try:
            until = time.perf_counter() + STRETCH
            more = [job.advance(until) for job in list(self._jobs)]
        finally:
            self._turning = False
        self._jobs = [job for job in self._jobs if not job.ended]
        if not self._jobs:
            self._timer.stop()
        elif any(more):
            self._again.start()

    def drop_all(self) -> None:
        """Stop everything and tell nobody."""
        for job in self._jobs:
            job.drop()
        self._jobs = []
        self._timer.stop()
        self._again.stop()


def _unforeseen(error: Exception) -> FoBSAMError:
    return FoBSAMError(
        "internal",
        f"{type(error).__name__}: {error} - this is a bug in FoBSAM.",
        "Please report it, with the log of the worker.",
    )
