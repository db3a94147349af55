"""Accepting between grids that differ: transforms, finer, turned and oblique ones."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_accepting import FOUND_LIVER, LIVER, SHAPE, Case, slices_of  # noqa: E402
from mrml_scenes import gradient, moved, rotation  # noqa: E402
from mrml_scenes import scene as scene  # noqa: E402
from mrml_small import STRAIGHT, TILTED, voxels  # noqa: E402

from FoBSAMLib.image.segmentation import Structure  # noqa: E402
from FoBSAMLib.mrml.accept import accept  # noqa: E402
from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure, read_drawn  # noqa: E402
from FoBSAMLib.mrml.editing import LogicEditing  # noqa: E402
from FoBSAMLib.mrml.labelmaps import geometry_of, labelmap_of  # noqa: E402
from FoBSAMLib.mrml.masks import Patch, SegmentMask, place, read_segments  # noqa: E402


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


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_on_a_finer_grid_under_a_transform_found_and_drawn_are_told_apart(scene, axis):
    shape, number = (12, 24, 26), "kji".index(axis)
    fine = TILTED @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] = (TILTED @ [-0.25, -0.25, -0.25, 1])[:3]
    body = np.zeros(shape, bool)
    body[2:10, 4:20, 5:21] = np.random.default_rng(3).random((8, 16, 16)) < 0.8
    drawn_mask = np.zeros(shape, bool)
    np.moveaxis(drawn_mask, number, 0)[7] = body.take(7, number)
    volume = scene.volume(gradient(shape), TILTED)
    finer = drawn_mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    node = scene.segmentation({"liver": finer}, fine)
    scene.transform(moved(rotation(17, -23, 41), 3, -8, 20), volume, node)
    drawn = read_drawn(volume, node)
    assert (drawn.axis, list(drawn.structures[0].masks)) == (axis, [7])
    accept(drawn, {"liver": slices_of(body, axis)}, {}, volume, node, LogicEditing(scene.mrml))
    again = read_drawn(volume, node)
    assert list(again.structures[0].masks) == [7]
    touched = {n for n, mask in slices_of(body, axis).items() if mask.any()}
    assert touched - {7} <= set(again.structures[0].found)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 1.2)])
@pytest.mark.parametrize("only", [range(0, 100), range(20, 27)], ids=["all slices", "some slices"])
def test_what_was_found_in_oblique_slices_is_told_from_what_was_drawn(scene, spacing, only):
    """Drawn, read, accepted and read again: the same support, and the rest as found."""
    matrix = rotation(15, -30, 40) @ np.diag([*spacing, 1])
    shape = tuple(int(56 / n) for n in spacing[::-1])
    middle = matrix[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    normal = (rotation(15, -30, 40) @ rotation(25, -15, 10))[:3, 2]
    k, j, i = np.indices(shape)
    offsets = np.stack([i, j, k], axis=-1) @ matrix[:3, :3].T - middle
    ball = np.square(offsets).sum(axis=-1) < 20**2
    thick = np.abs(normal @ matrix[:3, :3]).max()
    painted = ball & (np.abs(offsets @ normal) < thick / 2)
    volume = scene.volume(gradient(shape), matrix)
    node = scene.segmentation({"ball": painted}, matrix, volume)
    drawn = read_drawn(volume, node)
    assert drawn.oblique
    (support,) = drawn.structures[0].masks
    found = place(SegmentMask(Patch(ball, (0, 0, 0)), matrix), drawn.ijk_to_world, drawn.shape, "k")
    results = {n: np.zeros(drawn.shape[1:], bool) for n in only if n < drawn.shape[0]}
    for n, mask, (row, column) in found.slices("k"):
        if n in results and n != support:
            results[n][row : row + mask.shape[0], column : column + mask.shape[1]] = mask
    accept(drawn, {"ball": results}, {}, volume, node, LogicEditing(scene.mrml))
    assert (voxels(node, "ball", shape) & painted == painted).all()
    again = read_drawn(volume, node)
    assert again.oblique
    assert list(again.structures[0].masks) == [support]
    got = voxels(node, "ball", shape)
    if len(only) == 100:
        assert 2 * (got & ball).sum() / (got.sum() + ball.sum()) > 0.9
    edited = got.copy()
    k, j, i = np.argwhere(got)[0]
    edited[k : k + 2, j - 3 : j + 4, i - 3 : i + 4] = False
    scene.segmentations.SetBinaryLabelmapToSegment(
        labelmap_of(edited.astype(np.uint8), matrix), node, "ball"
    )
    assert len(read_drawn(volume, node).structures[0].masks) > 1


def _read(case, grid, shape):
    patch = place(read_segments(case.node, ["liver"])["liver"], grid, shape, "k")
    whole = np.zeros(shape, bool)
    box = tuple(slice(a, a + n) for a, n in zip(patch.start, patch.voxels.shape, strict=True))
    whole[box] = patch.voxels
    return whole
