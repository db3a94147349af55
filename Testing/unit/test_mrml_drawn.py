"""What is drawn in a segmentation node is read as supports, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scenes import (
    GEOMETRIES,
    SHAPE,
    add_segment,
    bend,
    blob,
    gradient,
    moved,
    rotation,
    scene,  # noqa: F401
    vtk,
)

from FoBSAMLib import FoBSAMError
from FoBSAMLib.image.volume import ARRAY_AXIS
from FoBSAMLib.mrml import tags
from FoBSAMLib.mrml.drawn import read_drawn, support_of
from FoBSAMLib.mrml.volumes import read_volume

AXES = [("k", 5), ("j", 13), ("i", 31)]
SHIFTED = moved(rotation(12, 5, -30), 3, -8, 20)
OTHER = moved(rotation(-5, 40, 9), 30, 8, -2) @ np.diag([1, 1, -1.25, 1])
STRAIGHT = GEOMETRIES["straight"]


def whole(drawn, segment_id: str) -> np.ndarray:
    """A structure's masks as one, bool [K, J, I]."""
    (one,) = (s for s in drawn.structures if s.segment_id == segment_id)
    result = np.zeros(drawn.shape, bool)
    for index, mask in one.masks.items():
        np.moveaxis(result, ARRAY_AXIS[drawn.axis], 0)[index] = mask
    return result


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("axis", "index"), AXES)
def test_one_slice_is_read_back_voxel_for_voxel(scene, geometry, axis, index):  # noqa: F811
    volume = scene.volume(gradient(), GEOMETRIES[geometry])
    mask = blob(SHAPE, ARRAY_AXIS[axis], index)
    node = scene.segmentation({"liver": mask}, GEOMETRIES[geometry])
    drawn = read_drawn(volume, node)
    assert (drawn.axis, drawn.shape, drawn.oblique) == (axis, SHAPE, False)
    np.testing.assert_array_equal(whole(drawn, "liver"), mask)
    np.testing.assert_allclose(drawn.ijk_to_world, GEOMETRIES[geometry])
    support = support_of(drawn, read_volume(volume))
    assert support.indices(support.structures[0]) == (index,)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("axis", "index"), AXES)
@pytest.mark.parametrize(
    ("volume_to_world", "segmentation_to_world"),
    [(SHIFTED, SHIFTED), (SHIFTED, OTHER), (SHIFTED, None), (None, OTHER)],
)
def test_transforms_of_both_count(
    scene,  # noqa: F811
    geometry,
    axis,
    index,
    volume_to_world,
    segmentation_to_world,
):
    volume = scene.volume(gradient(), GEOMETRIES[geometry])
    to_world = GEOMETRIES[geometry]
    if volume_to_world is not None:
        scene.transform(volume_to_world, volume)
        to_world = volume_to_world @ to_world
    # The segmentation lies on the volume's voxels in the world, whatever its own transform is.
    own = np.eye(4) if segmentation_to_world is None else segmentation_to_world
    mask = blob(SHAPE, ARRAY_AXIS[axis], index)
    node = scene.segmentation({"liver": mask}, np.linalg.inv(own) @ to_world)
    if segmentation_to_world is not None:
        scene.transform(segmentation_to_world, node)
    drawn = read_drawn(volume, node)
    np.testing.assert_array_equal(whole(drawn, "liver"), mask)
    np.testing.assert_allclose(drawn.ijk_to_world, to_world)


@pytest.mark.parametrize("start", [(4, 9, 3), (-2, -5, 0), (8, 30, 40)])
def test_a_labelmap_of_any_extent(scene, start):  # noqa: F811
    volume = scene.volume(gradient(), GEOMETRIES["oblique"])
    node = scene.segmentation({}, GEOMETRIES["oblique"])
    labels = np.zeros((6, 16, 14), bool)
    labels[3, 2:12, 4:11] = True
    add_segment(scene, node, "liver", labels, GEOMETRIES["oblique"], start)
    expected = np.zeros(SHAPE, bool)
    at = np.argwhere(labels) + start
    expected[tuple(at[((at >= 0) & (at < SHAPE)).all(axis=1)].T)] = True
    np.testing.assert_array_equal(whole(read_drawn(volume, node), "liver"), expected)


def test_a_labelmap_whose_index_axes_run_otherwise(scene):  # noqa: F811
    to_world = GEOMETRIES["tilted"]
    volume = scene.volume(gradient(), to_world)
    mask = blob(SHAPE, 0, 5)
    # Axes i, j, k of the labelmap are k, i and j backwards of the volume.
    order, last = [2, 0, 1], SHAPE[1] - 1
    turned = to_world.copy()
    turned[:, :3] = to_world[:, order]
    turned[:3, 3] += to_world[:3, 1] * last
    turned[:3, 2] *= -1
    node = scene.segmentation({"liver": np.flip(mask.transpose(1, 2, 0), 0)}, turned)
    np.testing.assert_array_equal(whole(read_drawn(volume, node), "liver"), mask)


def test_several_structures_in_shared_and_separate_layers(scene):  # noqa: F811
    volume = scene.volume(gradient())
    masks = {
        "liver": blob(SHAPE, 0, 3, 8),
        "cyst": blob(SHAPE, 0, 3) & (np.arange(SHAPE[2]) > 30),
        "spleen": np.roll(blob(SHAPE, 0, 9), 20, axis=2),
    }
    masks["liver"] &= ~masks["cyst"]
    masks["overlap"] = np.roll(masks["liver"], 2, axis=1)
    node = scene.segmentation({**masks, "empty": np.zeros(SHAPE, bool)}, shared=True)
    assert node.GetSegmentation().GetNumberOfLayers() < len(masks)
    segment = node.GetSegmentation().GetSegment("cyst")
    segment.SetName("Liver")
    segment.SetTag("TerminologyEntry", "a~b~c")
    drawn = read_drawn(volume, node)
    for segment_id, mask in masks.items():
        np.testing.assert_array_equal(whole(drawn, segment_id), mask)
    structures = [one.structure for one in drawn.structures]
    assert [s.name for s in structures] == ["Liver", "Liver (2)", "Spleen", "Overlap"]
    assert [s.label for s in structures] == [1, 2, 3, 4]
    assert [s.id for s in structures] == list(masks)
    assert structures[1].terminology == "a~b~c"
    np.testing.assert_allclose(structures[0].color, (1 / 8, 0.5, 0.25))
    assert drawn.describe()[0] == "Liver: axial slices 3, 8"
    chosen = read_drawn(volume, node, ["spleen"])
    assert [one.segment_id for one in chosen.structures] == ["spleen"]
    assert len(support_of(drawn, read_volume(volume)).structures) == 4


def test_views_are_named_by_the_patient(scene):  # noqa: F811
    node = scene.segmentation({"liver": blob(SHAPE, 0, 5)}, GEOMETRIES["permuted"])
    drawn = read_drawn(scene.volume(gradient(), GEOMETRIES["permuted"]), node)
    assert drawn.describe() == ["Liver: sagittal slice 5"]


def test_accepted_slices_are_no_supports_until_edited(scene):  # noqa: F811
    volume = scene.volume(gradient())
    mask = blob(SHAPE, 0, *range(2, 10))
    node = scene.segmentation({"liver": mask})
    segment = node.GetSegmentation().GetSegment("liver")
    grid = tags.SliceGrid.of(node, STRAIGHT, SHAPE, "k")
    slices = {n: mask[n] for n in range(2, 10) if n != 5}
    slices[7] = np.roll(mask[7], 1)  # as it was before somebody edited it
    tags.mark_found(segment, grid, {n: tags.checksum(slices[n]) for n in slices})
    tags.mark_absent(segment, grid, [0, 1, 7])
    (one,) = read_drawn(volume, node).structures
    assert list(one.masks) == [5, 7]
    assert one.found == (2, 3, 4, 6, 8, 9)
    assert one.absent == (0, 1)
    assert read_drawn(volume, node).describe() == [
        "Liver: axial slices 5, 7 (6 accepted slices not used)"
    ]
    tags.mark_found(segment, grid, {n: tags.checksum(mask[n]) for n in range(12)})
    with pytest.raises(FoBSAMError, match="only accepted results"):
        read_drawn(volume, node)


def test_structures_drawn_in_different_views(scene):  # noqa: F811
    volume = scene.volume(gradient())
    node = scene.segmentation({"liver": blob(SHAPE, 0, 5), "spleen": blob(SHAPE, 2, 9)})
    with pytest.raises(FoBSAMError, match=r"Liver is drawn on axial .* Spleen .* sagittal"):
        read_drawn(volume, node)


def test_a_dot_lies_where_the_others_do(scene):  # noqa: F811
    volume = scene.volume(gradient())
    dot = np.zeros(SHAPE, bool)
    dot[4, 7, 7:12] = True
    node = scene.segmentation({"dot": dot, "liver": blob(SHAPE, 1, 7)})
    assert read_drawn(volume, node).axis == "j"
    with pytest.raises(FoBSAMError, match="coronal or axial"):
        read_drawn(volume, node, ["dot"])
    assert read_drawn(volume, node, ["dot"], axis="k").axis == "k"


def test_the_axis_of_one_slice_images_and_of_sparse_slices(scene):  # noqa: F811
    line = np.zeros((1, 40, 48), bool)
    line[0, 20, 3:9] = True
    image = scene.volume(gradient((1, 40, 48)))
    assert read_drawn(image, scene.segmentation({"line": line})).axis == "k"
    sparse = np.zeros(SHAPE, bool)
    sparse[::2, 20:23, 30:33] = True
    drawn = read_drawn(scene.volume(gradient()), scene.segmentation({"node": sparse}))
    assert (drawn.axis, list(drawn.structures[0].masks)) == ("k", [0, 2, 4, 6, 8, 10])


@pytest.mark.parametrize("thick", [2, 3])
@pytest.mark.parametrize("shrink", [0, 4])
def test_adjacent_slices_are_slices(scene, thick, shrink):  # noqa: F811
    mask = blob(SHAPE, 0, *range(5, 5 + thick))
    mask[5, :, : 12 + shrink] = False
    drawn = read_drawn(scene.volume(gradient()), scene.segmentation({"liver": mask}))
    assert (drawn.oblique, list(drawn.structures[0].masks)) == (False, [5, 6, 7][:thick])


@pytest.mark.parametrize("axis", ["k", "j", "i"])
@pytest.mark.parametrize("finer", [0.31, 0.5, 1.0, 2.0])
def test_a_finer_or_coarser_segmentation_grid(scene, axis, finer):  # noqa: F811
    """A slice painted between two slices of the volume belongs to the nearer one."""
    to_world = GEOMETRIES["oblique"]
    volume = scene.volume(gradient(), to_world)
    shift = np.array([0.21, -0.13, 0.17])
    to_volume = np.diag([finer, finer, finer, 1.0])
    to_volume[:3, 3] = shift
    shape = tuple(int(n / finer) for n in SHAPE)
    n = ARRAY_AXIS[axis]
    index = shape[n] // 2
    mask = blob(shape, n, index)
    node = scene.segmentation({}, to_world)
    add_segment(scene, node, "liver", mask, to_world @ to_volume)
    drawn = read_drawn(volume, node)
    assert drawn.axis == axis
    centre = index * finer + shift["ijk".index(axis)]
    slices = list(drawn.structures[0].masks)
    assert all(abs(n - centre) <= max(0.5, finer / 2) for n in slices)
    assert len(slices) == max(1, finer)
    # In the plane, the nearest voxel.
    others = [m for m in range(3) if m != n]
    origin = [shift[2 - m] for m in others]
    rows, columns = (
        np.rint((np.arange(SHAPE[m]) - o) / finer).astype(int)
        for m, o in zip(others, origin, strict=True)
    )
    plane = np.pad(mask.take(index, axis=n), 40)
    expected = plane[np.ix_(rows + 40, columns + 40)]
    for found in drawn.structures[0].masks.values():
        np.testing.assert_array_equal(found, expected)


def test_nothing_of_the_drawing_lies_on_the_image(scene):  # noqa: F811
    volume = scene.volume(gradient())
    mask = blob(SHAPE, 0, 5)
    for away in (moved(STRAIGHT, 500, 0, 0), moved(STRAIGHT, 500.4, 0, 0.6)):
        node = scene.segmentation({"liver": mask}, away)
        with pytest.raises(FoBSAMError, match="Nothing of Organs lies on CT") as error:
            read_drawn(volume, node)
        assert error.value.code == "bad_geometry"


def test_a_blob_is_refused(scene):  # noqa: F811
    shape = (40, 40, 40)
    k, j, i = np.indices(shape) - 20
    node = scene.segmentation({"liver": k * k + j * j + i * i < 100})
    with pytest.raises(FoBSAMError, match="Liver is drawn neither on single slices") as error:
        read_drawn(scene.volume(gradient(shape)), node)
    assert "19 × 19 × 19 voxels" in error.value.message
    assert "single slices" in error.value.hint


def test_a_surface_is_not_voxels(scene):  # noqa: F811
    node = scene.mrml.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mesh")
    node.SetSourceRepresentationToClosedSurface()
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    node.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "ball", [1.0, 0.0, 0.0])
    with pytest.raises(FoBSAMError, match="Mesh is kept as 'Closed surface'"):
        read_drawn(scene.volume(gradient()), node)


def test_what_cannot_be_read(scene):  # noqa: F811
    volume = scene.volume(gradient())
    node = scene.segmentation({"empty": np.zeros(SHAPE, bool)})
    for segments, words in [(None, "Nothing is drawn"), (["tumour"], "no segment 'tumour'")]:
        with pytest.raises(FoBSAMError, match=words):
            read_drawn(volume, node, segments)
    with pytest.raises(FoBSAMError, match="no axis 'x'"):
        read_drawn(volume, node, axis="x")
    with pytest.raises(FoBSAMError, match="no volume"):
        read_drawn(None, node)
    with pytest.raises(FoBSAMError, match="no segmentation"):
        read_drawn(volume, None)
    drawn = scene.segmentation({"liver": blob(SHAPE, 0, 5)})
    bend(scene, drawn)
    with pytest.raises(FoBSAMError, match="Organs is under a non-linear"):
        read_drawn(volume, drawn)
