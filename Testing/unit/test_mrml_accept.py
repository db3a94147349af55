"""What was found, written into a segmentation of a real MRML scene."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from mrml_small import STRAIGHT, TILTED, Scene, drawn_structure, voxels  # noqa: E402

from FoBSAMLib.errors import FoBSAMError  # noqa: E402
from FoBSAMLib.image.segmentation import Structure  # noqa: E402
from FoBSAMLib.mrml import tags  # noqa: E402
from FoBSAMLib.mrml.accept import accept, new_segmentation  # noqa: E402
from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure  # noqa: E402
from FoBSAMLib.mrml.editing import LogicEditing  # noqa: E402
from FoBSAMLib.mrml.labelmaps import geometry_of, to_vtk  # noqa: E402
from FoBSAMLib.mrml.masks import place, read_segments  # noqa: E402

SHAPE = (6, 7, 8)


def box(k: slice | int, j: slice, i: slice, shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[k, j, i] = True
    return mask


LIVER = box(2, slice(1, 4), slice(1, 4))
SPLEEN = box(2, slice(4, 6), slice(4, 8))


@pytest.fixture
def scene() -> Scene:
    return Scene()


class Case:
    """A volume, a segmentation of it with an annotated slice for each segment, and an editor."""

    def __init__(self, scene, masks, geometry=TILTED, shared=False, axis="k", absent=()):
        self.scene, self.masks, self.axis = scene, masks, axis
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        self.volume = scene.volume(array, geometry)
        self.node = scene.segmentation(masks, geometry, self.volume, shared=shared)
        self.editing = LogicEditing(scene.mrml)
        self.editor = self.editing.editor_node
        self.geometry = self.to_world = geometry
        self.absent = tuple(absent)

    def drawn(self, shape=SHAPE) -> Drawn:
        structures = []
        for segment_id, mask in self.masks.items():
            slices = np.moveaxis(mask, "kji".index(self.axis), 0)
            masks = {n: slices[n] for n in range(len(slices)) if slices[n].any()}
            structure = Structure(segment_id.title(), 1, id=segment_id)
            structures.append(DrawnStructure(segment_id, structure, masks, self.absent, ()))
        ids = self.volume.GetID(), self.node.GetID()
        return Drawn(*ids, self.axis, self.to_world, shape, False, tuple(structures))

    def accept(self, results, confidence=None, drawn=None):
        return accept(
            drawn or self.drawn(),
            results,
            confidence or {},
            self.volume,
            self.node,
            self.editing,
        )

    def voxels(self, segment_id) -> np.ndarray:
        return voxels(self.node, segment_id, SHAPE)

    def segment(self, segment_id):
        return self.node.GetSegmentation().GetSegment(segment_id)


def slices_of(mask: np.ndarray, axis: str = "k") -> dict[int, np.ndarray]:
    """All slices of a mask, bool [K, J, I], also those where it is empty."""
    return dict(enumerate(np.moveaxis(mask, "kji".index(axis), 0)))


FOUND_LIVER = box(slice(0, 6), slice(1, 4), slice(1, 5))
FOUND_SPLEEN = box(slice(1, 5), slice(4, 7), slice(3, 8))


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


def test_under_transforms_that_differ_voxels_go_where_they_are_in_the_world(scene):
    case = Case(scene, {"liver": LIVER})
    quarter = np.array([[0, -1, 0, 10.0], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    scene.transform(quarter, case.volume)
    case.to_world = quarter @ TILTED
    # The segmentation is under another transform, and its own coordinates make up for it.
    node = scene.segmentation({"liver": LIVER}, quarter @ TILTED, name="Hardened")
    case.node = node
    case.accept({"liver": slices_of(FOUND_LIVER)})
    expected = FOUND_LIVER.copy()
    expected[2] = LIVER[2]
    assert (voxels(node, "liver", SHAPE) == expected).all()
    image = node.GetBinaryLabelmapInternalRepresentation("liver")
    assert np.allclose(geometry_of(image), quarter @ TILTED)


def test_a_segmentation_on_a_finer_grid_keeps_it_and_gets_the_nearest_voxels(scene):
    case = Case(scene, {}, STRAIGHT)
    fine = STRAIGHT @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] = -0.25 * np.array([1, 1, 2])  # each voxel is cut into eight
    drawn = LIVER.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    case.node = scene.segmentation({"liver": drawn}, fine)
    case.masks = {"liver": LIVER}
    case.accept({"liver": slices_of(FOUND_LIVER)})
    expected = FOUND_LIVER.copy()
    expected[2] = LIVER[2]
    expected = expected.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    got = voxels(case.node, "liver", expected.shape)
    # The annotated slice, as read on the volume's grid, is as it was; beside it all is exact.
    assert (got[2 * 3 :] == expected[2 * 3 :]).all()
    assert (got[4:6] == drawn[4:6]).all()
    assert got[:4].sum() == expected[:4].sum()
    image = case.node.GetBinaryLabelmapInternalRepresentation("liver")
    assert np.allclose(geometry_of(image)[:3, :3], fine[:3, :3])


def test_flipped_and_swapped_axes_are_exact(scene):
    case = Case(scene, {}, TILTED)
    swap = np.array([[0, -1, 0, 7.0], [0, 0, 1, 0], [-1, 0, 0, 5.0], [0, 0, 0, 1]])

    # swap maps the segmentation's (i, j, k) to the volume's: i <- 7 - j, j <- k, k <- 5 - i
    def turned(mask):
        return np.ascontiguousarray(mask[::-1, :, ::-1].transpose(1, 2, 0))

    case.node = scene.segmentation({"liver": turned(LIVER)}, TILTED @ swap)
    case.masks = {"liver": LIVER}
    case.accept({"liver": slices_of(FOUND_LIVER)})
    expected = FOUND_LIVER.copy()
    expected[2] = LIVER[2]
    assert (voxels(case.node, "liver", (7, 8, 6)) == turned(expected)).all()


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


def test_nothing_to_add_is_no_step(scene):
    case = Case(scene, {"liver": LIVER})
    accepted = case.accept({"liver": {2: np.ones(SHAPE[1:], bool)}})
    assert not any(accepted.added.values())
    assert not case.editing.undo()


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


def test_an_oblique_working_grid_fills_the_segmentation_and_spares_what_was_drawn(scene):
    case = Case(scene, {"liver": np.zeros(SHAPE, bool)}, STRAIGHT)
    shape = (15, 20, 20)
    angle = np.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    grid = turn @ np.diag([1.0, 1, 1, 1])
    grid[:3, 3] = np.array([3.5, 3, 5]) - grid[:3, :3] @ [9.5, 9.5, 7]
    case.to_world = grid
    support = np.zeros((20, 20), bool)
    support[6:14, 6:14] = True
    painted = DrawnStructure("liver", Structure("Liver", 1, id="liver"), {7: support}, (), ())
    drawn = Drawn("", "", "k", grid, shape, True, (painted,))
    # The user's own stroke: voxels within half a slice of the plane.
    k, j, i = np.indices(SHAPE)
    x, y, z, _ = (
        np.linalg.inv(grid) @ STRAIGHT @ np.stack([i, j, k, np.ones_like(i)]).reshape(4, -1)
    )
    nearest = np.rint([z, y, x]).astype(int)
    stroke = (np.abs(z - 7) < 0.5) & (np.abs(x - 9.5) < 4) & (np.abs(y - 9.5) < 4)
    case.node = scene.segmentation({"liver": stroke.reshape(SHAPE)}, STRAIGHT, case.volume)
    before = _read(case, grid, shape)
    results = {n: support for n in range(shape[0]) if n != 7}
    case.accept({"liver": results}, drawn=drawn)
    after = _read(case, grid, shape)
    assert (after[7] == before[7]).all()
    got = case.voxels("liver").ravel()
    wanted = support[nearest[1], nearest[2]] & (nearest[0] != 7)
    assert not (got & ~wanted & ~stroke).any()
    left = wanted & ~got  # only what a pixel of the drawn slice is nearest to
    assert left.sum() <= wanted.sum() / 4
    assert (np.abs(z[left] - 7) < 1.5).all()


def _read(case, grid, shape):
    patch = place(read_segments(case.node, ["liver"])["liver"], grid, shape, "k")
    whole = np.zeros(shape, bool)
    box = tuple(slice(a, a + n) for a, n in zip(patch.start, patch.voxels.shape, strict=True))
    whole[box] = patch.voxels
    return whole


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
