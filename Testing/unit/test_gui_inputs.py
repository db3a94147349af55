"""What to segment: what the panel reads from the scene, what it says, and what a run then does."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import qt  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from gui_small import scripted  # noqa: E402
from slicer_module import (  # noqa: E402, F401 (the fixtures)
    chest,
    module,
    paint_lung,
    sample,
    segment_editor,
    segmented,
    voxels,
)
from standin.brush import paint  # noqa: E402

from FoBSAMLib.gui import settings  # noqa: E402

#: In the body of the chest CT, on no border: world (RAS, mm).
HEART = (20.0, 20.0, -170.0)


def rows(listing) -> list[str]:
    return [listing.item(n).text() for n in range(listing.count)]


def tick(listing, n: int, on: bool) -> None:
    """Tick a row, as a click into its box does."""
    listing.item(n).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)
    standin.process_events()


def only(module, first: int, last: int) -> None:  # noqa: F811
    """Look in these slices alone, chosen in the panel."""
    ui = module.widget.ui
    ui.optionsBox.collapsed = False
    standin.click(ui.allSlicesCheckBox)
    standin.type_text(ui.firstSliceSpinBox, str(first))
    standin.type_text(ui.lastSliceSpinBox, str(last))
    standin.wait(0.4)


@pytest.fixture
def painted(module, chest):  # noqa: F811
    """The module, entered with a lung painted on slice 20; the segmentation and the volume.

    Its worker finds in every slice what was painted, and needs no time to start.
    """
    settings.set_worker_command_line(scripted())
    segmentation = paint_lung(chest)
    module.enter()
    return module, segmentation, chest


def test_an_empty_scene_says_what_to_do(module):  # noqa: F811
    module.enter()
    ui = module.widget.ui
    assert ui.costLabel.text == "Choose the volume that you painted on."
    assert not ui.segmentButton.enabled
    assert ui.tryButton.visible


def test_strokes_are_noticed_as_they_are_painted(module, chest):  # noqa: F811
    module.enter()
    ui = module.widget.ui
    assert "Paint a structure" in ui.costLabel.text
    segmentation = paint_lung(chest)
    module.exit()
    module.enter()
    assert rows(ui.structuresList) == ["Lung: axial slice 20"]
    paint(segment_editor(), "lung", "axial", (-75.0, -25.0, -110.0), 20.0)
    standin.wait_until(lambda: rows(ui.structuresList) == ["Lung: axial slices 20, 23"])
    segmentation.GetSegmentation().GetSegment("lung").SetName("Left lung")
    standin.wait_until(lambda: rows(ui.structuresList)[0].startswith("Left lung: "))
    segmentation.GetSegmentation().AddEmptySegment("empty", "Empty")
    standin.wait_until(lambda: rows(ui.structuresList)[-1] == "Empty: nothing painted")


def test_structures_are_ticked_and_only_these_are_found(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    segmentation.GetSegmentation().AddEmptySegment("heart", "Heart", (0.8, 0.2, 0.2))
    paint(segment_editor(), "heart", "axial", HEART, 25.0)
    module.exit()
    module.enter()
    assert rows(ui.structuresList) == ["Lung: axial slice 20", "Heart: axial slice 17"]
    assert ui.costLabel.text.startswith("66 slices")
    tick(ui.structuresList, 0, False)
    standin.wait_until(lambda: ui.costLabel.text.startswith("33 slices"))
    tick(ui.structuresList, 0, True)
    standin.wait_until(lambda: ui.costLabel.text.startswith("66 slices"))
    only(module, 16, 21)
    assert ui.costLabel.text.startswith("10 slices")
    segmented(module)
    (target,) = panel.running.run.targets
    assert sorted(target.found["lung"]) == [16, 17, 18, 19, 21]
    assert sorted(target.found["heart"]) == [16, 18, 19, 20, 21]
    standin.choose(ui.structureComboBox, "Heart")
    assert panel.review.segment_id == "heart"
    before = voxels(segmentation, volume, "lung")
    standin.click(ui.acceptButton)
    both = voxels(segmentation, volume, "lung") & voxels(segmentation, volume, "heart")
    assert not both.any()
    assert np.array_equal(voxels(segmentation, volume, "lung")[20], before[20])


def test_another_volume_gets_a_segmentation_of_its_own(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    settings.set_worker_command_line(scripted(0.1))  # time to see which volume it has come to
    other = slicer.util.loadVolume(str(sample("CTChest4.nrrd")), {"name": "Follow-up"})
    module.exit()
    module.enter()
    assert rows(ui.queriesList) == ["Follow-up"]
    before = voxels(segmentation, volume)
    only(module, 19, 21)
    tick(ui.queriesList, 0, True)
    standin.wait_until(lambda: ui.costLabel.text.startswith("36 slices"))
    segmented(module)
    own, elsewhere = panel.running.run.targets
    assert (own.label, elsewhere.label) == ("CTChest4", "Follow-up")
    assert ui.targetComboBox.visible
    assert ui.targetComboBox.currentText == "Follow-up", "it follows the run"
    shown = [t.preview.node.GetDisplayNode().GetVisibility() for t in (own, elsewhere)]
    assert shown == [0, 1]
    assert not ui.supportButton.enabled, "only the painted volume takes supports"
    standin.click(ui.acceptButton)
    (made,) = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if node is not segmentation and not node.GetHideFromEditors()
    ]
    segment = made.GetSegmentation().GetSegment("lung")
    assert (segment.GetName(), segment.GetColor()) == ("Lung", (0.2, 0.6, 0.9))
    assert voxels(made, other).sum() > before.sum()
    assert np.array_equal(voxels(segmentation, volume), before)
    assert ui.targetComboBox.currentText == "CTChest4"
    standin.click(ui.discardButton)
    assert panel.running.run is None


@pytest.mark.parametrize("change", ["voxels", "drawing", "moved"])
def test_results_that_may_not_fit_are_written_only_when_the_user_says_so(painted, change):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    only(module, 19, 21)
    segmented(module)
    if change == "voxels":
        slicer.util.arrayFromVolume(volume)[:] += 1
        slicer.util.arrayFromVolumeModified(volume)
    elif change == "drawing":
        paint(segment_editor(), "lung", "axial", (-75.0, -25.0, -50.0), 20.0)
    else:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        volume.SetAndObserveTransformNodeID(transform.GetID())
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([2, 1, 1, 1])))
    standin.process_events()
    assert "may not fit any more" in panel.messages.text
    before = voxels(segmentation, volume) if change != "moved" else None
    standin.answer("Accept the results all the same?", qt.QMessageBox.No)
    standin.click(ui.acceptButton)
    assert panel.running.run is not None
    if before is not None:
        assert np.array_equal(voxels(segmentation, volume), before)
    standin.click(ui.discardButton)


def test_a_deleted_segment_is_told_and_nothing_is_written(painted):
    module, segmentation, _volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    only(module, 19, 21)
    segmented(module)
    segmentation.GetSegmentation().RemoveSegment("lung")
    standin.wait(0.4)
    assert "Lung was deleted" in panel.messages.text
    standin.click(ui.acceptButton)  # no question: there is nowhere to write
    assert panel.messages.text.startswith("The segment Lung was deleted.")
    assert not segmentation.GetSegmentation().GetNumberOfSegments()
    standin.click(ui.discardButton)


def test_corrected_slices_are_not_lost_without_a_question(painted):
    module, _segmentation, _volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    only(module, 19, 21)
    segmented(module)
    (target,) = panel.running.run.targets
    panel.review.go_to(19)
    rows_, columns = target.results("lung")[19].mask.nonzero()
    world = target.image.ijk_to_ras @ [columns.mean(), rows_.mean(), 19, 1]
    panel.review.points._points.background.AddControlPointWorld(*world[:3])
    standin.wait_until(lambda: target.corrected.get("lung"))
    standin.answer("you corrected", qt.QMessageBox.No)
    standin.click(ui.segmentButton)
    assert panel.running.run.targets == [target]
    assert target.corrected["lung"]


def test_a_warped_volume_is_refused_with_advice(painted):
    module, _segmentation, volume = painted  # noqa: F811
    ui = module.widget.ui
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in np.ndindex(2, 2, 2):
        source.InsertNextPoint(*(100.0 * np.array(corner)))
        target.InsertNextPoint(*(100.0 * np.array(corner) + [0, 0, 9.0 * corner[0] * corner[1]]))
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    transform.SetAndObserveTransformToParent(warp)
    volume.SetAndObserveTransformNodeID(transform.GetID())
    standin.wait_until(lambda: "Harden" in ui.costLabel.text)
    assert not ui.segmentButton.enabled


def test_a_click_on_a_structure_shows_its_slice(painted):
    module, _segmentation, _volume = painted  # noqa: F811
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    before = red.GetSliceOffset()
    ui = module.widget.ui
    listing = ui.structuresList
    place = listing.visualItemRect(listing.item(0)).center()
    standin.click(listing.viewport(), (place.x(), place.y()))
    assert red.GetSliceOffset() != before
    assert abs(red.GetSliceOffset() - -140.25) < 0.01


def test_what_cannot_be_ticked_yet_is_not_left_out_later(painted):
    module, segmentation, _volume = painted  # noqa: F811
    ui = module.widget.ui
    segmentation.GetSegmentation().AddEmptySegment("heart", "Heart")
    standin.wait_until(lambda: ui.structuresList.count == 2)
    tick(ui.structuresList, 0, False)
    standin.wait_until(lambda: "Tick a structure" in ui.costLabel.text)
    tick(ui.structuresList, 0, True)
    paint(segment_editor(), "heart", "axial", HEART, 25.0)
    standin.wait_until(lambda: ui.costLabel.text.startswith("66 slices"))
    assert module.widget._parameterNode.leftOut == []
    # Another segmentation's segments have the same IDs.
    tick(ui.structuresList, 0, False)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Other")
    other.DeepCopy(segmentation) if hasattr(other, "DeepCopy") else other.Copy(segmentation)
    standin.choose(ui.segmentationSelector, other)
    standin.wait_until(lambda: ui.costLabel.text.startswith("66 slices"))


def test_the_painted_volume_is_no_query_of_its_own(painted):
    module, _segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    other = slicer.util.loadVolume(str(sample("CTChest4.nrrd")), {"name": "Follow-up"})
    standin.choose(ui.volumeSelector, other)
    standin.wait_until(lambda: rows(ui.queriesList) == ["CTChest4"])
    ui.optionsBox.collapsed = False
    tick(ui.queriesList, 0, True)
    standin.wait_until(lambda: ui.costLabel.text.startswith("67 slices"))
    standin.choose(ui.volumeSelector, volume)
    standin.wait_until(lambda: ui.costLabel.text.startswith("33 slices"))
    assert [target.own for target in panel.inputs.make_run().targets] == [True]


def test_many_structures_are_read_little_by_little(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, inputs = module.widget.ui, module.widget.panel.inputs
    solid = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    for n in range(12):
        solid[:] = 0
        solid[5:17, 10 * n : 10 * n + 10, 20:34] = 1
        segment_id = segmentation.GetSegmentation().AddEmptySegment(f"s{n}", f"Solid {n}")
        slicer.util.updateSegmentBinaryLabelmapFromArray(solid, segmentation, segment_id, volume)
    standin.wait_until(lambda: rows(ui.structuresList)[-1] == "Solid 11: not on single slices")
    assert ui.costLabel.text.startswith("33 slices")
    turns = []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: turns.append(rows(ui.structuresList)))
    for n in range(12):
        segmentation.GetSegmentation().GetSegment(f"s{n}").SetName(f"Organ {n}")
    timer.start(0)
    inputs.refresh()
    standin.wait_until(lambda: rows(ui.structuresList)[-1] == "Organ 11: not on single slices")
    timer.stop()
    half_way = [turn for turn in turns if "Organ" in turn[1] and "Organ" not in turn[-1]]
    assert half_way, "the window had its turn before all of them were read"


def test_a_run_that_goes_on_leaves_the_views_to_another_module(painted):
    module, _segmentation, _volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    settings.set_worker_command_line(scripted(0.1))
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.review.views.current is not None, 60)
    panel.review.go_to(min(panel.running.run.current.results("lung")))
    module.exit()
    standin.wait(0.6)
    assert panel.running.under_way
    assert panel.review.views.current is None
    lists = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    assert not any(node.GetDisplayNode().GetVisibility() for node in lists)
    standin.wait_until(lambda: not panel.running.under_way, 60)
    module.enter()
    assert ui.acceptButton.enabled
    assert len(panel.running.run.targets[0].results("lung")) == 33


def test_results_stay_where_masking_leaves_nothing_to_write(painted):
    module, segmentation, volume = painted  # noqa: F811
    ui, panel = module.widget.ui, module.widget.panel
    only(module, 19, 21)
    segmented(module)
    before = voxels(segmentation, volume)
    node = segment_editor().mrmlSegmentEditorNode()
    node.SetSourceVolumeIntensityMask(True)
    node.SetSourceVolumeIntensityMaskRange(5000.0, 6000.0)
    standin.click(ui.acceptButton)
    assert panel.messages.text.startswith("Nothing was written: ")
    assert np.array_equal(voxels(segmentation, volume), before)
    node.SetSourceVolumeIntensityMask(False)
    standin.click(ui.acceptButton)
    assert panel.messages.text.startswith("Accepted: ")
    assert voxels(segmentation, volume).sum() > before.sum()


def test_a_drawing_is_paired_with_its_own_image(module, chest):  # noqa: F811
    segmentation = paint_lung(chest)
    other = slicer.util.loadVolume(str(sample("CTChest4.nrrd")), {"name": "Follow-up"})
    slicer.util.setSliceViewerLayers(background=other)
    segment_editor().mrmlSegmentEditorNode().SetAndObserveSourceVolumeNode(None)
    module.enter()
    ui = module.widget.ui
    assert ui.segmentationSelector.currentNode() is segmentation
    assert ui.volumeSelector.currentNode() is chest
    ui.optionsBox.collapsed = False
    standin.click(ui.ownVolumeCheckBox)
    standin.wait_until(lambda: ui.costLabel.text.startswith("Nothing is chosen to look in."))
