"""Points in the panel: dragged, added, deleted and reset, also while a run goes on."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()

import slicer  # noqa: E402
from gui_small import scripted  # noqa: E402
from slicer_module import chest, module, paint_lung, segmented, voxels  # noqa: E402, F401 (fixtures)

from FoBSAMLib.gui import settings  # noqa: E402


class Reviewed:
    """A short run of the chest CT, with the slice above the painted one in view."""

    def __init__(self, module, volume):  # noqa: F811
        self.module, self.ui, self.panel = module, module.widget.ui, module.widget.panel
        segmentation = paint_lung(volume)
        module.enter()
        (drawn,) = np.flatnonzero(voxels(segmentation, volume).any(axis=(1, 2)))
        self.index = int(drawn) + 1
        parameters = module.widget._parameterNode
        parameters.allSlices, parameters.firstSlice = False, int(drawn) - 1
        parameters.lastSlice = int(drawn) + 2
        standin.wait_until(lambda: self.ui.costLabel.text.startswith("3 slices"))
        segmented(module)
        (self.target,) = self.panel.running.run.targets
        self.panel.review.go_to(self.index)
        self.points = self.panel.review.points._points

    @property
    def result(self):
        return self.target.results("lung")[self.index]

    def middle(self) -> np.ndarray:
        rows, columns = np.nonzero(self.target.found["lung"][self.index].mask)
        return np.array([columns.mean(), rows.mean()])

    def world(self, x: float, y: float) -> np.ndarray:
        return (self.target.image.ijk_to_ras @ [x, y, self.index, 1])[:3]

    def settled(self) -> None:
        """All corrections asked for have come."""
        points = self.panel.review.points
        standin.wait_until(
            lambda: points._wanted is None and (points._job is None or points._job.ended)
        )


@pytest.fixture
def reviewed(module, chest) -> Reviewed:  # noqa: F811
    return Reviewed(module, chest)


@pytest.fixture
def copied(module, chest) -> Reviewed:  # noqa: F811
    """The same with a worker that finds in every slice what was painted: no mask is looked at."""
    settings.set_worker_command_line(scripted())
    return Reviewed(module, chest)


def test_the_mask_follows_a_dragged_point_and_the_last_place_counts(reviewed):
    node = reviewed.points.background
    place = reviewed.middle()
    before = reviewed.result.mask
    node.InvokeEvent(node.PointStartInteractionEvent)
    for step in np.linspace(0, 1, 40):
        away = np.array([20 * (1 - step), 0])
        node.SetNthControlPointPositionWorld(0, *reviewed.world(*(place + away)))
        standin.process_events()
    on_the_way = reviewed.target.corrected.get("lung")
    node.InvokeEvent(node.PointEndInteractionEvent)
    reviewed.settled()
    assert on_the_way, "it follows while the mouse is still down"
    assert np.allclose(reviewed.result.prompts.background[0], place, atol=0.01)
    assert reviewed.result.mask.sum() < before.sum()
    shown = reviewed.target.preview.mask_of("lung")[reviewed.index].astype(bool)
    assert np.array_equal(shown, reviewed.result.mask)
    assert not reviewed.result.mask[tuple(np.round(place[::-1]).astype(int))]


def test_points_are_added_deleted_and_reset(reviewed):
    ui, node = reviewed.ui, reviewed.points.background
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    selection = slicer.app.applicationLogic().GetSelectionNode()
    original = reviewed.result
    count = node.GetNumberOfControlPoints()

    standin.click(ui.addBackgroundButton)
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert selection.GetActivePlaceNodeID() == node.GetID()
    node.AddControlPointWorld(*reviewed.world(*reviewed.middle()))
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)  # as Slicer does by itself
    reviewed.settled()
    assert not ui.addBackgroundButton.checked
    assert reviewed.result.mask.sum() < original.mask.sum()
    assert len(reviewed.result.prompts.background) == count + 1

    node.RemoveNthControlPoint(count)
    reviewed.settled()
    assert len(reviewed.result.prompts.background) == count
    assert np.array_equal(reviewed.result.mask, original.mask)

    node.AddControlPointWorld(*reviewed.world(*reviewed.middle()))
    reviewed.settled()
    standin.click(ui.resetPointsButton)
    assert reviewed.result is original
    assert node.GetNumberOfControlPoints() == count
    shown = reviewed.target.preview.mask_of("lung")[reviewed.index].astype(bool)
    assert np.array_equal(shown, original.mask)


def test_placing_is_given_up_by_a_second_press_and_with_the_slice(copied):
    ui = copied.ui
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    standin.click(ui.addForegroundButton)
    standin.click(ui.addForegroundButton)
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    standin.click(ui.addForegroundButton)
    standin.click(ui.addBackgroundButton)
    assert not ui.addForegroundButton.checked
    assert ui.addBackgroundButton.checked
    copied.panel.review.go_to(0)  # no result there
    assert not ui.addBackgroundButton.enabled
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_points_are_hidden_and_shown_again(copied):
    ui, display = copied.ui, copied.points.foreground.GetDisplayNode()
    standin.click(ui.promptsCheckBox)
    assert not display.GetVisibility()
    assert not ui.addForegroundButton.enabled
    standin.click(ui.promptsCheckBox)
    assert display.GetVisibility()
    copied.module.exit()
    assert not display.GetVisibility()
    copied.module.enter()
    assert display.GetVisibility()


def test_a_slice_is_corrected_while_the_run_goes_on(reviewed):
    ui, panel = reviewed.ui, reviewed.panel
    standin.click(ui.discardButton)
    reviewed.module.widget._parameterNode.allSlices = True
    standin.wait_until(lambda: ui.costLabel.text.startswith("33 slices"))
    standin.click(ui.segmentButton)
    run = panel.running.run
    standin.wait_until(lambda: run.current and run.current.results("lung"), 60)
    standin.wait_until(lambda: panel.review.views.current is not None)
    (target,) = run.targets
    index = next(iter(target.results("lung")))
    panel.review.go_to(index)
    found = target.results("lung")[index]
    place = found.mask.nonzero()
    node = panel.review.points._points.background
    world = target.image.ijk_to_ras @ [place[1].mean(), place[0].mean(), index, 1]
    node.AddControlPointWorld(*world[:3])
    standin.wait_until(lambda: target.corrected.get("lung"), 60)
    assert panel.running.under_way, "the correction did not wait for the end of the run"
    standin.wait_until(lambda: not panel.running.under_way, 60)
    assert len(target.found["lung"]) == 33
    assert target.results("lung")[index].mask.sum() < found.mask.sum()
