"""`FoBSAMLib.background.engine.Engine` without an event loop: what is started is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache
from typing import Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Conversation, Steps
from FoBSAMLib.worker.transport import SubprocessTransport

Models = tuple[str, str, str]


class WaitingEngine:
    """One worker, and what is said with it; the worker is started at first use and stays warm."""

    def __init__(self) -> None:
        self._chosen: tuple[Models, Sequence[str] | None] | None = None
        self.conversation = Conversation(("", "", ""), SubprocessTransport())
        #: Whether steps are being taken.
        self.busy = False

    def configure(self, models: Models, command: Sequence[str] | None = None) -> None:
        """Use other models, or another worker, from now on."""
        if (models, command) != self._chosen:
            self.conversation.close()
            self.conversation = Conversation(models, SubprocessTransport(command))
            self._chosen = models, command

    def start(
        self,
        steps: Steps[Any],
        on_result: Callable[[SliceResult], None],
        on_done: Callable[[Any], None],
        on_failed: Callable[[FoBSAMError], None],
    ) -> WaitingEngine:
        """Take steps to their end, and tell of it."""
        self.busy = True
        try:
            with closing(steps):
                for result in steps:
                    if result is not None:
                        on_result(result)
                    if self._chosen is None:
                        problem = "The run was given up: FoBSAM's worker was ended."
                        raise FoBSAMError("cancelled", problem, "Segment again.")
            self.busy = False
            on_done(None)
        except FoBSAMError as error:
            self.busy = False
            on_failed(error)
        finally:
            self.busy = False
        return self

    def finish(self, job: object) -> None:
        """Nothing is left to wait for."""

    def reset(self) -> None:
        """End the worker, and the steps under way; the next ones start another one."""
        self.conversation.close()
        self._chosen = None


@cache
def shared_engine() -> WaitingEngine:
    """The one of this process."""
    return WaitingEngine()
