"""What was found, written into a segmentation of a real MRML scene."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from mrml_accepting import (  # noqa: E402
    FOUND_LIVER,
    FOUND_SPLEEN,
    LIVER,
    SHAPE,
    SPLEEN,
    Case,
    box,
    slices_of,
)
from mrml_scenes import scene as scene  # noqa: E402
from mrml_small import TILTED, drawn_structure, voxels  # noqa: E402

from FoBSAMLib.errors import FoBSAMError  # noqa: E402
from FoBSAMLib.mrml import tags  # noqa: E402
from FoBSAMLib.mrml.accept import new_segmentation  # noqa: E402
from FoBSAMLib.mrml.labelmaps import to_vtk  # noqa: E402


@pytest.mark.parametrize("shared", [False, True], ids=["own layers", "shared layer"])
@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_what_was_found_is_added_voxel_by_voxel(scene, axis, shared):
    number = "kji".index(axis)
    labels = np.random.default_rng(1).integers(0, 3, SHAPE)
    annotated = np.random.default_rng(2).integers(0, 3, SHAPE)
    found, drawn = {}, {}
    for label, segment_id in enumerate(["liver", "spleen"], 1):
        found[segment_id] = labels == label
        drawn[segment_id] = np.zeros(SHAPE, bool)
        np.moveaxis(drawn[segment_id], number, 0)[2] = annotated.take(2, number) == label
    case = Case(scene, drawn, shared=shared, axis=axis)
    accepted = case.accept({s: slices_of(mask, axis) for s, mask in found.items()})
    for segment_id, mask in found.items():
        expected = mask.copy()
        np.moveaxis(expected, number, 0)[2] = drawn[segment_id].take(2, number)
        assert (case.voxels(segment_id) == expected).all()
        assert accepted.added[segment_id] == (expected & ~drawn[segment_id]).sum()
        assert accepted.masked[segment_id] == accepted.left_to_others[segment_id] == 0


def test_one_undo_takes_everything_back_and_redo_does_it_again(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    found = {"liver": slices_of(FOUND_LIVER), "spleen": slices_of(FOUND_SPLEEN)}
    case.accept(found)
    after = {s: case.voxels(s) for s in found}
    assert after["liver"].sum() > LIVER.sum()
    assert case.segment("liver").HasTag(tags.FOUND)
    assert case.editing.undo()
    assert (case.voxels("liver") == LIVER).all()
    assert (case.voxels("spleen") == SPLEEN).all()
    assert not case.segment("liver").HasTag(tags.FOUND)
    assert not case.segment("spleen").HasTag(tags.FOUND)
    assert not case.editing.undo()
    assert case.editing.redo()
    for segment_id, mask in after.items():
        assert (case.voxels(segment_id) == mask).all()
        assert case.segment(segment_id).HasTag(tags.FOUND)
    assert not case.editing.redo()


def test_annotated_and_absent_slices_stay_as_they_are(scene):
    case = Case(scene, {"liver": LIVER}, absent=[4])
    case.accept({"liver": slices_of(np.ones(SHAPE, bool))})
    expected = np.ones(SHAPE, bool)
    expected[2], expected[4] = LIVER[2], False
    assert (case.voxels("liver") == expected).all()


def test_a_slice_painted_since_the_run_began_stays_as_it_is(scene):
    case = Case(scene, {"liver": LIVER})
    drawn = case.drawn()
    painted = LIVER | box(3, slice(0, 1), slice(0, 2))
    case.node = scene.segmentation({"liver": painted}, TILTED, case.volume)
    case.accept({"liver": slices_of(np.ones(SHAPE, bool))}, drawn=drawn)
    assert (case.voxels("liver")[3] == painted[3]).all()
    assert case.voxels("liver")[4].all()


OTHER = box(slice(0, 6), slice(0, 3), slice(0, 3))


@pytest.mark.parametrize("shared", [False, True], ids=["own layers", "shared layer"])
@pytest.mark.parametrize("mode", ["OverwriteAllSegments", "OverwriteVisibleSegments"])
def test_other_segments_lose_nothing(scene, mode, shared):
    liver = LIVER & ~OTHER
    case = Case(scene, {"liver": liver, "other": OTHER}, shared=shared)
    case.editor.SetOverwriteMode(getattr(case.editor, mode))
    accepted = case.accept({"liver": slices_of(FOUND_LIVER)})
    wanted = FOUND_LIVER.copy()
    wanted[2] = liver[2]
    assert (case.voxels("other") == OTHER).all()
    assert (case.voxels("liver") == (wanted & ~OTHER)).all()
    assert accepted.left_to_others["liver"] == (wanted & OTHER).sum()
    assert case.editor.GetOverwriteMode() == getattr(case.editor, mode)


@pytest.mark.parametrize("shared", [False, True], ids=["own layers", "shared layer"])
@pytest.mark.parametrize("hidden", [False, True], ids=["allowed", "other hidden"])
def test_where_overlap_is_allowed_both_have_the_voxels(scene, hidden, shared):
    case = Case(scene, {"liver": LIVER & ~OTHER, "other": OTHER}, shared=shared)
    mode = case.editor.OverwriteVisibleSegments if hidden else case.editor.OverwriteNone
    case.editor.SetOverwriteMode(mode)
    case.node.GetDisplayNode().SetSegmentVisibility("other", not hidden)
    accepted = case.accept({"liver": slices_of(FOUND_LIVER)})
    expected = FOUND_LIVER.copy()
    expected[2] = LIVER[2] & ~OTHER[2]
    assert (case.voxels("other") == OTHER).all()
    assert (case.voxels("liver") == expected).all()
    assert accepted.left_to_others["liver"] == 0


def test_of_two_results_at_a_voxel_the_surer_wins(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    everywhere = np.ones(SHAPE[1:], bool)
    accepted = case.accept(
        {"liver": {0: everywhere, 1: everywhere}, "spleen": {0: everywhere, 1: everywhere}},
        {"liver": {0: 0.9, 1: 0.2}, "spleen": {0: 0.3, 1: 0.8}},
    )
    assert case.voxels("liver")[0].all()
    assert not case.voxels("liver")[1].any()
    assert not case.voxels("spleen")[0].any()
    assert case.voxels("spleen")[1].all()
    assert accepted.left_to_others == {"liver": 56, "spleen": 56}


def test_where_overlap_is_allowed_both_results_stay(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    case.editor.SetOverwriteMode(case.editor.OverwriteNone)
    everywhere = np.ones(SHAPE[1:], bool)
    case.accept({"liver": {0: everywhere}, "spleen": {0: everywhere}})
    assert case.voxels("liver")[0].all()
    assert case.voxels("spleen")[0].all()


@pytest.mark.parametrize(
    ("mode", "segment_id", "allowed"),
    [
        ("EditAllowedInsideSingleSegment", "other", OTHER),
        ("EditAllowedOutsideAllSegments", None, ~OTHER),
        ("EditAllowedInsideAllSegments", None, OTHER | LIVER),
        ("EditAllowedOutsideVisibleSegments", None, ~OTHER),
    ],
)
def test_masking_by_segments_acts(scene, mode, segment_id, allowed):
    case = Case(scene, {"liver": LIVER, "other": OTHER & ~LIVER})
    case.editor.SetOverwriteMode(case.editor.OverwriteNone)
    case.editor.SetMaskMode(getattr(slicer.vtkMRMLSegmentationNode, mode))
    case.editor.SetMaskSegmentID(segment_id)
    accepted = case.accept({"liver": slices_of(FOUND_LIVER)})
    wanted = FOUND_LIVER.copy()
    wanted[2] = False
    if segment_id or mode.startswith("EditAllowedInside"):
        allowed = allowed & ~LIVER
    assert (case.voxels("liver") == (LIVER | (wanted & allowed))).all()
    assert accepted.added["liver"] == (wanted & allowed).sum()
    assert accepted.masked["liver"] == (wanted & ~allowed).sum()


def test_the_editable_intensity_range_acts(scene):
    case = Case(scene, {"liver": LIVER})
    case.editor.SetAndObserveSegmentationNode(case.node)
    case.editor.SetAndObserveSourceVolumeNode(case.volume)
    case.editor.SetSourceVolumeIntensityMask(True)
    case.editor.SetSourceVolumeIntensityMaskRange(50, 200)
    accepted = case.accept({"liver": slices_of(FOUND_LIVER)})
    intensities = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    wanted = FOUND_LIVER & (intensities >= 50) & (intensities <= 200)
    wanted[2] = LIVER[2]
    assert (case.voxels("liver") == wanted).all()
    assert accepted.masked["liver"] > 0


def test_masking_reaches_beyond_a_segmentation_that_is_smaller_than_the_volume(scene):
    case = Case(scene, {"liver": LIVER})
    image = slicer.vtkOrientedImageData()
    image.SetExtent(1, 4, 1, 4, 2, 2)
    image.SetGeometryFromImageToWorldMatrix(to_vtk(TILTED))
    small = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    case.node.GetSegmentation().SetConversionParameter(name, small)
    case.editor.SetAndObserveSegmentationNode(case.node)
    case.editor.SetAndObserveSourceVolumeNode(case.volume)
    case.editor.SetSourceVolumeIntensityMask(True)
    case.editor.SetSourceVolumeIntensityMaskRange(200, 1000)
    case.accept({"liver": slices_of(np.ones(SHAPE, bool))})
    expected = np.arange(np.prod(SHAPE)).reshape(SHAPE) >= 200
    expected[2] = LIVER[2]
    assert (case.voxels("liver") == expected).all()
    assert case.node.GetSegmentation().GetConversionParameter(name) == small


def test_slices_accepted_are_no_supports_until_they_are_edited(scene):
    case = Case(scene, {"liver": LIVER})
    case.accept({"liver": slices_of(FOUND_LIVER)})
    grid = tags.SliceGrid.of(case.node, case.to_world, SHAPE, "k")
    now = case.voxels("liver")
    sums = {n: tags.checksum(now[n]) for n in range(6) if now[n].any()}
    assert tags.found(case.segment("liver"), grid, sums) == (0, 1, 3, 4, 5)
    now[4, 0, 0] = True
    sums[4] = tags.checksum(now[4])
    assert tags.found(case.segment("liver"), grid, sums) == (0, 1, 3, 5)


def test_a_slice_accepted_earlier_is_replaced_by_what_is_found_anew(scene):
    case = Case(scene, {"liver": LIVER})
    case.accept({"liver": slices_of(FOUND_LIVER)})
    second = box(slice(0, 5), slice(2, 6), slice(0, 3))
    accepted = case.accept({"liver": slices_of(second)})
    expected = second.copy()
    expected[2] = LIVER[2]
    assert (case.voxels("liver") == expected).all()
    assert accepted.removed["liver"] == sum(
        (FOUND_LIVER[n] & ~second[n]).sum() for n in range(6) if n != 2
    )
    case.editing.undo()
    first = FOUND_LIVER.copy()
    first[2] = LIVER[2]
    assert (case.voxels("liver") == first).all()


def test_a_slice_accepted_earlier_that_is_now_empty_is_emptied(scene):
    case = Case(scene, {"liver": LIVER})
    case.accept({"liver": slices_of(FOUND_LIVER)})
    accepted = case.accept({"liver": {4: np.zeros(SHAPE[1:], bool)}})
    assert not case.voxels("liver")[4].any()
    assert (case.voxels("liver")[5] == FOUND_LIVER[5]).all()
    assert accepted.removed["liver"] == FOUND_LIVER[4].sum()


def test_a_surface_made_by_the_user_is_made_again(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    case.node.CreateClosedSurfaceRepresentation()
    before = case.node.GetClosedSurfaceInternalRepresentation("liver").GetBounds()
    case.accept({"liver": slices_of(FOUND_LIVER)})
    after = case.node.GetClosedSurfaceInternalRepresentation("liver").GetBounds()
    assert after[5] - after[4] > 2 * (before[5] - before[4])
    assert case.node.GetClosedSurfaceInternalRepresentation("spleen").GetNumberOfPoints()
    case.editing.undo()
    assert case.node.GetClosedSurfaceInternalRepresentation("liver").GetBounds() == before


def test_it_is_ready_for_export_as_dicom_seg(scene):
    case = Case(scene, {"liver": LIVER})
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene.mrml)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.CreateItem(study, case.volume)
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), case.node)
    case.node.SetNodeReferenceID(case.node.GetReferenceImageGeometryReferenceRole(), None)
    case.accept({"liver": slices_of(FOUND_LIVER)})
    item = hierarchy.GetItemByDataNode(case.node)
    assert hierarchy.GetItemParent(item) == study
    role = case.node.GetReferenceImageGeometryReferenceRole()
    assert case.node.GetNodeReference(role) is case.volume
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Mine")
    hierarchy.SetItemParent(item, folder)
    case.accept({"liver": slices_of(box(1, slice(0, 7), slice(0, 8)))})
    assert hierarchy.GetItemParent(item) == folder


def test_the_editor_is_left_as_it_was(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    case.editor.SetAndObserveSegmentationNode(case.node)
    case.editor.SetSelectedSegmentID("spleen")
    case.accept({"liver": slices_of(FOUND_LIVER)})
    assert case.editor.GetSelectedSegmentID() == "spleen"
    assert case.editor.GetSegmentationNode() is case.node


@pytest.mark.parametrize("where", ["begin", "add"])
def test_where_editing_fails_events_go_on(scene, where):
    def fail(*_: object) -> None:
        raise RuntimeError("no such editor")

    case = Case(scene, {"liver": LIVER})
    case.editor.SetAndObserveSegmentationNode(case.node)
    case.editor.SetOverwriteMode(case.editor.OverwriteVisibleSegments)
    ends = []
    end = case.editing.end
    case.editing.end = lambda: (ends.append(True), end())
    setattr(case.editing, where, fail)
    with pytest.raises(RuntimeError, match="no such editor"):
        case.accept({"liver": slices_of(FOUND_LIVER)})
    assert not case.node.GetDisableModifiedEvent()
    assert not case.editor.GetDisableModifiedEvent()
    assert case.editor.GetOverwriteMode() == case.editor.OverwriteVisibleSegments
    assert ends == ([] if where == "begin" else [True]), "what was not begun is not ended"
    assert (case.voxels("liver") == LIVER).all()


def test_nothing_to_add_is_no_step(scene):
    case = Case(scene, {"liver": LIVER})
    accepted = case.accept({"liver": {2: np.ones(SHAPE[1:], bool)}})
    assert not any(accepted.added.values())
    case.accept({"liver": {4: np.zeros(SHAPE[1:], bool)}})
    assert not case.editing.undo()


@pytest.mark.parametrize("gone", ["volume", "node"])
def test_a_node_that_is_gone_is_refused(scene, gone):
    case = Case(scene, {"liver": LIVER})
    drawn = case.drawn()
    scene.mrml.RemoveNode(getattr(case, gone))
    with pytest.raises(FoBSAMError, match="was deleted"):
        case.accept({"liver": slices_of(FOUND_LIVER)}, drawn=drawn)


def test_a_segment_that_is_gone_is_refused_before_anything_changes(scene):
    case = Case(scene, {"liver": LIVER, "spleen": SPLEEN})
    drawn = case.drawn()
    case.node.GetSegmentation().RemoveSegment("spleen")
    with pytest.raises(FoBSAMError, match="spleen was deleted"):
        case.accept(
            {"liver": slices_of(FOUND_LIVER), "spleen": slices_of(FOUND_SPLEEN)}, drawn=drawn
        )
    assert (case.voxels("liver") == LIVER).all()


def test_a_segmentation_of_surfaces_is_refused_with_advice(scene):
    case = Case(scene, {"liver": LIVER})
    case.node.CreateClosedSurfaceRepresentation()
    case.node.SetSourceRepresentationToClosedSurface()
    with pytest.raises(FoBSAMError, match="source representation"):
        case.accept({"liver": slices_of(FOUND_LIVER)})


@pytest.mark.parametrize("warped", ["volume", "node"])
def test_a_non_linear_transform_is_refused_before_anything_changes(scene, warped):
    case = Case(scene, {"liver": LIVER})
    transform = scene.mrml.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "Warp")
    transform.SetAndObserveTransformToParent(_warp())
    getattr(case, warped).SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(FoBSAMError, match="Harden"):
        case.accept({"liver": slices_of(FOUND_LIVER)})
    assert (case.voxels("liver") == LIVER).all()
    assert not case.editing.undo()


def _warp():
    grid = vtk.vtkImageData()
    grid.SetDimensions(4, 4, 4)
    grid.SetSpacing(10, 10, 10)
    grid.AllocateScalars(vtk.VTK_DOUBLE, 3)
    for n in range(64):
        grid.GetPointData().GetScalars().SetTuple3(n, n % 5, n % 3, 0)
    warp = slicer.vtkOrientedBSplineTransform()
    warp.SetCoefficientData(grid)
    return warp


def test_results_of_another_volume_get_a_segmentation_of_their_own(scene):
    volume = scene.volume(np.zeros(SHAPE, np.int16), TILTED, "Other patient")
    shift = np.eye(4)
    shift[:3, 3] = 3, 4, 5
    transform = scene.transform(shift, volume)
    structures = [
        drawn_structure("s1", name="Liver", color=(0.1, 0.2, 0.3), terminology="A~B"),
        drawn_structure("s2", name="Spleen"),
    ]
    structures.append(drawn_structure("s3", name="Kidney"))
    masks = {"s1": slices_of(FOUND_LIVER), "s3": slices_of(FOUND_SPLEEN)}
    of_world = tags.SliceGrid("k", shift @ TILTED, SHAPE)
    node = new_segmentation(volume, structures, masks, of_world)
    assert node.GetName() == "Other patient (FoBSAM)"
    assert node.GetParentTransformNode() is transform
    assert (voxels(node, "s1", SHAPE) == FOUND_LIVER).all()
    assert not voxels(node, "s2", SHAPE).any()
    assert (voxels(node, "s3", SHAPE) == FOUND_SPLEEN).all()
    segment = node.GetSegmentation().GetSegment("s1")
    assert (segment.GetName(), segment.GetColor()) == ("Liver", (0.1, 0.2, 0.3))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    grid = tags.SliceGrid.of(node, shift @ TILTED, SHAPE, "k")
    sums = {n: tags.checksum(FOUND_LIVER[n]) for n in range(6)}
    assert tags.found(segment, grid, sums) == (0, 1, 2, 3, 4, 5)
