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
#: Seconds of steps at a stretch, of all jobs together; then the window has its turn.
STRETCH = 0.01

#: Who is told, and what.
News = tuple[Callable[[Any], None], Any]


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
        self._on_ended: list[Callable[[], None]] = []
        self._ended = self._dropped = self._stepping = False

    @property
    def ended(self) -> bool:
        """Whether there are no steps left to take."""
        return self._ended

    def when_ended(self, call: Callable[[], None]) -> None:
        """Have something called once the job has ended, however it does."""
        self._on_ended.append(call)

    def advance(self, seconds: float) -> bool:
        """Take steps for a time; whether there are more to take at once.

        Whatever goes wrong is told, as an error: nothing leaves this for Qt's event loop. Who is
        told may let events through, and with them further steps; a step itself may not.
        """
        until = time.perf_counter() + seconds
        while not (self._ended or self._stepping) and time.perf_counter() < until:
            news = self._step()
            if self._dropped:
                self._close()
            elif news is None:
                return False
            else:
                self._tell(*news)
        return not (self._ended or self._stepping)

    def drop(self) -> None:
        """Stop at once and tell nobody; what it asked of the worker is cancelled."""
        self._dropped = True
        self._end()
        if not self._stepping:  # else at the end of the step
            self._close()

    def _step(self) -> News | None:
        """Take one step; what there is to tell, None where it waits."""
        self._stepping = True
        try:
            result = next(self._steps)
        except StopIteration as end:
            self._end()
            return self._on_done, end.value
        except Exception as error:
            self._end()
            return self._on_failed, _to_error(error)
        finally:
            self._stepping = False
        return None if result is None else (self._on_result, result)

    def _tell(self, listener: Callable[[Any], None], what: Any) -> None:
        """A listener that fails ends the job, as a step would."""
        try:
            listener(what)
        except Exception as error:
            self.drop()
            if listener is self._on_failed:
                traceback.print_exception(error)
            else:
                self._tell(self._on_failed, _to_error(error))

    def _close(self) -> None:
        try:
            self._steps.close()
        except Exception as error:
            traceback.print_exception(error)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            for call in self._on_ended:
                call()


class Jobs:
    """Runs jobs turn by turn on Qt's event loop."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        # Started anew for every turn: one that repeats would not fire while its own turn lasts.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self.turn)

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
        self._timer.start(0)
        return job

    def wake(self) -> None:
        """Have a turn as soon as the event loop comes to it: a worker has said something."""
        if self._jobs:
            self._timer.start(0)

    def turn(self) -> None:
        """Take every job some steps further.

        A listener may let events through: then the other jobs go on in a turn within this one.
        """
        self._timer.start(HEARTBEAT)
        share = STRETCH / max(1, len(self._jobs))
        more = [job.advance(share) for job in list(self._jobs)]
        self._jobs = [job for job in self._jobs if not job.ended]
        if not self._jobs:
            self._timer.stop()
        elif any(more):
            self._timer.start(0)

    def drop_all(self) -> None:
        """Stop everything and tell nobody."""
        jobs, self._jobs = self._jobs, []
        self._timer.stop()
        for job in jobs:
            job.drop()


def _to_error(error: Exception) -> FoBSAMError:
    return error if isinstance(error, FoBSAMError) else unforeseen(error)


def unforeseen(error: Exception) -> FoBSAMError:
    """What the user is told of an error that nobody foresaw; it is printed, too."""
    traceback.print_exception(error)
    return FoBSAMError(
        "internal",
        f"{type(error).__name__}: {error} - this is a bug in FoBSAM.",
        "Please report it, with the log of the worker.",
    )
