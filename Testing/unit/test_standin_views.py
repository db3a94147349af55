"""The stand-in's views: the way up Slicer has them, and they show what is in the scene."""

from __future__ import annotations

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import slicer  # noqa: E402
import vtk  # noqa: E402
from PySide6 import QtWidgets  # noqa: E402
from standin import scene as standin_scene  # noqa: E402
from standin import screenshots, views  # noqa: E402
from standin.brush import paint  # noqa: E402

application = pytest.fixture(autouse=True)(standin.fresh)

SIZE = (300, 240)
#: Where the bright block lies: right, anterior, superior of the middle (0, 0, 0).
BLOCK = (25.0, 25.0, 25.0)
#: Colours differ in a view by more than this (0 to 255) where something is shown.
SEEN = 20


@pytest.fixture
def manager(application):
    """The application's views, in a size of their own."""
    manager = slicer.app.layoutManager()
    for name in (*manager.sliceViewNames(), "1"):
        views.resize(manager, name, SIZE)
    return manager


@pytest.fixture
def scene(manager):
    return slicer.mrmlScene


@pytest.fixture
def volume(scene, manager):
    """100 mm wide around the origin, LPS axes, 2×2×4 mm: a bright block in a grey cube."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "volume")
    array = np.full((25, 50, 50), 60, np.int16)
    matrix = np.diag([-2.0, -2.0, 4.0, 1.0])
    matrix[:3, 3] = (49, 49, -48)
    k, j, i = np.indices(array.shape)
    ras = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T + matrix[:3, 3]
    array[(np.abs(ras - BLOCK) < 12).all(axis=-1)] = 100
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0, 100)
    for name in manager.sliceViewNames():
        manager.sliceWidget(name).mrmlSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
    manager.resetSliceViews()
    return node


@pytest.fixture
def segmentation(scene, volume):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("a", "a", (1.0, 0.0, 0.0))
    return node


@pytest.fixture
def editor(segmentation):
    slicer.modules.segmenteditor.widgetRepresentation().enter()
    return slicer.modules.segmenteditor.widgetRepresentation().self().editor


def pixel(manager, name: str, ras) -> tuple[int, int]:
    """Row and column of a point of the world in the picture of a slice view."""
    x, y, _ = manager.sliceWidget(name).sliceView().convertRASToXYZ(ras)
    return round(SIZE[1] - 1 - y), round(x)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixels that differ clearly, bool [H, W]."""
    return np.abs(after.astype(int) - before).max(axis=2) > SEEN


@pytest.mark.parametrize("name", ["Red", "Green", "Yellow"])
def test_a_slice_view_is_the_right_way_round(name, manager, volume):
    """The patient's right, in sagittal views its front, is on the left; front or head are up."""
    manager.sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*BLOCK)
    shown = views.picture(manager, name)
    assert shown.shape == (SIZE[1], SIZE[0], 3)
    rows, columns = np.nonzero((shown > 230).all(axis=2))
    assert columns.mean() < SIZE[0] / 2
    assert rows.mean() < SIZE[1] / 2
    row, column = pixel(manager, name, BLOCK)
    assert abs(rows.mean() - row) < 8
    assert abs(columns.mean() - column) < 8


def test_the_window_of_the_volume_acts(manager, volume):
    row, column = pixel(manager, "Red", (0, 0, 0))
    assert views.picture(manager, "Red")[row, column] == pytest.approx([153] * 3, abs=3)
    volume.GetDisplayNode().SetWindowLevelMinMax(50, 70)
    assert views.picture(manager, "Red")[row, column] == pytest.approx([127] * 3, abs=3)


@pytest.mark.parametrize(("name", "view"), [("Red", "axial"), ("Green", "coronal")])
def test_a_painted_disc_is_seen_where_it_was_painted(name, view, manager, editor, volume):
    centre = np.array([-19.0, 9.0, 4.0])
    manager.sliceWidget(name).mrmlSliceNode().JumpSliceByOffsetting(*centre)
    before = views.picture(manager, name)
    paint(editor, "a", view, centre, radius_mm=10)
    seen = changed(before, views.picture(manager, name))
    rows, columns = np.indices(seen.shape)
    row, column = pixel(manager, name, centre)
    edge = pixel(manager, name, np.add(centre, (-10, 0, 0)))[1] - column
    distance = np.hypot(rows - row, columns - column)
    assert not seen[distance > edge + 6].any()
    assert seen[distance < edge - 8].mean() > 0.95
    other = "Yellow"
    manager.sliceWidget(other).mrmlSliceNode().JumpSliceByOffsetting(30, 0, 0)
    assert (views.picture(manager, other)[..., 0] == views.picture(manager, other)[..., 1]).all()


def test_a_disc_painted_in_a_turned_view_fills_it_there(manager, editor, volume):
    node = manager.sliceWidget("Red").mrmlSliceNode()
    turned = vtk.vtkTransform()
    turned.Concatenate(node.GetSliceToRAS())
    turned.RotateX(25)
    node.GetSliceToRAS().DeepCopy(turned.GetMatrix())
    node.UpdateMatrices()
    centre = np.array([-19.0, -15.0, 0.0])
    node.JumpSliceByOffsetting(*centre)
    before = views.picture(manager, "Red")
    paint(editor, "a", node, centre, radius_mm=12)
    seen = changed(before, views.picture(manager, "Red"))
    row, column = pixel(manager, "Red", centre)
    rows, columns = np.indices(seen.shape)
    distance = np.hypot(rows - row, columns - column)
    edge = 12 * SIZE[1] / node.GetFieldOfView()[1]
    assert seen[distance < edge - 8].mean() > 0.9
    assert not seen[distance > edge + 8].any()


def test_a_point_is_seen_on_its_slice_only(scene, manager, volume):
    node = manager.sliceWidget("Red").mrmlSliceNode()
    node.JumpSliceByOffsetting(0, 0, 0)
    before = views.picture(manager, "Red")
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.CreateDefaultDisplayNodes()
    points.GetDisplayNode().SetSelectedColor(0, 1, 0)
    points.GetDisplayNode().SetTextScale(0)
    points.AddControlPoint(vtk.vtkVector3d(-20, 10, 0))
    after = views.picture(manager, "Red")
    rows, columns = np.nonzero(changed(before, after))
    row, column = pixel(manager, "Red", (-20, 10, 0))
    assert abs(rows.mean() - row) < 2
    assert abs(columns.mean() - column) < 2
    assert (after[row, column] == (0, 255, 0)).all()
    node.JumpSliceByOffsetting(0, 0, 20)
    points.SetDisplayVisibility(False)
    hidden = views.picture(manager, "Red")
    points.SetDisplayVisibility(True)
    assert not changed(hidden, views.picture(manager, "Red")).any()


def test_a_closed_surface_is_seen_in_3d(manager, editor, segmentation):
    for offset in (-4, 0, 4):
        paint(editor, "a", "axial", (0, 0, offset), radius_mm=20)
    manager.resetThreeDViews()
    before = views.picture(manager, "1")
    segmentation.CreateClosedSurfaceRepresentation()
    after = views.picture(manager, "1")
    red = (after[..., 0] > 1.5 * after[..., 1]) & (after[..., 0] > 1.5 * after[..., 2])
    assert red[SIZE[1] // 2, SIZE[0] // 2]
    assert changed(before, after)[red].all()


def test_the_editors_source_volume_is_shown(scene, manager, volume, segmentation):
    composite = manager.sliceWidget("Red").mrmlSliceCompositeNode()
    composite.SetBackgroundVolumeID(None)
    slicer.modules.segmenteditor.widgetRepresentation().enter()
    assert composite.GetBackgroundVolumeID() == volume.GetID()


def test_the_views_go_on_with_the_nodes_of_a_cleared_scene(manager, volume):
    for clear in (lambda: slicer.mrmlScene.Clear(False), standin_scene.reset):
        clear()
        for name, (_label, orientation, _color) in standin_scene.SLICE_VIEWS.items():
            node = manager.sliceWidget(name).mrmlSliceNode()
            assert node is slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode")
            assert node.GetOrientation() == orientation
            assert not views.picture(manager, name).any()
        view = manager.activeMRMLThreeDViewNode()
        assert view is slicer.mrmlScene.GetSingletonNode("1", "vtkMRMLViewNode")
        assert views.picture(manager, "1").any()


@pytest.mark.parametrize(("theme", "lightness"), [("light", 0xEF), ("dark", 0x32)])
def test_a_screenshot_holds_the_panel_and_the_views(theme, lightness, manager, volume):
    panel = QtWidgets.QWidget()
    panel.setMinimumHeight(1200)
    screenshots.fit_views(manager)
    screenshots.use_theme(theme)
    image = screenshots.compose(panel, manager)
    assert (image.width(), image.height()) == (screenshots.WINDOW[0], 1200)
    assert image.pixelColor(100, 1100).lightness() == lightness
    red = standin_scene.SLICE_VIEWS["Red"][2]
    bar = image.pixelColor(screenshots.PANEL_WIDTH + 8, 2).getRgbF()[:3]
    assert bar == pytest.approx(red, abs=0.01)
    assert image.pixelColor(730, 230).lightness() > 100


def test_names_slicer_lacks_raise(manager):
    assert manager.sliceWidget("Blue") is None
    assert manager.threeDViewCount == 1
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    for thing, name in (
        (manager, "sliceNode"),
        (manager.sliceWidget("Red"), "sliceNode"),
        (manager.sliceWidget("Red").sliceView(), "picture"),
        (manager.threeDWidget(0).threeDView(), "cameras"),
    ):
        with pytest.raises(AttributeError):
            getattr(thing, name)
        with pytest.raises(AttributeError):
            setattr(thing, name, 1)
