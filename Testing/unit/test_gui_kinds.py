"""Kinds of images in the panel: turned views, sequences, photographs; a worker that copies."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import slicer  # noqa: E402
import vtk  # noqa: E402
from gui_small import scripted  # noqa: E402
from slicer_module import (  # noqa: E402, F401 (the fixtures)
    LUNG,
    chest,
    module,
    paint_lung,
    segmented,
    voxels,
)

from FoBSAMLib.gui import settings  # noqa: E402


@pytest.fixture
def copying(module):  # noqa: F811
    """The module with a worker that finds in every slice what was painted."""
    settings.set_worker_command_line(scripted())
    return module


def test_a_lung_painted_in_a_turned_view(copying, chest):  # noqa: F811
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    turn = np.deg2rad(25)
    red.SetSliceToRASByNTP(0, np.sin(turn), np.cos(turn), 1, 0, 0, *LUNG, 0)
    segmentation = paint_lung(chest, red)
    before = voxels(segmentation, chest)
    copying.enter()
    ui, panel = copying.widget.ui, copying.widget.panel
    assert ui.structuresList.item(0).text().startswith("Lung: oblique slice ")
    segmented(copying)
    (drawn,) = panel.inputs.drawn.structures[0].masks
    panel.review.go_to(drawn + 4)
    assert panel.review.views.current == drawn + 4
    normal = slicer.util.arrayFromVTKMatrix(red.GetSliceToRAS())[:3, 2]
    assert np.allclose(np.abs(normal), [0, np.sin(turn), np.cos(turn)], atol=1e-3)
    standin.click(ui.acceptButton)
    after = voxels(segmentation, chest)
    assert (after & before).sum() == before.sum()
    assert after.sum() > 10 * before.sum()
    standin.wait_until(lambda: "accepted" in ui.structuresList.item(0).text())
    assert ui.structuresList.item(0).text().startswith("Lung: oblique slice ")


def test_time_points_of_a_sequence(copying, chest):  # noqa: F811
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Breath")
    sequence.SetIndexName("time")
    for n in range(3):
        sequence.SetDataNodeAtValue(chest, str(n))
    scene.RemoveNode(chest)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    volume = browser.GetProxyNode(sequence)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    browser.SetSelectedItemNumber(1)
    segmentation = paint_lung(volume)
    before = voxels(segmentation, volume)
    copying.enter()
    ui, panel = copying.widget.ui, copying.widget.panel
    ui.optionsBox.collapsed = False
    assert ui.timePointsCheckBox.enabled
    standin.click(ui.timePointsCheckBox)
    standin.wait_until(lambda: ui.costLabel.text.startswith("101 slices"))
    segmented(copying)
    run = panel.running.run
    assert [target.label for target in run.targets][1:] == ["time 0 s", "time 2 s"]
    standin.choose(ui.targetComboBox, "time 2 s")
    assert browser.GetSelectedItemNumber() == 2, "what is reviewed is shown"
    assert not panel.messages.text, "browsing is no change of the volume"
    standin.click(ui.acceptButton)
    (found,) = slicer.util.getNodesByClass("vtkMRMLSequenceNode")[1:]
    segment = found.GetDataNodeAtValue("2").GetSegmentation().GetSegment("lung")
    assert segment.GetName() == "Lung"
    assert not segment.GetRepresentation("Binary labelmap").IsEmpty()
    assert np.array_equal(voxels(segmentation, volume), before)
    standin.choose(ui.targetComboBox, volume.GetName())
    standin.click(ui.acceptButton)
    assert voxels(segmentation, volume).sum() > 10 * before.sum()
    standin.click(ui.discardButton)


def photograph(name: str, seed: int):
    """A colour picture of one slice with a dark spot."""
    row, column = np.mgrid[:60, :80]
    spot = (row - 30) ** 2 + (column - 40) ** 2 < 15**2
    picture = np.where(spot[..., None], [120, 70, 60], [220, 180, 160])
    picture = picture + np.random.default_rng(seed).normal(0, 6, picture.shape)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", name)
    image = vtk.vtkImageData()
    image.SetDimensions(80, 60, 1)
    pixels = picture.clip(0, 255).astype(np.uint8).reshape(-1, 3)
    image.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(pixels, deep=True))
    node.SetAndObserveImageData(image)
    return node, spot


def test_photographs(module):  # noqa: F811
    first, spot = photograph("First", 0)
    second, _ = photograph("Second", 1)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Spots")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(first)
    segmentation.GetSegmentation().AddEmptySegment("spot", "Spot")
    mask = spot[None].astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "spot", first)
    slicer.util.setSliceViewerLayers(background=first, fit=True)
    module.enter()
    ui = module.widget.ui
    assert ui.volumeSelector.currentNode() is first
    assert ui.structuresList.item(0).text() == "Spot: axial slice 0"
    assert "nothing is left to find" in ui.costLabel.text
    assert [ui.queriesList.item(n).text() for n in range(ui.queriesList.count)] == ["Second"]
    ui.queriesList.item(0).setCheckState(2)
    standin.wait_until(lambda: ui.costLabel.text.startswith("1 slice"))
    segmented(module)
    standin.choose(ui.targetComboBox, "Second") if ui.targetComboBox.visible else None
    standin.click(ui.acceptButton)
    (made,) = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node is not segmentation and not node.GetHideFromEditors()
    ]
    found = voxels(made, second, "spot")[0]
    assert 2 * (found & spot).sum() / (found.sum() + spot.sum()) > 0.8


def test_cancel_before_the_worker_has_answered(module, chest):  # noqa: F811
    settings.set_worker_command_line("sleep 60")
    paint_lung(chest)
    module.enter()
    ui, running = module.widget.ui, module.widget.panel.running
    standin.click(ui.segmentButton)
    standin.wait(0.3)
    standin.click(ui.cancelButton)
    standin.wait_until(lambda: not running.under_way, 30)
    assert running.run is None
    assert ui.segmentButton.enabled


def test_keys_do_what_their_buttons_may_do(module, chest):  # noqa: F811
    settings.set_worker_command_line(scripted(0.2))
    segmentation = paint_lung(chest)
    before = voxels(segmentation, chest)
    module.enter()
    ui, panel = module.widget.ui, module.widget.panel
    window = slicer.util.mainWindow()
    for key in "NUXW":
        standin.press_key(window, key)
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.review.views.current is not None, 30)
    panel.review.go_to(min(panel.running.run.current.results("lung")))
    for key in "UX":
        standin.press_key(window, key)
    assert np.array_equal(voxels(segmentation, chest), before)
    assert not panel.running.run.current.answered
    standin.click(ui.cancelButton)
    standin.wait_until(lambda: not panel.running.under_way, 30)
    standin.press_key(window, "U")
    assert voxels(segmentation, chest).sum() > before.sum()
    place = slicer.app.applicationLogic().GetSelectionNode().GetActivePlaceNodeID()
    assert not place, "the lists of points are not for the user to place points in"


def test_a_script_at_work_is_not_disturbed(copying, chest):  # noqa: F811
    from FoBSAMLib import mrml

    segmentation = paint_lung(chest)
    copying.enter()
    ui, panel = copying.widget.ui, copying.widget.panel
    segmented(copying)
    panel.review.go_to(21)
    command = settings.worker_command()
    done: list = []
    found = mrml.segment(
        chest,
        segmentation,
        accept=False,
        workerCommand=[*command[:-1], "0.1"],
        onDone=done.append,
        onError=done.append,
    )
    standin.wait_until(lambda: len(found.slices("lung")) > 2, 30)
    standin.click(ui.segmentButton)
    assert "A script has FoBSAM at work" in panel.messages.text
    panel.review.points._points.background.RemoveNthControlPoint(0)
    panel.review.points._points.foreground.AddControlPointWorld(*LUNG)
    standin.wait_until(lambda: done, 30)
    assert done == [found]
    assert len(found.slices("lung")) == 33
    found.discard()
    standin.click(ui.discardButton)
