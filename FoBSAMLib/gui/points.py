"""The points of the slice that is shown: drag, add or delete one, and the mask follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from FoBSAMLib.background.engine import Engine
from FoBSAMLib.background.jobs import Job
from FoBSAMLib.gui.messages import Messages
from FoBSAMLib.mrml.prompt_points import PromptPoints
from FoBSAMLib.mrml.run import Run, Target
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult

#: The slice whose points are shown: run, target, segment ID and index.
Place = tuple[Run, Target, str, int]


class Points:
    """Shows a slice's points and has its mask made again when they are edited.

    While a point is dragged its places come faster than masks: the newest one counts.
    """

    def __init__(
        self, ui: Any, engine: Engine, messages: Messages, on_corrected: Callable[[], None]
    ) -> None:
        """``on_corrected`` is called when a slice has another mask."""
        self._ui = ui
        self._engine = engine
        self._messages = messages
        self._on_corrected = on_corrected
        self._points: PromptPoints | None = None
        self._grid: Any = None
        self._place: Place | None = None
        self._wanted: tuple[Place, Prompts] | None = None
        self._job: Job | None = None
        self._placing: tuple[Any, int, str | None] | None = None
        ui.promptsCheckBox.connect("toggled(bool)", lambda _checked: self._show_again())
        ui.addForegroundButton.connect("clicked(bool)", lambda _checked: self._add("foreground"))
        ui.addBackgroundButton.connect("clicked(bool)", lambda _checked: self._add("background"))
        ui.resetPointsButton.connect("clicked(bool)", lambda _checked: self._reset())
        self._enable()

    def show(
        self, run: Run | None, target: Target | None, segment_id: str, result: SliceResult | None
    ) -> None:
        """Show the points of a result; none where there is none."""
        if run is None or target is None or target.image is None or result is None:
            self.hide()
            return
        place = (run, target, segment_id, result.index)
        if place == self._place:
            return  # what came back are the points that are shown, or older ones
        self._place = place
        if not self._ui.promptsCheckBox.checked:
            self._hide_points()
        else:
            self._points_on(target).show(result.prompts, result.axis, result.index)
        self._enable()

    def hide(self) -> None:
        """Show none."""
        self._place = None
        self._hide_points()
        self._enable()

    def drop(self) -> None:
        """Give up corrections under way: something else was asked for since."""
        self._wanted = None
        if self._job is not None:
            self._job.drop()
            self._job = None

    def remove(self) -> None:
        """Take the points out of the scene."""
        self._place = None
        self._remove_lists()

    def _points_on(self, target: Target) -> PromptPoints:
        """The lists of points for a target's grid, made when they are needed."""
        assert target.image is not None
        there = self._points is not None and self._points.foreground.GetScene() is not None
        if not there or self._grid is not target.image:
            self._remove_lists()
            image = target.image
            self._points = PromptPoints(slicer.mrmlScene, image.ijk_to_ras, image.shape)
            self._points.on_edited(self._edited)
            self._grid = image
        assert self._points is not None
        return self._points

    def _remove_lists(self) -> None:
        if self._points is not None:
            self._points.remove()
            self._points = None

    def _hide_points(self) -> None:
        self._stop_placing()
        if self._points is not None:
            self._points.hide()

    def _show_again(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            run, target, segment_id, index = place
            self.show(run, target, segment_id, target.results(segment_id).get(index))

    def _enable(self) -> None:
        shown = self._place is not None and self._ui.promptsCheckBox.checked
        for name in ("addForegroundButton", "addBackgroundButton", "resetPointsButton"):
            getattr(self._ui, name).setEnabled(shown)

    def _edited(self, prompts: Prompts) -> None:
        """Have the mask made again, unless the last one is still being made: then after it."""
        if self._place is not None:
            self._wanted = (self._place, prompts)
            self._correct()

    def _correct(self) -> None:
        if self._wanted is None or (self._job is not None and not self._job.ended):
            return
        (run, target, segment_id, index), prompts = self._wanted
        self._wanted = None
        steps = run.correct(self._engine.conversation, target, segment_id, index, prompts)
        self._job = self._engine.start(
            steps,
            on_done=lambda _result: self._corrected(target),
            on_failed=self._failed,
        )

    def _corrected(self, target: Target) -> None:
        if target.preview is not None:
            target.preview.flush()
        self._on_corrected()
        self._correct()

    def _failed(self, error: Any) -> None:
        self._messages.error(error)
        self._correct()

    def _reset(self) -> None:
        """The points as they were found, and the mask with them."""
        if self._place is None:
            return
        self.drop()
        run, target, segment_id, index = self._place
        original = run.reset(self._engine.conversation, target, segment_id, index)
        if original is not None:
            self._place = None
            self.show(run, target, segment_id, original)
            self._corrected(target)

    def _add(self, kind: str) -> None:
        """Let the user place one point in a view by a click; pressed again, no more."""
        logic = slicer.app.applicationLogic()
        selection, interaction = logic.GetSelectionNode(), logic.GetInteractionNode()
        wanted = getattr(self._ui, f"add{kind.capitalize()}Button").checked
        self._stop_placing()
        if not wanted or self._points is None:
            return
        chosen = selection.GetActivePlaceNodeID()
        selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
        selection.SetActivePlaceNodeID(getattr(self._points, kind).GetID())
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(interaction.Place)
        getattr(self._ui, f"add{kind.capitalize()}Button").setChecked(True)
        changed = interaction.InteractionModeChangedEvent
        tag = interaction.AddObserver(changed, self._mode_changed)
        self._placing = (interaction, tag, chosen)

    def _mode_changed(self, interaction: Any, _event: str) -> None:
        """A point was placed, or the user does something else."""
        if interaction.GetCurrentInteractionMode() != interaction.Place:
            self._stop_placing()

    def _stop_placing(self) -> None:
        if self._placing is not None:
            interaction, tag, chosen = self._placing
            interaction.RemoveObserver(tag)
            self._placing = None
            slicer.app.applicationLogic().GetSelectionNode().SetActivePlaceNodeID(chosen)
            if interaction.GetCurrentInteractionMode() == interaction.Place:
                interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        for button in (self._ui.addForegroundButton, self._ui.addBackgroundButton):
            button.setChecked(False)
