"""The stand-in's Segment Editor: its brush paints where Slicer's does, its settings act."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import slicer  # noqa: E402
import vtk  # noqa: E402
from standin.brush import erase, paint, slice_thickness  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

application = pytest.fixture(autouse=True)(standin.fresh)

SHAPE = (20, 30, 40)  # K, J, I
SPACING = (1.0, 1.5, 3.0)  # I, J, K, in mm


@pytest.fixture
def scene(application):
    return slicer.mrmlScene


@pytest.fixture
def volume(scene):
    """0 where I is low, 100 where it is high; axes turned by 20° about R, J flipped."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    array = np.zeros(SHAPE, np.int16)
    array[:, :, SHAPE[2] // 2 :] = 100
    slicer.util.updateVolumeFromArray(node, array)
    turn = np.deg2rad(20)
    axes = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag([1, -1, 1]) @ np.diag(SPACING)
    matrix[:3, 3] = (5, 60, -20)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


@pytest.fixture
def segmentation(scene, volume):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in ("a", "b"):
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


@pytest.fixture
def editor(segmentation):
    slicer.modules.segmenteditor.widgetRepresentation().enter()
    return slicer.modules.segmenteditor.widgetRepresentation().self().editor


def mask(segmentation, segment_id: str) -> np.ndarray:
    """The segment on the volume's grid, bool [K, J, I]."""
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation(segment_id, image)
    found = np.zeros(SHAPE, bool)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if i0 <= i1:
        box = vtk_to_numpy(image.GetPointData().GetScalars())
        found[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = box.reshape(
            k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1
        )
    return found


def world(volume, ijk) -> np.ndarray:
    """Voxel positions (i, j, k) [..., 3] in RAS."""
    matrix = slicer.util.arrayFromVTKMatrix(volume_matrix(volume))
    return np.asarray(ijk) @ matrix[:3, :3].T + matrix[:3, 3]


def volume_matrix(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


CENTRE = (20, 15, 10)  # I, J, K


@pytest.mark.parametrize(("view", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_a_stroke_is_a_disc_on_one_slice(view, axis, editor, segmentation, volume):
    centre = world(volume, CENTRE)
    paint(editor, "a", view, centre, radius_mm=7)
    painted = np.argwhere(mask(segmentation, "a"))
    assert np.unique(painted[:, axis]).tolist() == [CENTRE[2 - axis]]
    distance = np.linalg.norm(world(volume, painted[:, ::-1]) - centre, axis=1)
    assert distance.max() <= 7
    area = len(painted) * np.prod(np.delete(SPACING, 2 - axis))
    assert area == pytest.approx(np.pi * 7**2, rel=0.1)


def test_a_stroke_in_a_turned_view_lies_in_its_plane(scene, editor, segmentation, volume):
    node = scene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    turned = vtk.vtkTransform()
    turned.RotateX(-25)
    turned.RotateY(40)
    node.GetSliceToRAS().DeepCopy(turned.GetMatrix())
    node.UpdateMatrices()
    centre = world(volume, CENTRE)
    paint(editor, "a", node, centre, radius_mm=8)
    away = world(volume, np.argwhere(mask(segmentation, "a"))[:, ::-1]) - centre
    normal = slicer.util.arrayFromVTKMatrix(turned.GetMatrix())[:3, 2]
    along = away @ normal
    thickness = slice_thickness(node)
    assert np.abs(along).max() < thickness / 2
    across = np.linalg.norm(away - np.outer(along, normal), axis=1)
    assert 6.5 < across.max() <= 8
    assert len(np.unique(np.argwhere(mask(segmentation, "a"))[:, 0])) > 1


def test_the_brush_snaps_to_the_nearest_voxel(editor, segmentation, volume):
    paint(editor, "a", "axial", world(volume, np.add(CENTRE, 0.4)), radius_mm=4)
    painted = np.argwhere(mask(segmentation, "a"))
    assert painted.mean(axis=0) == pytest.approx(CENTRE[::-1])


def test_a_segmentation_under_a_transform_is_painted_in_the_world(
    scene, editor, segmentation, volume
):
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "shift")
    matrix = np.eye(4)
    matrix[:3, 3] = (0, 0, 30)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    paint(editor, "a", "axial", np.add(world(volume, CENTRE), (0, 0, 30)), radius_mm=5)
    assert np.unique(np.argwhere(mask(segmentation, "a"))[:, 0]).tolist() == [CENTRE[2]]


def test_a_ball_is_painted_on_several_slices(editor, segmentation, volume):
    editor.effectByName("Paint").setCommonParameter("BrushSphere", 1)
    paint(editor, "a", "axial", world(volume, CENTRE), radius_mm=7)
    assert np.unique(np.argwhere(mask(segmentation, "a"))[:, 0]).tolist() == [8, 9, 10, 11, 12]


def test_undo_and_redo(editor, segmentation, volume):
    centre = world(volume, CENTRE)
    paint(editor, "a", "axial", centre, radius_mm=6)
    one = mask(segmentation, "a")
    paint(editor, "a", "axial", np.add(centre, (8, 0, 0)), radius_mm=6)
    two = mask(segmentation, "a")
    erase(editor, "a", "axial", centre, radius_mm=6)
    assert (mask(segmentation, "a") == two & ~one).all()
    for expected in (two, one, np.zeros_like(one)):
        editor.undo()
        assert (mask(segmentation, "a") == expected).all()
    editor.redo()
    assert (mask(segmentation, "a") == one).all()


def test_the_editable_intensities_limit_the_brush(editor, segmentation, volume):
    node = editor.mrmlSegmentEditorNode()
    node.SetSourceVolumeIntensityMask(True)
    node.SetSourceVolumeIntensityMaskRange(50, 150)
    paint(editor, "a", "axial", world(volume, CENTRE), radius_mm=6)
    assert np.argwhere(mask(segmentation, "a"))[:, 2].min() == SHAPE[2] // 2
    effect = editor.effectByName("Paint")
    node.SetSourceVolumeIntensityMask(False)
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    labelmap = effect.defaultModifierLabelmap()
    vtk_to_numpy(labelmap.GetPointData().GetScalars())[:] = 1
    effect.modifySegmentByLabelmap(segmentation, "b", labelmap, effect.ModificationModeAdd)
    assert (mask(segmentation, "b") == ~mask(segmentation, "a")).all()


def test_overwriting_takes_voxels_or_leaves_them(editor, segmentation, volume):
    node, centre = editor.mrmlSegmentEditorNode(), world(volume, CENTRE)
    paint(editor, "a", "axial", centre, radius_mm=6)
    before = mask(segmentation, "a")
    paint(editor, "b", "axial", np.add(centre, (2, 0, 0)), radius_mm=6)
    assert (mask(segmentation, "a") == before & ~mask(segmentation, "b")).all()
    editor.undo()
    node.SetOverwriteMode(node.OverwriteNone)
    paint(editor, "b", "axial", np.add(centre, (2, 0, 0)), radius_mm=6)
    assert (mask(segmentation, "a") == before).all()
    assert (before & mask(segmentation, "b")).any()


def test_the_modes_of_modification(editor, segmentation, volume):
    effect = editor.effectByName("Threshold")
    paint(editor, "a", "axial", world(volume, CENTRE), radius_mm=6)
    labelmap = effect.defaultModifierLabelmap()
    vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(SHAPE)[3, 4, 5] = 1
    effect.modifySegmentByLabelmap(segmentation, "a", labelmap, effect.ModificationModeSet)
    assert np.argwhere(mask(segmentation, "a")).tolist() == [[3, 4, 5]]
    effect.modifySegmentByLabelmap(segmentation, "a", labelmap, effect.ModificationModeRemove)
    assert not mask(segmentation, "a").any()


def test_another_segmentation_brings_its_volume_and_first_segment(scene, editor, volume):
    other = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    other.GetSegmentation().AddEmptySegment("c", "c")
    assert editor.currentSegmentID() == "a"
    assert editor.sourceVolumeNode() is volume
    editor.setActiveEffectByName("Paint")
    changed = []
    editor.connect("segmentationNodeChanged(vtkMRMLSegmentationNode*)", changed.append)
    editor.setSegmentationNode(other)
    assert changed == [other]
    assert editor.currentSegmentID() == "c"
    assert editor.sourceVolumeNode() is None
    assert editor.activeEffect() is None


def test_a_widget_of_a_modules_own(scene, segmentation, volume):
    widget = slicer.qMRMLSegmentEditorWidget()
    widget.setMRMLScene(scene)
    assert widget.segmentationNode() is None
    widget.setMRMLSegmentEditorNode(scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    widget.setSegmentationNode(segmentation)
    assert widget.sourceVolumeNode() is volume
    widget.maximumNumberOfUndoStates = 3
    assert widget.maximumNumberOfUndoStates == 3
    paint(widget, "a", "axial", world(volume, CENTRE), radius_mm=3)
    assert mask(segmentation, "a").any()
    widget.undo()
    assert not mask(segmentation, "a").any()
    mode = slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd
    assert mode == widget.effectByName("Paint").ModificationModeAdd


def test_a_closed_scene_leaves_an_empty_editor(scene, editor, segmentation):
    assert editor.segmentationNode() is segmentation
    scene.Clear(False)
    assert editor.segmentationNode() is None
    slicer.modules.segmenteditor.widgetRepresentation().enter()
    assert editor.segmentationNode().GetName() == "Segmentation"


def test_names_slicer_lacks_raise(editor):
    with pytest.raises(AttributeError):
        editor.masterVolume = 1
    with pytest.raises(AttributeError):
        editor.setSourceVolume(None)
    with pytest.raises(AttributeError):
        editor.effectByName("Paint").modify()
    assert editor.effectByName("Brush") is None
    with pytest.raises(TypeError):
        editor.undoEnabled()
