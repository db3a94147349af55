"""The large models in the panel: what there is, under which terms, and which of them are here.

The work is done by the command ``fobsam models`` in a process of its own, which may wait for a
server or read gigabytes; the panel shows the lines that it prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import DEFAULT_MODELS
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.models.catalogue import Model, catalogue
from FoBSAMLib.mrml.packages import missing
from FoBSAMLib.worker.transport import worker_environment

STATES = {
    "absent": _("not here"),
    "partial": _("partly here"),
    "unverified": _("not verified"),
    "present": _("here"),
}
#: Steps of the progress bar: bytes do not fit into it.
STEPS = 1000


class Models:
    """A table of models with what can be done with each; one thing is under way at a time."""

    def __init__(
        self, ui: Any, messages: Messages, requirements: Path, on_there: Callable[[Model], None]
    ) -> None:
        """``on_there`` is called with a model that has come."""
        self._ui = ui
        self._messages = messages
        self._requirements = requirements
        self._on_there = on_there
        self._models: list[Model] = []
        self._notes: dict[str, list[str]] = {}
        self._command: _Command | None = None
        table = ui.modelsTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Model"), _("Size"), _("State")])
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.verticalHeader().setVisible(False)
        table.connect("itemSelectionChanged()", self._show_chosen)
        ui.modelsButton.connect("contentsCollapsed(bool)", lambda _collapsed: self.refresh())
        ui.downloadModelButton.connect("clicked(bool)", lambda _checked: self.download())
        ui.cancelModelButton.connect("clicked(bool)", lambda _checked: self.cancel())
        ui.importModelButton.connect("clicked(bool)", lambda _checked: self.import_file())
        ui.verifyModelButton.connect("clicked(bool)", lambda _checked: self._run("verify"))
        ui.removeModelButton.connect("clicked(bool)", lambda _checked: self.remove())
        ui.modelProgressBar.setVisible(False)

    def refresh(self) -> None:
        """Show the models and their states, if the section is open."""
        if self._ui.modelsButton.collapsed:
            return
        try:
            self._models = list(catalogue().values()) if self._ready else []
            states = [(one.title, one.size_text, STATES[one.state]) for one in self._models]
        except FoBSAMError as error:
            self._messages.error(error)
            return
        table, row = self._ui.modelsTable, max(self._ui.modelsTable.currentRow(), 0)
        table.setRowCount(len(states))
        for n, texts in enumerate(states):
            for column, text in enumerate(texts):
                table.setItem(n, column, qt.QTableWidgetItem(text))
        if states:
            table.selectRow(row)
        self._show_chosen()

    def point_at(self, error: FoBSAMError) -> None:
        """Open the section at the model whose weights an error misses."""
        if error.code != "weights_missing" or not self._ready:
            return
        named = [one for one in catalogue().values() if f" {one.name}" in str(error)]
        if named:
            self._ui.modelsButton.collapsed = False
            names = [one.name for one in self._models]
            self._ui.modelsTable.selectRow(names.index(named[-1].name))

    def download(self) -> None:
        """Have the chosen model here; its terms are agreed to before anything is asked of a
        server, unless a download goes on."""
        model = self._chosen
        question = f"{model.notice}\n\n" + _("Download it under these terms?")
        if model.state != "partial" and not slicer.util.confirmOkCancelDisplay(
            question, _("Download {name}").format(name=model.title)
        ):
            return
        self._run("download", "--yes")

    def import_file(self) -> None:
        """Take the chosen model from a file, for computers without a network."""
        title = _("The file {file}").format(file=self._chosen.file)
        file = qt.QFileDialog.getOpenFileName(None, title)
        if file:
            self._run("import", file)

    def remove(self) -> None:
        """Delete the chosen model, if the user says yes."""
        question = _("Remove {name} from this computer?").format(name=self._chosen.title)
        if slicer.util.confirmOkCancelDisplay(question, _("Remove a model")):
            self._run("remove")

    def cancel(self) -> None:
        """Stop what is under way; what has come of a download is kept."""
        if self._command is not None:
            self._command.interrupt()

    def close(self) -> None:
        """Nobody waits for what is under way any more; a download can go on another time."""
        if self._command is not None:
            self._command.forget()
            self._command = None

    @property
    def _ready(self) -> bool:
        return not missing(self._requirements, DEFAULT_MODELS)

    @property
    def _chosen(self) -> Model:
        return self._models[max(self._ui.modelsTable.currentRow(), 0)]

    def _run(self, *arguments: str) -> None:
        model = self._chosen
        self._messages.hide()
        action, *rest = arguments
        lines = [] if action == "remove" else ["--json"]
        command = [action, model.name, *rest, *lines]
        self._command = _Command(command, self._progress, lambda error: self._ended(model, error))
        self._show_chosen()

    def _progress(self, told: dict[str, Any]) -> None:
        bar = self._ui.modelProgressBar
        if told.get("total"):
            bar.setRange(0, STEPS)
            bar.setValue(round(STEPS * told["done"] / told["total"]))
        elif "doing" in told:
            bar.setRange(0, 0)
        if told.get("doing"):
            self._ui.modelLabel.setText(told["doing"])
        if "notes" in told:
            self._notes[told["name"]] = told["notes"]

    def _ended(self, model: Model, error: str) -> None:
        self._command = None
        if error.startswith("What has come is kept"):
            self._messages.note(_("What has come is kept; Download goes on from there."))
        elif error:
            self._messages.error(FoBSAMError("weights_missing", error))
        elif model.here:
            self._on_there(model)
        self.refresh()
        self._show_chosen()

    def _show_chosen(self) -> None:
        ui, idle = self._ui, self._command is None
        ui.modelProgressBar.setVisible(not idle)
        ui.cancelModelButton.setEnabled(not idle)
        ui.modelsTable.setEnabled(idle)
        buttons = (ui.importModelButton, ui.verifyModelButton, ui.removeModelButton)
        for button in (ui.downloadModelButton, *buttons):
            button.setEnabled(idle and bool(self._models))
        if not self._models:
            ui.modelLabel.setText(
                _("Press Segment once: that installs the packages that models need, too.")
            )
            return
        if not idle:
            return
        model = self._chosen
        ui.modelLabel.setText("\n".join([model.notice, *self._notes.get(model.name, ())]))
        ui.downloadModelButton.setEnabled(bool(model.urls) and not model.here)
        ui.verifyModelButton.setEnabled(model.here)
        ui.removeModelButton.setEnabled(model.state != "absent")


class _Command:
    """``fobsam models …`` in a process; ``on_line`` gets what it prints, ``on_ended`` its error or
    nothing."""

    def __init__(
        self,
        arguments: Sequence[str],
        on_line: Callable[[dict[str, Any]], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self._on_line, self._on_ended = on_line, on_ended
        self._pid: int | None = None
        self._rest = b""
        environment = qt.QProcessEnvironment.systemEnvironment()
        for name, value in worker_environment().items():
            environment.insert(name, value)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.start(sys.executable, ["-m", "FoBSAMLib", "models", *arguments])

    def interrupt(self) -> None:
        """As Ctrl-C does. Slicer's Python is a launcher, which would die alone: the process has
        told its own number."""
        if self._pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGINT if os.name == "posix" else signal.SIGTERM)

    def forget(self) -> None:
        """Stop it, and tell nobody."""
        self._on_line, self._on_ended = lambda told: None, lambda error: None
        self.interrupt()

    def _read(self) -> None:
        *lines, self._rest = (
            self._rest + bytes(self._process.readAllStandardOutput().data())
        ).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # a sentence for people
                told = json.loads(line)
                self._pid = told.get("pid", self._pid)
                self._on_line(told)

    def _finished(self, status: int, _how: Any = None) -> None:
        self._read()
        said = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        last = (said.strip().splitlines() or [""])[-1].removeprefix("error: ")
        self._on_ended("" if status == 0 else last or _("It ended without a word."))
