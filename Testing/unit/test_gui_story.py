"""The whole story in the panel: paint, segment, look, correct, accept, undo."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import qt  # noqa: E402
import slicer  # noqa: E402
from gui_small import scripted  # noqa: E402
from slicer_module import (  # noqa: E402, F401 (the fixtures)
    chest,
    module,
    paint_lung,
    segment_editor,
    segmented,
    serve_sample,
    voxels,
)

from FoBSAMLib.gui import settings  # noqa: E402
from FoBSAMLib.mrml.choices import segmentations  # noqa: E402


@pytest.fixture
def painted(module, chest):  # noqa: F811
    """The module, entered with a painted slice; with it segmentation and volume."""
    segmentation = paint_lung(chest)
    module.enter()
    return module, segmentation, chest


@pytest.fixture
def copying(painted):
    """The same with a worker that takes a while for each slice, and finds there what was painted:
    for what becomes of a run, whatever it finds."""
    settings.set_worker_command_line(scripted(0.05))
    return painted


def drag_point(points, n, x, y):
    """Drag a background point to a place in the slice, as a view's widget does."""
    node = points.background
    node.InvokeEvent(node.PointStartInteractionEvent)
    (target,) = points._to_world(np.array([[x, y]]))
    node.SetNthControlPointPositionWorld(n, *target)
    node.InvokeEvent(node.PointEndInteractionEvent)


def test_from_paint_to_redo(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    before = voxels(segmentation, volume)
    (drawn,) = np.flatnonzero(before.any(axis=(1, 2)))

    # What was painted is chosen and named, and the cost is told.
    assert ui.volumeSelector.currentNode() is volume
    assert ui.segmentationSelector.currentNode() is segmentation
    assert ui.structuresList.item(0).text() == f"Lung: axial slice {drawn}"
    assert ui.costLabel.text.startswith(f"{volume.GetImageData().GetDimensions()[2] - 1} slices")

    segmented(module)
    run = panel.running.run
    (target,) = run.targets
    assert not panel.messages.text
    assert len(target.results("lung")) == before.shape[0] - 1
    assert target.preview.node.GetName() == "Segmentation (FoBSAM preview)"
    assert np.array_equal(voxels(segmentation, volume), before), "nothing is written unasked"
    assert segmentations(slicer.mrmlScene) == [segmentation]

    # A click into the plot goes to the slice; its points are shown.
    index = drawn + 3
    place = panel.review.plot.place_of(index)
    standin.click(panel.review.plot, (place.x(), place.y()))
    assert panel.review.views.current == index
    assert ui.sliceLabel.text.startswith(f"Slice {index}: ")
    points = panel.review.points._points
    found = target.found["lung"][index]
    assert points.foreground.GetNumberOfControlPoints() == len(found.prompts.foreground)
    assert points.background.GetDisplayNode().GetVisibility()

    # A background point dragged into the lung takes some of it away, in this slice alone.
    rows, columns = np.nonzero(found.mask)
    shown = target.preview.mask_of("lung").copy()
    drag_point(points, 0, columns.mean(), rows.mean())
    standin.wait_until(lambda: target.corrected.get("lung"))
    corrected = target.corrected["lung"][index]
    assert corrected.mask.sum() < found.mask.sum()
    now = target.preview.mask_of("lung")
    assert np.array_equal(now[index].astype(bool), corrected.mask)
    changed = (now != shown).any(axis=(1, 2))
    assert list(np.flatnonzero(changed)) == [index]

    # Accepted, it is in the segmentation as one step; what was painted is untouched.
    standin.click(ui.acceptButton)
    after = voxels(segmentation, volume)
    assert np.array_equal(after[drawn], before[drawn])
    assert np.array_equal(after[index], corrected.mask)
    assert np.array_equal(after, now.astype(bool) | before)
    # Many times what was painted was found; the drag took much of one slice away again.
    assert (shown.astype(bool) | before).sum() > 8 * before.sum()
    assert "Undo" in panel.messages.text
    assert panel.running.run is None
    assert not slicer.mrmlScene.GetFirstNodeByName("Segmentation (FoBSAM preview)")
    editor = segment_editor()
    editor.undo()
    assert np.array_equal(voxels(segmentation, volume), before)
    editor.redo()
    assert np.array_equal(voxels(segmentation, volume), after)

    # The next run starts from what was painted, not from what was accepted.
    accepted = int(after.any(axis=(1, 2)).sum()) - 1
    text = f"Lung: axial slice {drawn} ({accepted} accepted slices not used)"
    standin.wait_until(lambda: ui.structuresList.item(0).text() == text)


def test_discard_leaves_the_segmentation_alone(copying):
    module, segmentation, volume = copying  # noqa: F811
    before = voxels(segmentation, volume)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    ui = segmented(module)
    standin.click(ui.discardButton)
    assert np.array_equal(voxels(segmentation, volume), before)
    left = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLNode")} - names
    assert not any("preview" in name for name in left), left


def test_cancel_keeps_what_was_found(copying):
    module, _segmentation, _volume = copying  # noqa: F811
    ui, running = module.widget.ui, module.widget.panel.running
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: running.run.found >= 4, 120)
    standin.click(ui.cancelButton)
    standin.wait_until(lambda: not running.under_way, 60)
    (target,) = running.run.targets
    assert 4 <= len(target.results("lung")) < 33
    assert ui.acceptButton.enabled
    standin.click(ui.acceptButton)
    # The worker is still warm: another run needs no start.
    pid = module.widget.logic.engine.conversation.worker
    segmented(module)
    assert module.widget.logic.engine.conversation.worker["versions"] == pid["versions"]


def test_a_worker_that_is_killed_is_replaced(copying):
    module, _segmentation, _volume = copying  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.running.run.found >= 4, 120)
    module.widget.logic.engine._transport._process.kill()
    standin.wait_until(lambda: not panel.running.under_way, 120)
    (target,) = panel.running.run.targets
    assert len(target.results("lung")) == 33
    assert "another one went on" in panel.messages.text


def test_a_scene_closed_in_the_middle_ends_the_run(copying):
    module, _segmentation, _volume = copying  # noqa: F811
    ui, running = module.widget.ui, module.widget.panel.running
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: running.run.found >= 2, 120)
    process = module.widget.logic.engine._transport._process
    standin.close_scene()
    standin.wait_until(lambda: process.state() == qt.QProcess.NotRunning, 30)
    assert running.run is None
    assert not running.under_way
    standin.wait(0.5)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert not ui.segmentButton.enabled


def test_a_volume_deleted_in_the_middle_drops_the_results(copying):
    module, segmentation, volume = copying  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    before = segmentation.GetSegmentation().GetNumberOfSegments()
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.running.run.found >= 2, 120)
    slicer.mrmlScene.RemoveNode(volume)
    assert panel.running.run is None
    assert "was deleted" in panel.messages.text
    standin.wait(0.5)
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [segmentation]
    assert segmentation.GetSegmentation().GetNumberOfSegments() == before


def test_a_slice_as_support_and_another_without_the_structure(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    (drawn,) = np.flatnonzero(voxels(segmentation, volume).any(axis=(1, 2)))
    segmented(module)
    (target,) = panel.running.run.targets
    held = max(n for n, r in target.results("lung").items() if r.mask.any())
    panel.review.go_to(held)
    mask = target.results("lung")[held].mask
    standin.click(ui.suggestButton)
    standin.wait_until(lambda: panel.messages.text)
    suggested = panel.review.views.current
    assert suggested != held
    assert panel.messages.text.startswith(f"Slice {suggested} of Lung would help most")
    standin.click(ui.messageCloseButton)
    panel.review.go_to(held)
    standin.click(ui.supportButton)
    assert "answer counts" in ui.sliceLabel.text
    segment_editor().undo()
    assert ui.sliceLabel.text.startswith(f"Slice {held}: "), "an answer that is undone is none"
    assert "answer" not in ui.sliceLabel.text
    assert np.array_equal(target.results("lung")[held].mask, mask)
    assert np.array_equal(target.preview.mask_of("lung")[held].astype(bool), mask)
    assert not panel.messages.text
    standin.click(ui.supportButton)
    now = voxels(segmentation, volume)
    assert sorted(np.flatnonzero(now.any(axis=(1, 2)))) == sorted([drawn, held])
    assert np.array_equal(now[held], mask)
    panel.review.go_to(0)
    standin.click(ui.absentButton)
    assert "answer" in ui.sliceLabel.text
    assert not panel.messages.text, "one's own changes are no reason to warn"
    standin.wait_until(lambda: "slices" in ui.structuresList.item(0).text())
    assert ui.structuresList.item(0).text() == f"Lung: axial slices {drawn}, {held}"
    segmented(module)
    (target,) = panel.running.run.targets
    assert len(target.results("lung")) == 31
    assert 0 not in target.results("lung")


def test_try_it(module):  # noqa: F811
    serve_sample()
    module.enter()
    ui = module.widget.ui
    standin.click(ui.tryButton)
    standin.wait_until(lambda: module.widget.panel.inputs.drawn is not None)
    assert ui.structuresList.item(0).text() == "right lung: axial slice 20"
    assert ui.segmentButton.enabled
    assert not ui.tryButton.visible
