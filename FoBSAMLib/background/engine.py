"""FoBSAM's worker in Slicer: started at first use, warm between runs, ended with Slicer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import qt

from FoBSAMLib.background.jobs import Job, Jobs, ignore
from FoBSAMLib.background.process import ProcessTransport
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Conversation, Steps

#: Generator, segmenter and device by name.
Models = tuple[str, str, str]
DEFAULT_MODELS: Models = ("fob-lite", "compact", "auto")


class Engine:
    """One worker, what is said with it, and the steps under way; nothing here waits."""

    def __init__(self, models: Models = DEFAULT_MODELS, command: Sequence[str] | None = None):
        """Nothing is started before the first job. ``command`` starts the worker; None stands for
        one under Slicer's Python."""
        self.jobs = Jobs()
        # One for all workers in turn: those that were told to end are seen to by it.
        self._transport = ProcessTransport(command, self.jobs.wake)
        self._choose(models, command)

    def _choose(self, models: Models, command: Sequence[str] | None) -> None:
        self.models = models
        self.command = self._transport.command = command
        self.conversation = Conversation(models, self._transport, tick=0.0)

    def configure(self, models: Models, command: Sequence[str] | None = None) -> None:
        """Use other models, or another worker, from now on; what was under way is given up."""
        if (models, command) != (self.models, self.command):
            self._give_up()
            self._choose(models, command)

    @property
    def busy(self) -> bool:
        """Whether any job is under way."""
        return self.jobs.busy

    @property
    def started(self) -> bool:
        """Whether a worker has said what computes there."""
        return self.conversation.connected

    def start(
        self,
        steps: Steps[Any],
        on_result: Callable[[SliceResult], None] = ignore,
        on_done: Callable[[Any], None] = ignore,
        on_failed: Callable[[FoBSAMError], None] = ignore,
    ) -> Job:
        """Begin steps of the conversation; see `Jobs.start`."""
        return self.jobs.start(steps, on_result, on_done, on_failed)

    def finish(self, job: Job) -> None:
        """Let events through until a job has ended: for scripts that wait."""
        if not job.ended:
            loop = qt.QEventLoop()
            job.when_ended(loop.quit)
            loop.exec_()

    def reset(self) -> None:
        """Give up what is under way and end the worker; the next job starts another one."""
        self._give_up()
        self._choose(self.models, self.command)

    def kill(self) -> None:
        """The same, with nothing left of any worker: the application exits."""
        self.reset()
        self._transport.kill()

    def _give_up(self) -> None:
        self.jobs.drop_all()
        self.conversation.close()


@cache
def shared_engine() -> Engine:
    """The one of Slicer's process: the panel and scripts use the same worker."""
    return Engine()
