"""The module's panel: its parts, and what happens between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui import samples
from FoBSAMLib.gui.computing import Computing
from FoBSAMLib.gui.inputs import Inputs
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.gui.models import Models
from FoBSAMLib.gui.review import Review
from FoBSAMLib.gui.running import Running
from FoBSAMLib.gui.shortcuts import Shortcuts


class Panel:
    """Holds what the user sees together; the widgets are those of FoBSAM.ui."""

    def __init__(self, ui: Any, engine: Engine, requirements: Path) -> None:
        """``requirements`` is the file with the packages that the worker needs."""
        self._ui = ui
        self.messages = Messages(ui)
        self.inputs = Inputs(ui, self._inputs_changed)
        self._open = False
        self.running = Running(
            ui,
            engine,
            self.inputs,
            self.messages,
            requirements,
            self._run_changed,
            lambda: self.review.drop_edits(),
        )
        self.review = Review(ui, engine, self.running, self.messages, self.inputs.refresh_soon)
        self.computing = Computing(
            ui,
            engine,
            self.running,
            self.messages,
            self._inputs_changed,
            lambda model: self.models.show(model.name),
        )
        self.models = Models(ui, self.messages, requirements, self.computing.offer_models)
        self.messages.on_error = self.models.point_at
        self._shortcuts = Shortcuts(
            {
                # Buttons, which may be disabled.
                "N": ui.uncertainButton.click,
                "U": ui.supportButton.click,
                "X": ui.absentButton.click,
                "W": ui.suggestButton.click,
            }
        )
        ui.tryButton.connect("clicked(bool)", lambda _checked: self.try_it())

    def set_parameters(self, parameters: Any) -> None:
        """Show a scene's choices (a parameter node), None for none."""
        self._parameters = parameters
        self.inputs.set_parameters(parameters)

    def enter(self) -> None:
        """The module is opened."""
        self._open = True
        self._shortcuts.add()
        self.models.refresh()
        self.computing.offer_models()
        self.inputs.refresh()
        self._run_changed()

    def exit(self) -> None:
        """Another module is opened: a run goes on, and its preview stays."""
        self._open = False
        self._shortcuts.remove()
        self.review.close()
        self.inputs.close()

    def drop(self) -> None:
        """The scene goes: nothing of it is waited for, and no process keeps its images."""
        self.review.close()
        self.running.drop()
        self.inputs.close()
        self.computing.close()
        self.messages.hide()
        self.review.refresh()

    def close(self) -> None:
        """The panel goes, and the worker with it."""
        self.exit()
        self.running.drop()
        self.review.points.remove()
        self.computing.close()
        self.models.close()

    def try_it(self) -> None:
        """Load the sample and choose it."""
        try:
            volume, segmentation = samples.load()
        except FoBSAMError as error:
            self.messages.error(error)
            return
        self._parameters.volume = volume
        self._parameters.segmentation = segmentation
        self.messages.note(
            _("A lung is drawn on one slice of this chest CT. Press Segment to find the rest.")
        )

    def _inputs_changed(self) -> None:
        self._ui.costLabel.setText(self.inputs.cost())
        empty = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
        self._ui.tryButton.setVisible(empty)
        self.running.update()

    def _run_changed(self) -> None:
        if not self._open:  # the views belong to another module
            return
        self.review.refresh()
        self.computing.refresh()
        if not self.running.under_way:
            self.inputs.refresh_soon()
