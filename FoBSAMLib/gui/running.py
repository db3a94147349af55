"""From the press of Segment to the last slice: progress, cancel, and what goes wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import Engine, Models
from FoBSAMLib.background.jobs import Job
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui import dependencies, settings
from FoBSAMLib.gui.inputs import Inputs, duration
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.mrml.run import Run
from FoBSAMLib.mrml.watch import Watch
from FoBSAMLib.session.results import SliceResult

#: Milliseconds between two times that the preview shows what came: views take a while to draw.
SHOW = 150
#: Results after which the time left can be told.
ENOUGH = 3


class Running:
    """Starts runs and follows them; there is one at a time, and its results stay until the next."""

    def __init__(
        self,
        ui: Any,
        engine: Engine,
        inputs: Inputs,
        messages: Messages,
        requirements: Path,
        on_changed: Callable[[], None],
        drop_edits: Callable[[], None],
    ) -> None:
        """``on_changed`` is called when a run begins or ends, and when slices were found;
        ``drop_edits`` gives up corrections under way."""
        self._ui = ui
        self._engine = engine
        self._inputs = inputs
        self._messages = messages
        self._requirements = requirements
        self._complete: Models | None = None  # nothing was missing for these; looking takes a while
        self._on_changed = on_changed
        self._drop_edits = drop_edits
        #: The run whose results are there to be reviewed, or which is under way.
        self.run: Run | None = None
        self._job: Job | None = None
        self._watch: Watch | None = None
        self._asked = ""
        self._doubted = False
        self._first = 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(SHOW)
        self._timer.connect("timeout()", self._show)
        ui.segmentButton.connect("clicked(bool)", lambda _checked: self.segment())
        ui.cancelButton.connect("clicked(bool)", lambda _checked: self.cancel())

    @property
    def under_way(self) -> bool:
        """Whether slices are being looked at."""
        return self._job is not None and not self._job.ended

    def segment(self) -> None:
        """Start a run of what is chosen; what an earlier one found goes."""
        if self.under_way or not self._may_replace():
            return
        self._messages.hide()
        try:
            self._drop_edits()
            if self._engine.busy:
                raise FoBSAMError(
                    "bad_request",
                    _("A script has FoBSAM at work."),
                    _("Wait for its end, and press Segment again."),
                )
            self._inputs.read_now()
            run = self._inputs.make_run()
            models, command = settings.models(), settings.worker_command()
            if command is None and models != self._complete:
                if not dependencies.ensure(self._requirements, models):
                    return
                self._complete = models
            self._asked = settings.chosen()
            self._engine.configure(models, command)
        except FoBSAMError as error:
            self._messages.error(error)
            return
        self.drop()
        self.run = run
        self._first = 0.0
        self._observe()
        self._job = self._engine.start(
            run.steps(self._engine.conversation), self._came, self._ended, self._failed
        )
        self._timer.start()
        self._show()
        self._on_changed()

    def cancel(self) -> None:
        """Stop before the next slice; what was found stays."""
        if self.run is not None and self.under_way:
            self.run.cancel()
            if not self._engine.started:
                # It may never answer, and there is nothing to keep.
                self._engine.reset()
                self.stopped()
                return
            self._ui.progressBar.setFormat(_("Stopping …"))
            self._ui.cancelButton.setEnabled(False)

    def stopped(self) -> None:
        """The worker was ended: a run ends with it, what was found stays."""
        if self.run is not None and self._timer.active:
            self._timer.stop()
            self._show()
            self._finish()

    def drop(self) -> None:
        """Stop at once, and forget the run with its preview."""
        if self._job is not None and not self._job.ended:
            self._job.drop()
        self._job = None
        self._timer.stop()
        self._drop_edits()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self.run is not None:
            self.run.discard()
            self.run = None
        self.update()

    def update(self) -> None:
        """Show what can be pressed, and how far the run is."""
        ui, running = self._ui, self.under_way
        ui.segmentButton.setEnabled(not running and self._inputs.drawn is not None)
        again = self.run is not None and not running
        ui.segmentButton.setText(_("Segment again") if again else _("Segment"))
        ui.cancelButton.setEnabled(running and not (self.run and self.run.cancelled))
        ui.progressBar.setVisible(running)
        ui.costLabel.setVisible(not running)
        if running and self.run is not None:
            ui.progressBar.setRange(0, self.run.total)
            ui.progressBar.setValue(self.run.found)
            if not self.run.cancelled:
                ui.progressBar.setFormat(self._progress(self.run))

    def _progress(self, run: Run) -> str:
        if not self._engine.started:
            return _("Starting the worker …")
        if not run.found:
            return _("Sending the image …")
        text = _("{found} of {total} slices").format(found=run.found, total=run.total)
        if run.found > ENOUGH:
            pace = (time.monotonic() - self._first) / (run.found - 1)
            left = duration(pace * (run.total - run.found))
            text = _("{slices}, {time} left").format(slices=text, time=left)
        return text

    def _may_replace(self) -> bool:
        """Whether corrections that were not accepted may go."""
        run = self.run
        corrected = run is not None and any(
            slices for target in run.targets for slices in target.corrected.values()
        )
        return not corrected or slicer.util.confirmYesNoDisplay(
            _("Slices that you corrected were not accepted yet and will be lost. Segment again?"),
            _("Corrected slices"),
        )

    def _came(self, result: SliceResult) -> None:
        if not self._first:
            self._first = time.monotonic()

    def _show(self) -> None:
        """Show what has come since the last time."""
        target = self.run.current if self.run is not None else None
        if target is not None and target.preview is not None:
            target.preview.flush()
        self.update()
        if self.run is not None and self.run.found:
            self._on_changed()

    def _ended(self, _value: Any) -> None:
        run = self.run
        self._timer.stop()
        self._show()
        if run is not None and run.found > ENOUGH:
            pace = (time.monotonic() - self._first) / (run.found - 1)
            if settings.chosen() == self._asked:  # else others are chosen meanwhile
                settings.set_seconds_a_slice(pace)
                settings.set_device_used(self._engine.conversation.worker["models"]["device"])
        if self._engine.conversation.notes:
            self._messages.note(" ".join(self._engine.conversation.notes))
        self._finish()

    def _failed(self, error: FoBSAMError) -> None:
        self._timer.stop()
        self._messages.error(error)
        self._finish()

    def _finish(self) -> None:
        self._job = None
        if self.run is not None and not self.run.found:
            self.drop()
        self.update()
        self._on_changed()

    def _observe(self) -> None:
        """Notice when what the run is about goes or changes."""
        assert self.run is not None
        nodes = [target.node for target in self.run.targets]
        self._watch = Watch([*nodes, self.run.segmentation_node], self._look)

    def _look(self) -> None:
        run = self.run
        if run is None:
            return
        gone = next((target for target in run.targets if run.gone(target)), None)
        if gone is not None:
            text = run.problems(gone) or _("What the results are of was deleted.")
            self.drop()
            self._messages.warn(_("{problem} The results were dropped.").format(problem=text))
        else:
            for target in run.targets:
                if not run.lacks_segment(target):
                    run.take_back_undone(target)
            problem = next(filter(None, map(run.problems, run.targets)), "")
            if problem:
                self._messages.warn(
                    _("{problem} The results may not fit any more.").format(problem=problem)
                )
            elif self._doubted:
                self._messages.hide()  # what was changed was undone
            self._doubted = bool(problem)
        self._on_changed()
