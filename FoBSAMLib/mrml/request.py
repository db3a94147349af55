"""A run that a script asked for, from its start to its one end: found, failed or given up."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml.run import Run
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Steps

#: Seconds from one time that the preview shows what came to the next: views take a while to draw.
SHOW = 0.5
#: Called after every slice with how many are done, how many there are, and the slice's result;
#: False stops the run.
Progress = Callable[[int, int, SliceResult], object]


class Request:
    """Starts a run, waits for it where it shall, and tells once how it ended."""

    def __init__(
        self,
        run: Run,
        engine: Any,
        end: Callable[[dict[str, str], list[str]], None],
        progress: Progress | None,
        on_done: Callable[[], None],
        on_error: Callable[[FoBSAMError], object] | None,
    ) -> None:
        """``end`` is called with models and notes when all was found; it may raise FoBSAMError:
        then the run has failed. The last three are the script's own."""
        self._run = run
        self._engine = engine
        self._end = end
        self._progress = progress
        self._on_done = on_done
        self._on_error = on_error
        self._job: Any = None
        self._waiting = False
        self._told = False
        #: What a script is to hear, in the place of what the engine says of it.
        self._raised: BaseException | None = None
        self._shown = 0.0
        self.ended = False

    def start(self, *, wait: bool) -> None:
        """Begin; with ``wait`` return when it has ended, and raise what went wrong."""
        self._waiting = wait
        steps = self._guarded(self._run.steps(self._engine.conversation))
        next(steps)  # from here on it is told when somebody gives it up
        try:
            self._job = self._engine.start(steps, self._came, self._done, self._failed)
            if wait:
                self._engine.finish(self._job)
        except BaseException:
            self.drop()
            raise
        if wait and self._raised is not None:
            raise self._raised

    def drop(self) -> None:
        """Stop at once, without previews, and tell nobody."""
        if not self._told:
            self._told = self.ended = True
            self._run.cancel()
            self._run.discard()
            if hasattr(self._job, "drop"):
                self._job.drop()

    def _guarded(self, steps: Steps[None]) -> Steps[None]:
        """The steps; what is no error of theirs becomes one."""
        try:
            yield None
            yield from steps
        except KeyboardInterrupt as error:
            self._raised = error
            raise FoBSAMError("cancelled", "The run was interrupted.", "Segment again.") from None
        except GeneratorExit:
            if self._raised is None:
                problem = "The run was given up: FoBSAM's worker was ended."
                self._failed(FoBSAMError("cancelled", problem, "Segment again."))
            raise

    def _came(self, result: SliceResult) -> None:
        self._show()
        if self._progress is None:
            return
        try:
            answer = self._progress(self._run.found, self._run.total, result)
        except BaseException as error:
            self._raised = error
            raise FoBSAMError(
                "cancelled", f"The progress callback failed: {error!r}.", "Mend it, then try again."
            ) from error
        if answer is False:
            self._run.cancel()

    def _show(self) -> None:
        target, now = self._run.current, time.monotonic()
        if now - self._shown > SHOW and target is not None and target.preview is not None:
            target.preview.flush()
            self._shown = now

    def _done(self, _value: object) -> None:
        if self._told:
            return
        self.ended = True
        conversation = self._engine.conversation
        self._end(dict(conversation.worker.get("models", {})), list(conversation.notes))
        self._told = True
        self._call(self._on_done)

    def _failed(self, error: FoBSAMError) -> None:
        if self._told:
            return
        self._told = self.ended = True
        self._run.discard()
        self._run.targets.clear()
        if self._waiting:
            self._raised = self._raised or error
            return
        if self._raised is not None:
            traceback.print_exception(self._raised)
        if self._on_error is not None:
            self._call(self._on_error, error)
        else:
            print(f"FoBSAM: {error}")

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        """What a script's callback raises is the script's affair."""
        try:
            callback(*arguments)
        except Exception as error:
            traceback.print_exception(error)
