"""The preview of results, in a real MRML scene."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

import vtk  # noqa: E402
from mrml_small import TILTED, Scene, drawn_structure, voxels  # noqa: E402

from FoBSAMLib.mrml import tags  # noqa: E402
from FoBSAMLib.mrml.labelmaps import geometry_of  # noqa: E402
from FoBSAMLib.mrml.preview import Preview  # noqa: E402

SHAPE = (5, 6, 7)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def volume(scene):
    return scene.volume(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), TILTED)


def make(volume, *segment_ids, segmentation=None, grid=TILTED, **about) -> Preview:
    structures = [drawn_structure(segment_id, **about) for segment_id in segment_ids]
    return Preview(volume, segmentation, structures, grid, SHAPE)


def test_slices_are_written_where_they_belong(volume):
    preview = make(volume, "liver", "spleen")
    expected = np.zeros(SHAPE, bool)
    random = np.random.default_rng(0)
    for axis, index, shape in (("k", 3, (6, 7)), ("j", 5, (5, 7)), ("i", 0, (5, 6))):
        mask = random.random(shape) < 0.5
        preview.put("liver", axis, index, mask)
        np.moveaxis(expected, {"k": 0, "j": 1, "i": 2}[axis], 0)[index] = mask
    preview.flush()
    assert (preview.mask_of("liver") == expected).all()
    assert (voxels(preview.node, "liver", SHAPE) == expected).all()
    assert not voxels(preview.node, "spleen", SHAPE).any()


def test_a_slice_put_again_replaces_the_one_before(volume):
    preview = make(volume, "liver")
    preview.put("liver", "k", 2, np.ones((6, 7), bool))
    preview.put("liver", "k", 2, np.eye(6, 7) > 0)
    assert (preview.mask_of("liver")[2] == np.eye(6, 7)).all()
    preview.put("liver", "k", 2, np.zeros((6, 7), bool))
    assert not preview.mask_of("liver").any()


def test_the_labelmap_lies_on_the_working_grid_and_moves_with_the_volume(scene, volume):
    shift = np.eye(4)
    shift[:3, 3] = 5, 6, 7
    transform = scene.transform(shift, volume)
    preview = make(volume, "liver", grid=shift @ TILTED)
    assert preview.node.GetParentTransformNode() is transform
    image = preview.node.GetBinaryLabelmapInternalRepresentation("liver")
    assert np.allclose(geometry_of(image), TILTED)


def test_names_colours_and_terminology_are_those_of_the_structures(scene, volume):
    segmentation = scene.segmentation({})
    preview = make(
        volume,
        "s7",
        segmentation=segmentation,
        name="Liver",
        color=(0.25, 0.5, 0.75),
        terminology="A~B~C",
        tags=(("DicomRtImport.RoiObservationLabel", "x"), (tags.FOUND, "{}")),
    )
    assert preview.node.GetName() == "Organs (FoBSAM preview)"
    segment = preview.node.GetSegmentation().GetSegment("s7")
    assert (segment.GetName(), segment.GetColor()) == ("Liver", (0.25, 0.5, 0.75))
    value = vtk.reference("")
    assert segment.GetTag(segment.GetTerminologyEntryTagName(), value)
    assert str(value) == "A~B~C"
    assert segment.HasTag("DicomRtImport.RoiObservationLabel")
    assert not segment.HasTag(tags.FOUND)


def test_one_flush_is_one_change_of_the_node(volume):
    preview = make(volume, "liver", "spleen")
    changes, redrawn = [], []
    segmentation = preview.node.GetSegmentation()
    preview.node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: changes.append(1))
    segmentation.AddObserver(
        segmentation.SourceRepresentationModified, lambda *_: redrawn.append(1)
    )
    for index in range(5):
        for segment_id in preview.segment_ids:
            preview.put(segment_id, "k", index, np.ones((6, 7), bool))
    assert not redrawn
    preview.flush()
    assert len(redrawn) == 2
    assert len(changes) <= 1
    preview.flush()
    assert len(redrawn) == 2


def test_it_is_neither_saved_nor_offered_for_editing(scene, volume):
    preview = make(volume, "liver")
    assert preview.node.GetHideFromEditors()
    assert not preview.node.GetSaveWithScene()
    assert not preview.node.GetDisplayNode().GetSaveWithScene()
    display = preview.node.GetDisplayNode()
    assert display.GetVisibility()
    assert display.GetOpacity2DFill() < 0.5
    assert display.GetOpacity2DOutline() == 1
    assert not display.GetVisibility3D()


def test_surfaces_on_request_lie_where_the_voxels_are(volume):
    preview = make(volume, "liver", "spleen")
    preview.put("liver", "k", 2, np.ones((6, 7), bool))
    preview.put("liver", "k", 3, np.ones((6, 7), bool))
    preview.show_3d(True)
    node = preview.node
    assert node.GetDisplayNode().GetVisibility3D()
    surface = node.GetClosedSurfaceInternalRepresentation("liver")
    centre = np.array(surface.GetCenter())
    assert np.allclose(centre, (TILTED @ [3, 2.5, 2.5, 1])[:3], atol=0.3)
    assert node.GetClosedSurfaceInternalRepresentation("spleen").GetNumberOfPoints() == 0
    preview.put("liver", "k", 1, np.ones((6, 7), bool))
    preview.flush()
    assert node.GetClosedSurfaceInternalRepresentation("liver") is None  # of what was before
    preview.show_3d(True)
    assert node.GetClosedSurfaceInternalRepresentation("liver").GetNumberOfPoints()
    preview.show_3d(False)
    assert not node.GetDisplayNode().GetVisibility3D()


def test_removed_it_leaves_nothing_behind(scene, volume):
    def nodes() -> list[str]:
        return [scene.mrml.GetNthNode(n).GetID() for n in range(scene.mrml.GetNumberOfNodes())]

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene.mrml)
    before, items = nodes(), hierarchy.GetNumberOfItems()
    preview = make(volume, "liver")
    hierarchy.CreateItem(hierarchy.GetSceneItemID(), preview.node)
    preview.node.AddDefaultStorageNode()
    preview.show_3d(True)
    assert len(nodes()) > len(before)
    preview.remove()
    assert nodes() == before
    assert hierarchy.GetNumberOfItems() == items
    preview.remove()


def test_a_preview_that_the_user_deleted_leaves_nothing_behind(scene, volume):
    before = scene.mrml.GetNumberOfNodes()
    preview = make(volume, "liver")
    scene.mrml.RemoveNode(preview.node)
    preview.put("liver", "k", 2, np.ones((6, 7), bool))
    preview.flush()
    preview.remove()
    assert scene.mrml.GetNumberOfNodes() == before


def test_a_preview_whose_scene_was_cleared_can_be_removed(scene, volume):
    preview = make(volume, "liver")
    scene.mrml.Clear(0)
    preview.remove()
