"""Planes painted in oblique slice views are supports on a grid of slices parallel to them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scenes import add_segment, blob, gradient, moved, rotation, slice_node
from mrml_scenes import scene as scene
from scipy.ndimage import affine_transform, binary_fill_holes

from FoBSAMLib import FoBSAMError
from FoBSAMLib.mrml import tags
from FoBSAMLib.mrml.drawn import read_drawn, support_of
from FoBSAMLib.mrml.masks import place, read_segments
from FoBSAMLib.mrml.volumes import read_volume

RADIUS = 20.0
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 1.2), (0.5, 0.5, 3.0)]
ANGLES = [(3, 0, 0), (10, 5, 0), (45, 0, 0), (35, 35, 0)]


class Case:
    """A ball in the middle of a turned volume, and a view through it at an angle."""

    def __init__(self, spacing: tuple[float, float, float], angles: tuple[float, float, float]):
        axes = rotation(15, -30, 40)
        self.matrix = moved(axes @ np.diag([*spacing, 1]), -20, 11, 7)
        self.shape = tuple(int(56 / n) for n in spacing[::-1])
        middle = (np.array(self.shape[::-1]) - 1) / 2
        self.middle = self.matrix[:3, :3] @ middle + self.matrix[:3, 3] + (0.3, 0.2, 0.1)
        self.view = axes @ rotation(*angles)
        self.view[:3, 3] = self.middle
        self.normal = self.view[:3, 2]

    def offsets(self, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Where the voxels of a grid lie, from the ball's middle: mm [K, J, I, 3]."""
        k, j, i = np.indices(shape)
        ijk = np.stack([i, j, k], axis=-1)
        return ijk @ matrix[:3, :3].T + matrix[:3, 3] - self.middle

    def ball(self, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        return np.square(self.offsets(matrix, shape)).sum(axis=-1) < RADIUS**2

    def painted(self, *planes: float, thick: float = 0.0) -> np.ndarray:
        """The ball where planes of the view cut it, as thick as Slicer's brush there; or of a
        thickness in mm."""
        along = self.offsets(self.matrix, self.shape) @ self.normal
        thick = thick or np.abs(self.normal @ self.matrix[:3, :3]).max()
        cut = [np.abs(along - plane) < thick / 2 for plane in planes]
        return self.ball(self.matrix, self.shape) & np.any(cut, axis=0)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def tilt(drawn, normal: np.ndarray) -> float:
    """How far the working grid's slices are off a view, in degrees."""
    own = drawn.ijk_to_world[:3, 2] / np.linalg.norm(drawn.ijk_to_world[:3, 2])
    return float(np.degrees(np.arccos(min(1.0, abs(own @ normal)))))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("angles", ANGLES)
@pytest.mark.parametrize("planes", [(0,), (0, 9, -8)])
@pytest.mark.parametrize("with_view", [True, False])
def test_planes_are_read_without_holes(scene, spacing, angles, planes, with_view):
    case = Case(spacing, angles)
    volume = scene.volume(gradient(case.shape), case.matrix)
    node = scene.segmentation({"ball": case.painted(*planes)}, case.matrix)
    views = [slice_node(scene, np.eye(4)), slice_node(scene, case.view)] if with_view else []
    drawn = read_drawn(volume, node, slice_nodes=views)
    # A plane that crosses few thick slices does not show its angle well, and in one it shows none.
    stairs = spacing[2] == 3 and angles == (3, 0, 0)
    assert (drawn.axis, drawn.oblique or stairs) == ("k", True)
    if not drawn.oblique:
        return
    assert tilt(drawn, case.normal) < (1e-3 if with_view else 5 if stairs else 0.5)
    masks = drawn.structures[0].masks
    assert len(masks) == len(planes)
    ball = case.ball(drawn.ijk_to_world, drawn.shape)
    for index, mask in masks.items():
        assert dice(mask, ball[index]) > (0.92 if stairs else 0.95)
        np.testing.assert_array_equal(mask, binary_fill_holes(mask, np.ones((3, 3))))
    indices = ", ".join(map(str, sorted(masks)))
    words = "oblique slice" if len(masks) == 1 else "oblique slices"
    assert drawn.describe() == [f"Ball: {words} {indices}"]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("angles", ANGLES)
def test_masks_go_back_to_the_voxels(scene, spacing, angles):
    case = Case(spacing, angles)
    volume = scene.volume(gradient(case.shape), case.matrix)
    drawn = read_drawn(volume, scene.segmentation({"ball": case.painted(0)}, case.matrix))
    found = case.ball(drawn.ijk_to_world, drawn.shape)
    to_grid = (np.linalg.inv(drawn.ijk_to_world) @ case.matrix)[2::-1]
    back = affine_transform(
        found.astype(np.uint8), to_grid[:, 2::-1], to_grid[:, 3], case.shape, order=0
    )
    assert dice(back > 0, case.ball(case.matrix, case.shape)) > 0.95


def test_transforms_count(scene):
    case = Case((0.7, 0.7, 1.2), (10, 5, 0))
    to_world = moved(rotation(12, 5, -30), 3, -8, 20)
    volume = scene.volume(gradient(case.shape), np.linalg.inv(to_world) @ case.matrix)
    own = moved(rotation(-5, 40, 9), 30, 8, -2)
    node = scene.segmentation({"ball": case.painted(0)}, np.linalg.inv(own) @ case.matrix)
    scene.transform(to_world, volume)
    scene.transform(own, node)
    drawn = read_drawn(volume, node, slice_nodes=[slice_node(scene, case.view)])
    assert tilt(drawn, case.normal) < 1e-3
    ((index, mask),) = drawn.structures[0].masks.items()
    assert dice(mask, case.ball(drawn.ijk_to_world, drawn.shape)[index]) > 0.95


def test_adjacent_planes_are_several_slices(scene):
    case = Case((1.0, 1.0, 1.0), (25, -15, 10))
    volume = scene.volume(gradient(case.shape), case.matrix)
    node = scene.segmentation({"ball": case.painted(0, 1, 2)}, case.matrix)
    drawn = read_drawn(volume, node, slice_nodes=[slice_node(scene, case.view)])
    masks = drawn.structures[0].masks
    ball = case.ball(drawn.ijk_to_world, drawn.shape)
    assert len(masks) == 3
    assert all(dice(mask, ball[index]) > 0.95 for index, mask in masks.items())


def test_a_small_structure_joins_the_plane_of_a_large_one(scene):
    """It is so small that it lies in one slice of the tilted volume."""
    case = Case((1.0, 1.0, 1.0), (3, 0, 0))
    volume = scene.volume(gradient(case.shape), case.matrix)
    plane = case.painted(0)
    small = np.zeros_like(plane)
    (k, j, i) = np.argwhere(plane)[len(np.argwhere(plane)) // 2]
    small[k, j - 3 : j + 4, i - 3 : i + 4] = plane[k, j - 3 : j + 4, i - 3 : i + 4]
    node = scene.segmentation({"small": small, "ball": plane & ~small}, case.matrix)
    drawn = read_drawn(volume, node)
    first, second = drawn.structures
    assert drawn.oblique
    assert list(first.masks) == list(second.masks)
    across = case.painted(0).any(axis=0).any(axis=0)
    upright = np.zeros_like(plane)
    upright[:, :, np.flatnonzero(across)[5]] = case.ball(case.matrix, case.shape)[:, :, 40]
    node = scene.segmentation({"upright": upright, "ball": plane}, case.matrix)
    with pytest.raises(FoBSAMError, match="Ball is drawn on oblique slices"):
        read_drawn(volume, node)


def test_a_segmentation_grid_that_is_turned(scene):
    """A plane of its own voxels lies obliquely in the volume."""
    case = Case((1.0, 1.0, 1.0), (20, 10, 0))
    volume = scene.volume(gradient(case.shape), case.matrix)
    node = scene.segmentation({}, case.matrix)
    own = case.view @ np.diag([0.8, 0.8, 1.1, 1])
    own[:3, 3] += own[:3, :3] @ (-40, -40, -3)
    add_segment(scene, node, "ball", blob((6, 80, 80), 0, 3), own)
    drawn = read_drawn(volume, node)
    assert drawn.oblique
    assert tilt(drawn, case.normal) < 1e-3
    ((_, mask),) = drawn.structures[0].masks.items()
    pixel = np.linalg.norm(drawn.ijk_to_world[:3, 0])
    area = np.count_nonzero(blob((6, 80, 80), 0, 3)) * 0.8**2
    assert np.count_nonzero(mask) * pixel**2 == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize("angles", [(25, -15, 10), (45, 0, 0)])
def test_a_filled_segment_keeps_its_oblique_grid(scene, angles):
    """What was accepted fills the segment, which does not show the drawn plane any more."""
    case = Case((1.0, 1.0, 1.0), angles)
    volume = scene.volume(gradient(case.shape), case.matrix)
    before = read_drawn(volume, scene.segmentation({"ball": case.painted(0)}, case.matrix))
    (drawn_index,) = before.structures[0].masks
    node = scene.segmentation({"ball": case.ball(case.matrix, case.shape)}, case.matrix)
    segment = node.GetSegmentation().GetSegment("ball")
    grid = tags.SliceGrid.of(node, before.ijk_to_world, before.shape, "k")
    patch = place(read_segments(node, ["ball"])["ball"], before.ijk_to_world, before.shape, "k")
    sums = {n: tags.checksum(mask, origin) for n, mask, origin in patch.slices("k")}
    tags.mark_found(segment, grid, {n: sums[n] for n in sums if n != drawn_index})
    after = read_drawn(volume, node)
    assert after.oblique
    np.testing.assert_allclose(after.ijk_to_world, before.ijk_to_world, atol=1e-5)
    (one,) = after.structures
    assert list(one.masks) == [drawn_index]
    assert len(one.found) == len(sums) - 1
    assert support_of(before, read_volume(scene.volume(gradient(before.shape)))).axis == "k"


def test_a_ball_is_no_plane_in_any_view(scene):
    case = Case((1.0, 1.0, 1.0), (25, -15, 10))
    volume = scene.volume(gradient(case.shape), case.matrix)
    node = scene.segmentation({"ball": case.ball(case.matrix, case.shape)}, case.matrix)
    with pytest.raises(FoBSAMError, match="neither on single slices nor in a plane"):
        read_drawn(volume, node, slice_nodes=[slice_node(scene, case.view)])


@pytest.mark.parametrize("with_view", [True, False])
@pytest.mark.parametrize(("thick", "off"), [(0.2, 0.3), (0.5, 0.15)])
def test_a_thin_brush_in_thick_slices_paints_rows_of_one_plane(scene, with_view, thick, off):
    # The fewer rows are painted, the less they show of where the ball ends.
    case = Case((0.5, 0.5, 4.0), (25, 0, 0))
    volume = scene.volume(gradient(case.shape), case.matrix)
    mask = case.painted(0, thick=thick)
    assert np.diff(np.flatnonzero(mask.any(axis=(0, 2)))).max() > 10, "rows far apart"
    node = scene.segmentation({"ball": mask}, case.matrix)
    views = [slice_node(scene, case.view)] if with_view else []
    drawn = read_drawn(volume, node, slice_nodes=views)
    assert drawn.oblique
    assert tilt(drawn, case.normal) < (0.1 if with_view else 3)
    (section,) = drawn.structures[0].masks.values()
    assert 2 * np.sqrt(section.sum() * 0.25 / np.pi) == pytest.approx(2 * RADIUS, rel=off)
