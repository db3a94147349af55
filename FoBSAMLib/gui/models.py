"""The large models in the panel: what there is, under which terms, and which of them are here."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import DEFAULT_MODELS
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui import dependencies, settings
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.gui.model_command import ModelCommand
from FoBSAMLib.models.catalogue import Model, catalogue, readable
from FoBSAMLib.models.published import known_about_folds
from FoBSAMLib.mrml.packages import missing

KINDS = {"segmenter": _("masks"), "generator": _("points")}
STATES = {
    "absent": _("not here"),
    "partial": _("partly here"),
    "unverified": _("not verified"),
    "present": _("here"),
}
DONE = {
    "download": _("{title} is here. Choose it in the section Computing."),
    "import": _("{title} is here. Choose it in the section Computing."),
    "verify": _("{title} is as it came in."),
    "remove": _("{title} is removed."),
}
#: Steps of the progress bar: bytes do not fit into it.
STEPS = 1000
#: Pixels between two rows.
PADDING = 6
_LINK = re.compile(r"https?://[^\s,;]*[^\s,;.]")


class Models:
    """A table of models with what can be done with each; one thing is under way at a time.

    It goes on when another module is opened or the scene is closed: models are the computer's.
    """

    def __init__(
        self, ui: Any, messages: Messages, requirements: Path, on_changed: Callable[[], None]
    ) -> None:
        """``on_changed`` is called when a model has come or gone."""
        self._ui = ui
        self._messages = messages
        self._requirements = requirements
        self._on_changed = on_changed
        self._models: list[Model] = []
        self._command: ModelCommand | None = None
        table = ui.modelsTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Model"), _("Size"), _("Licence"), _("State")])
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(2, qt.QHeaderView.Interactive)
        table.setColumnWidth(2, 80)  # long ones wrap
        header.setHighlightSections(False)
        table.verticalHeader().setVisible(False)
        table.connect("itemSelectionChanged()", self._show_chosen)
        ui.modelsButton.connect("contentsCollapsed(bool)", lambda _collapsed: self.refresh())
        ui.modelPackagesButton.connect("clicked(bool)", lambda _checked: self.install())
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
        except FoBSAMError as error:
            self._messages.error(error)
            return
        table, row = self._ui.modelsTable, max(self._ui.modelsTable.currentRow(), 0)
        table.setRowCount(len(self._models))
        for n, model in enumerate(self._models):
            for column, text in enumerate(_row(model)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(n, column, item)
            if model.state != "absent":
                item.setToolTip(str(model.path))
        table.resizeRowsToContents()
        for n in range(len(self._models)):
            table.setRowHeight(n, table.rowHeight(n) + PADDING)
        if self._models:
            table.selectRow(row)
        self._show_chosen()

    def show(self, name: str) -> None:
        """Open the section at a model."""
        self._ui.modelsButton.collapsed = False
        names = [one.name for one in self._models]
        if name in names:
            self._ui.modelsTable.selectRow(names.index(name))
            self._ui.modelsTable.setFocus()

    def point_at(self, error: FoBSAMError) -> None:
        """Open the section at the model whose weights an error misses on this computer, and say
        what is to be done there instead of the command."""
        if error.code != "weights_missing" or settings.worker_command_line() or not self._ready:
            return
        named = [one for one in catalogue().values() if f" {one.name}" in str(error)]
        for model in named[-1:]:
            self.show(model.name)
            self._messages.warn(
                _(
                    "{title} is not on this computer. Download it in the section Models, or import "
                    "it from a file there."
                ).format(title=model.title)
            )

    def install(self) -> None:
        """Have the packages that models need, if the user says yes."""
        try:
            dependencies.ensure(self._requirements)
        except FoBSAMError as error:
            self._messages.error(error)
        self.refresh()

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
            self._ui.cancelModelButton.setEnabled(False)
            self._ui.modelProgressBar.setFormat(_("Stopping …"))

    def close(self) -> None:
        """Nobody waits for what is under way any more; a download can go on another time."""
        if self._command is not None:
            self._command.end()
            self._command = None

    @property
    def _ready(self) -> bool:
        return not missing(self._requirements, DEFAULT_MODELS)

    @property
    def _chosen(self) -> Model:
        return self._models[max(self._ui.modelsTable.currentRow(), 0)]

    def _run(self, action: str, *rest: str) -> None:
        model = self._chosen
        self._messages.hide()
        bar = self._ui.modelProgressBar
        bar.setRange(0, STEPS)
        bar.setValue(0)
        bar.setFormat(_("Starting …"))
        self._command = ModelCommand(
            [action, model.name, *rest, "--json"],
            self._progress,
            lambda error: self._ended(action, model, error),
        )
        self._show_chosen()
        self._command.start()

    def _progress(self, told: dict[str, Any]) -> None:
        if self._command is None or self._command.interrupted:
            return
        bar, done, total = self._ui.modelProgressBar, told.get("done") or 0, told.get("total") or 0
        words = [told["doing"]] if told.get("doing") else []
        if total:
            bar.setValue(round(STEPS * done / total))
            amounts = {"done": readable(done), "total": readable(total)}
            words.append(_("{done} of {total}").format(**amounts))
        elif done:
            words.append(readable(done))
        if words:
            bar.setFormat(", ".join(words))

    def _ended(self, action: str, model: Model, error: str) -> None:
        interrupted = self._command is not None and self._command.interrupted
        self._command = None
        if not error:
            self._messages.note(DONE[action].format(title=model.title))
        elif not interrupted:
            self._messages.error(FoBSAMError("unreadable", error))
        elif model.state == "partial":
            self._messages.note(_("What has come is kept; Download goes on from there."))
        else:
            self._messages.note(_("Stopped; nothing was changed."))
        self.refresh()
        self._on_changed()

    def _show_chosen(self) -> None:
        ui, idle = self._ui, self._command is None
        ui.modelProgressBar.setVisible(not idle)
        ui.cancelModelButton.setEnabled(not idle)
        ui.modelsTable.setEnabled(idle)
        ui.modelPackagesButton.setVisible(not self._models)
        if not self._models:
            buttons = (ui.downloadModelButton, ui.importModelButton)
            for button in (*buttons, ui.verifyModelButton, ui.removeModelButton):
                button.setEnabled(False)
            ui.modelLabel.setText(_("Models need Python packages that are not installed yet."))
            return
        model = self._chosen
        ui.downloadModelButton.setEnabled(idle and bool(model.urls) and not model.here)
        ui.importModelButton.setEnabled(idle)
        ui.verifyModelButton.setEnabled(idle and model.here)
        ui.removeModelButton.setEnabled(idle and model.state != "absent")
        ui.modelLabel.setText(_details(model))


def _row(model: Model) -> list[str]:
    """What the table shows of a model."""
    return [
        f"{model.title}\n{model.name} ({KINDS[model.kind]})",
        readable(model.size) if model.bytes else f"≈ {readable(model.size)}",
        model.licence.partition(",")[0],
        STATES[model.state],
    ]


def _details(model: Model) -> str:
    """What is to be known of a model before it is used, as HTML with its links."""
    lines = [model.notice, *known_about_folds(model)]
    if model.state == "partial":
        come = readable(model.partial.stat().st_size)
        lines.append(_("{come} have come; Download goes on from there.").format(come=come))
    elif model.state == "unverified":
        lines.append(_("Its checksum was not compared since it was written: press Verify."))
    text = html.escape("\n".join(lines), quote=False)
    return _LINK.sub(r'<a href="\g<0>">\g<0></a>', text).replace("\n", "<br>")
