"""What computes, and where: the panel's last section, with the worker's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui import settings
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.gui.report import report
from FoBSAMLib.gui.running import Running
from FoBSAMLib.models.catalogue import Model, catalogue
from FoBSAMLib.models.published import folds, published_model
from FoBSAMLib.segmenters import registry as segmenters

#: What can be chosen; the fields take other names too, such as sam-vit-b:FILE.
GENERATORS = ("fob-lite", "fob-lite-fast")
SEGMENTERS = segmenters.names()
DEVICES = ("auto", "cpu", "cuda", "mps")


class Computing:
    """Chooses models, device and worker, which count from the next run on."""

    def __init__(
        self,
        ui: Any,
        engine: Engine,
        running: Running,
        messages: Messages,
        on_chosen: Callable[[], None],
        on_get: Callable[[Model], None],
    ) -> None:
        """``on_chosen`` is called when something else will compute, ``on_get`` with a model that
        the user wants to have."""
        self._ui = ui
        self._engine = engine
        self._running = running
        self._messages = messages
        self._on_chosen = on_chosen
        self._fill()
        self.offer_models()
        for box in (ui.generatorComboBox, ui.segmenterComboBox, ui.deviceComboBox):
            box.connect("currentTextChanged(QString)", self._chosen)
        # Not when editing is finished: a button that is pressed does not take the focus on macOS.
        ui.workerCommandLineEdit.connect("textChanged(QString)", self._chosen)
        ui.missingModelButton.connect("clicked(bool)", lambda _checked: on_get(self._lacking()[0]))
        ui.copyReportButton.connect("clicked(bool)", lambda _checked: self.copy_report())
        ui.stopWorkerButton.connect("clicked(bool)", lambda _checked: self.stop())
        ui.workerButton.connect("contentsCollapsed(bool)", self._opened)
        self.refresh()

    def refresh(self) -> None:
        """Show what computes, and the end of the log."""
        worker = self._engine.conversation.worker
        text = _("The worker is started at the first run.")
        if worker:
            models = worker["models"]
            text = _("Worker ready on {device}: {generator}, {segmenter}.").format(**models)
        self._ui.workerLabel.setText(text)
        # Also before the worker has answered: it may never do so.
        self._ui.stopWorkerButton.setEnabled(bool(worker) or self._running.under_way)
        if not self._ui.workerButton.collapsed:
            log = self._engine.conversation.log
            if log != self._ui.logTextEdit.plainText:
                self._ui.logTextEdit.setPlainText(log)
                self._ui.logTextEdit.moveCursor(qt.QTextCursor.End)

    def copy_report(self) -> None:
        """Put what a helper needs to know on the clipboard."""
        slicer.app.clipboard().setText(report(self._engine, self._messages.last_error))
        self._messages.note(_("The report is on the clipboard. Read it before you send it."))

    def offer_models(self) -> None:
        """Have the published folds that are here now among the choices, where segmenters are from
        the start; say which of what is chosen is not here."""
        box = self._ui.generatorComboBox
        for model in _catalogue():
            for name in folds(model):
                names = [box.itemText(n) for n in range(box.count)]
                if model.here and name not in names:
                    box.addItem(name)
                elif not model.here and name in names and name != box.currentText:
                    box.removeItem(names.index(name))
        self._show_lacking()

    def stop(self) -> None:
        """End the worker; what was found stays."""
        if self._running.under_way:
            self._running.cancel()
        self._engine.reset()
        self._running.stopped()
        self.refresh()

    def close(self) -> None:
        """End the worker: nobody asks it any more."""
        self._engine.reset()

    def _opened(self, _collapsed: bool) -> None:
        self.refresh()
        self._show_lacking()

    def _fill(self) -> None:
        chosen = settings.models()
        ui = self._ui
        boxes = (ui.generatorComboBox, ui.segmenterComboBox, ui.deviceComboBox)
        for box, known, name in zip(boxes, (GENERATORS, SEGMENTERS, DEVICES), chosen, strict=True):
            for one in (*known, *(() if name in known else (name,))):
                box.addItem(one)
            box.setCurrentIndex([box.itemText(n) for n in range(box.count)].index(name))
        ui.workerCommandLineEdit.setText(settings.worker_command_line())

    def _chosen(self, _text: str = "") -> None:
        ui = self._ui
        settings.set_models(
            ui.generatorComboBox.currentText,
            ui.segmenterComboBox.currentText,
            ui.deviceComboBox.currentText,
        )
        settings.set_worker_command_line(ui.workerCommandLineEdit.text)
        self._messages.hide()
        self._show_lacking()
        self._on_chosen()

    def _lacking(self) -> list[Model]:
        """What is chosen and not here; the weights of a worker elsewhere are its own affair."""
        ui = self._ui
        if ui.workerCommandLineEdit.text.strip():
            return []
        generator, segmenter = ui.generatorComboBox.currentText, ui.segmenterComboBox.currentText
        names = (published_model(generator), segmenter)
        return [one for one in _catalogue() if one.name in names and not one.here]

    def _show_lacking(self) -> None:
        ui, lacking = self._ui, self._lacking()
        ui.missingModelLabel.setVisible(bool(lacking))
        ui.missingModelButton.setVisible(bool(lacking))
        for model in lacking[:1]:
            ui.missingModelLabel.setText(
                _("{title} ({size}) is not on this computer yet.").format(
                    title=model.title, size=model.size_text
                )
            )


def _catalogue() -> list[Model]:
    """The models that can be had; none where it cannot be told which are here."""
    try:
        models = list(catalogue().values())
        any(model.here for model in models)
    except (FoBSAMError, ImportError):  # the section Models says what is wrong
        return []
    return models
