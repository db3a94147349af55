"""Prompts as points that can be edited, in a real MRML scene."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_small import TILTED  # noqa: E402

from FoBSAMLib.mrml.prompt_points import PromptPoints  # noqa: E402
from FoBSAMLib.prompts import Prompts  # noqa: E402

SHAPE = (20, 30, 40)  # K, J, I
PROMPTS = Prompts(
    np.array([[1, 2], [3.5, 4.25], [10, 11]], np.float32), np.array([[7.125, 8]], np.float32)
)


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


@pytest.fixture
def points(scene):
    return PromptPoints(scene, TILTED, SHAPE)


@pytest.fixture
def told(points):
    told: list[Prompts] = []
    points.on_edited(told.append)
    return told


def world(i: float, j: float, k: float) -> np.ndarray:
    return (TILTED @ [i, j, k, 1])[:3]


def positions(node) -> np.ndarray:
    count = node.GetNumberOfControlPoints()
    return np.array([node.GetNthControlPointPositionWorld(n) for n in range(count)])


def drag(node, n: int, *path: np.ndarray) -> None:
    """What Slicer's markups widget does to a point that is dragged."""
    node.InvokeEvent(node.PointStartInteractionEvent)
    for place in path:
        node.SetNthControlPointPositionWorld(n, *place)
    node.InvokeEvent(node.PointEndInteractionEvent)


def add_preview(node) -> int:
    """A new point that follows the mouse, as the widget adds one in place mode."""
    modifying = node.StartModify()
    n = node.AddNControlPoints(1, "", (0, 0, 0))
    node.ResetNthControlPointPosition(n)
    node.SetNthControlPointPositionWorld(n, 1, 2, 3, node.PositionPreview)
    node.EndModify(modifying)
    return n


def place_point(node, place: np.ndarray) -> None:
    """What the widget does to a point that is placed, from its preview to the click."""
    n = add_preview(node)
    for step in (0.5, 0.9):
        node.SetNthControlPointPositionWorld(n, *(step * place), node.PositionPreview)
    node.SetNthControlPointPositionWorld(n, *place, node.PositionDefined)


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("k", world(7.125, 8, 5)), ("j", world(7.125, 5, 8)), ("i", world(5, 7.125, 8))],
)
def test_points_are_shown_where_they_are_in_the_slice(points, axis, expected):
    points.show(PROMPTS, axis, 5)
    assert np.allclose(positions(points.foreground), [expected])
    assert points.background.GetNumberOfControlPoints() == 3
    for node in (points.foreground, points.background):
        display = node.GetDisplayNode()
        assert display.GetVisibility()
        assert not display.GetSliceProjection()
        assert not display.GetPointLabelsVisibility()
        assert not display.GetVisibility3D()
        assert not node.GetSaveWithScene()
        assert not display.GetSaveWithScene()


def test_showing_and_hiding_tells_nobody(points, told):
    points.show(PROMPTS, "k", 5)
    points.show(Prompts(), "k", 6)
    points.show(PROMPTS, "j", 7)
    points.hide()
    assert told == []
    assert points.foreground.GetNumberOfControlPoints() == 0
    assert not points.foreground.GetDisplayNode().GetVisibility()


def test_a_point_dragged_is_told_on_its_way_and_not_again_at_the_end(points, told):
    points.show(PROMPTS, "k", 5)
    drag(points.background, 1, world(4, 5, 5), world(5, 6, 5), world(6.5, 7, 5))
    way = [prompts.background[1] for prompts in told]
    assert np.allclose(way, [[4, 5], [5, 6], [6.5, 7]], atol=1e-4)
    assert np.allclose(told[-1].background, [[1, 2], [6.5, 7], [10, 11]], atol=1e-4)
    assert told[-1].background.dtype == np.float32
    assert np.allclose(told[-1].foreground, PROMPTS.foreground)


def test_a_point_dragged_out_of_the_plane_returns_when_it_is_let_go(points, told):
    points.show(PROMPTS, "k", 5)
    node = points.background
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(1, *world(6, 7, 8))
    assert np.allclose(positions(node)[1], world(6, 7, 8)), "the mouse has it"
    node.InvokeEvent(node.PointEndInteractionEvent)
    assert not np.allclose(positions(node)[1], world(6, 7, 8))
    assert np.isclose((np.linalg.inv(TILTED) @ [*positions(node)[1], 1])[2], 5, atol=1e-3)


def test_a_click_that_moves_nothing_is_not_told(points, told):
    points.show(PROMPTS, "k", 5)
    drag(points.background, 1)
    points.background.Modified()
    points.background.GetDisplayNode().SetGlyphScale(4)
    points.background.SetNthControlPointSelected(0, False)
    assert told == []


def test_a_point_placed_is_told_once_where_it_was_clicked(points, told):
    points.show(PROMPTS, "k", 5)
    place_point(points.foreground, world(20, 21.5, 5))
    assert len(told) == 1
    assert np.allclose(told[0].foreground, [[7.125, 8], [20, 21.5]], atol=1e-4)


def test_a_preview_point_that_is_given_up_is_not_told(points, told):
    points.show(PROMPTS, "k", 5)
    points.foreground.RemoveNthControlPoint(add_preview(points.foreground))
    assert told == []


def test_a_point_deleted_is_told_once(points, told):
    points.show(PROMPTS, "k", 5)
    points.background.RemoveNthControlPoint(0)
    assert len(told) == 1
    assert np.allclose(told[0].background, [[3.5, 4.25], [10, 11]])
    points.foreground.RemoveAllControlPoints()
    assert len(told) == 2
    assert told[1].foreground.shape == (0, 2)


def test_a_point_beside_the_slice_is_moved_onto_it(points, told):
    points.show(PROMPTS, "k", 5)
    drag(points.foreground, 0, world(9, 10, 8.5))
    assert np.allclose(told[0].foreground, [[9, 10]], atol=1e-4)
    assert np.allclose(positions(points.foreground), [world(9, 10, 5)])
    assert len(told) == 1


def test_a_point_beside_the_image_is_moved_to_its_border(points, told):
    points.show(PROMPTS, "j", 5)
    drag(points.foreground, 0, world(-4, 5, 50))
    assert np.allclose(told[0].foreground, [[0, SHAPE[0] - 1]])
    assert np.allclose(positions(points.foreground), [world(0, 5, SHAPE[0] - 1)])


def test_in_a_sheared_grid_the_nearest_point_is_along_the_normal(scene):
    sheared = np.array([[1, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    points = PromptPoints(scene, sheared, SHAPE)
    told: list[Prompts] = []
    points.on_edited(told.append)
    points.show(Prompts(foreground=np.array([[3, 3]], np.float32)), "k", 4)
    x, y, z, _ = sheared @ [10, 10, 4, 1]
    drag(points.foreground, 0, np.array([x, y, z + 3]))
    assert np.allclose(told[0].foreground, [[10, 10]])


def test_what_a_callback_shows_is_not_told_again(points):
    told = []

    def correct(prompts):
        told.append(prompts)
        points.show(prompts, "k", 5)

    points.on_edited(correct)
    points.show(PROMPTS, "k", 5)
    drag(points.foreground, 0, world(9, 10, 5))
    assert len(told) == 1


def test_removed_they_leave_nothing_behind(scene):
    scene.AddNewNodeByClass("vtkMRMLSubjectHierarchyNode")  # else it comes with the first node
    before = scene.GetNumberOfNodes()
    points = PromptPoints(scene, TILTED, SHAPE)
    points.show(PROMPTS, "k", 5)
    scene.RemoveNode(points.background)  # by the user, in the Data module
    points.show(PROMPTS, "k", 6)
    points.remove()
    points.remove()
    assert scene.GetNumberOfNodes() == before
