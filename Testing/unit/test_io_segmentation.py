"""Segmentations as files: round trips, and labelmaps that do not fit the image."""

from __future__ import annotations

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from io_files import CHEST, DRAWN, NOISE, OVERLAPPING, RNG, blob, one_structure, refusal, save
from test_volume import geometries

from FoBSAMLib.image.io import read_segmentation, read_volume, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure
from FoBSAMLib.image.volume import Volume


@pytest.mark.parametrize("path", [DRAWN, OVERLAPPING])
def test_slicers_file_is_kept_whole(path: str, tmp_path: Path) -> None:
    chest = read_volume(CHEST)
    segmentation = read_segmentation(path, chest)
    write_segmentation(tmp_path / "copy.seg.nrrd", segmentation, name="chest")
    voxels, header = nrrd.read(path)
    copied_voxels, copied = nrrd.read(str(tmp_path / "copy.seg.nrrd"))
    assert (copied_voxels == voxels).all()
    assert copied["content"] == "chest"
    assert copied["encoding"] == "gzip"
    assert chest.same_grid(segmentation.shape, segmentation.ijk_to_ras)
    for key, value in header.items():
        if key.endswith("_Color"):
            assert np.array_equal(*[np.array(h[key].split(), float) for h in (copied, header)])
        elif key.endswith(("_Name", "_ID", "_LabelValue", "_Layer")):
            assert copied[key] == value
        elif key.endswith("_Tags"):
            assert set(copied[key].split("|")) == set(value.split("|"))
        elif key.startswith("Segmentation_"):
            assert copied[key].rstrip("&") == value.rstrip("&")
    again = read_segmentation(tmp_path / "copy.seg.nrrd", chest)
    assert again.structures == segmentation.structures
    assert again.header.items() >= segmentation.header.items()


def test_lungs_by_name_lie_in_air() -> None:
    chest = read_volume(CHEST)
    segmentation = read_segmentation(DRAWN, chest)
    lungs = segmentation.select(["right lung", "left lung"])
    assert all(chest.array[segmentation.mask(lung)].mean() < -600 for lung in lungs)
    # The right lung is on the right, where R of RAS is larger.
    right, left = (np.argwhere(segmentation.mask(lung)).mean(axis=0) for lung in lungs)
    assert (chest.ijk_to_ras @ [*right[::-1], 1])[0] > (chest.ijk_to_ras @ [*left[::-1], 1])[0]


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha"])
def test_segmentation_there_and_back_on_any_grid(suffix: str, tmp_path: Path) -> None:
    @settings(deadline=None, max_examples=15)
    @given(geometries())
    def check(matrix: np.ndarray) -> None:
        volume = Volume.from_array(NOISE, ijk_to_ras=matrix)
        write_segmentation(tmp_path / f"x{suffix}", one_structure(matrix))
        back = read_segmentation(tmp_path / f"x{suffix}", volume)
        [structure] = back.structures
        assert structure.label == 3
        assert (back.mask(structure) == blob()).all()
        np.testing.assert_allclose(back.ijk_to_ras, matrix, atol=2e-3)
        if suffix == ".seg.nrrd":
            assert (structure.name, structure.color) == ("liver", (0.5, 0.25, 0.125))

    check()


def test_output_is_compressed(tmp_path: Path) -> None:
    large = one_structure(np.eye(4), blob((40, 100, 100)))
    for suffix in (".seg.nrrd", ".nrrd", ".nii.gz", ".mha"):
        write_segmentation(tmp_path / f"x{suffix}", large)
        assert (tmp_path / f"x{suffix}").stat().st_size < 40_000


def test_overlap_in_a_plain_labelmap(tmp_path: Path) -> None:
    inner = blob()
    inner[1, 1] = False
    masks = [(Structure("inner", 1), inner), (Structure("outer", 1), blob())]
    write_segmentation(tmp_path / "x.nii.gz", Segmentation.from_masks(np.eye(4), masks))
    first, second = read_segmentation(tmp_path / "x.nii.gz").structures
    back = read_segmentation(tmp_path / "x.nii.gz")
    assert (first.label, second.label) == (1, 2)
    assert (back.mask(first) == inner).all()
    assert (back.mask(second) == blob() & ~inner).all()


def test_mask_of_a_photograph(tmp_path: Path) -> None:
    photograph = Volume.from_array(
        RNG.integers(0, 255, (1, 6, 5, 3), np.uint8), ijk_to_ras=np.diag([-1.0, -1, 1, 1])
    )
    drawn = blob()[1:2]
    save(tmp_path / "mask.png", drawn[0].astype(np.uint8) * 255)
    segmentation = read_segmentation(tmp_path / "mask.png", photograph)
    [structure] = segmentation.structures
    assert structure.label == 255
    assert (segmentation.mask(structure) == drawn).all()
    write_segmentation(tmp_path / "out.png", segmentation)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.png")))
    assert (written == drawn[0] * 255).all()


def test_grey_mask_stored_in_colour(tmp_path: Path) -> None:
    grey = np.repeat(blob()[1, ..., np.newaxis].astype(np.uint8), 3, axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(grey, isVector=True), str(tmp_path / "mask.png"))
    [structure] = read_segmentation(tmp_path / "mask.png").structures
    assert structure.label == 1


def crop(segmentation: Segmentation, start: tuple[int, ...], stop: tuple[int, ...]) -> Segmentation:
    """The box of a segmentation from voxel (K, J, I) to before another; beyond it, nothing."""
    padded = np.pad(segmentation.layers, [(0, 0), (9, 9), (9, 9), (9, 9)])
    box = tuple(slice(a + 9, b + 9) for a, b in zip(start, stop, strict=True))
    matrix = segmentation.ijk_to_ras.copy()
    matrix[:3, 3] += matrix[:3, :3] @ np.array(start)[::-1]
    return Segmentation(padded[(slice(None), *box)], matrix, segmentation.structures)


@pytest.mark.parametrize(
    ("start", "stop"),
    [((1, 1, 2), (2, 4, 5)), ((0, 0, 0), (4, 5, 5)), ((-2, 1, -3), (3, 9, 7))],
    ids=["its extent", "nearly all", "beyond the image"],
)
def test_slicer_crops_and_the_reader_pads(
    start: tuple[int, ...], stop: tuple[int, ...], tmp_path: Path
) -> None:
    @settings(deadline=None, max_examples=15)
    @given(geometries())
    def check(matrix: np.ndarray) -> None:
        volume = Volume.from_array(NOISE, ijk_to_ras=matrix)
        path = tmp_path / "x.seg.nrrd"
        write_segmentation(path, crop(one_structure(matrix), start, stop))
        back = read_segmentation(path, volume)
        assert back.shape == volume.shape
        assert (back.mask(back.structures[0]) == blob()).all()
        assert (back.ijk_to_ras == matrix).all()

    check()


def test_drawn_outside_the_image(tmp_path: Path) -> None:
    write_segmentation(tmp_path / "x.seg.nrrd", one_structure(np.eye(4)))
    smaller = Volume.from_array(NOISE[:, :3])
    error = refusal(lambda: read_segmentation(tmp_path / "x.seg.nrrd", smaller))
    assert error.code == "bad_geometry"
    assert "3 voxels of the segmentation lie outside the image." in error.message


def moved(**change: np.ndarray | float) -> np.ndarray:
    matrix = np.diag([2.0, 2, 5, 1])
    if "turn" in change:
        angle = np.radians(change["turn"])
        turn = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        matrix[:3, :3] = turn @ matrix[:3, :3]
    if "stretch" in change:
        matrix[2, 2] *= change["stretch"]
    if "shift" in change:
        matrix[0, 3] += change["shift"]
    return matrix


@pytest.mark.parametrize(
    ("matrix", "shape", "says"),
    [
        (moved(), (4, 7, 5), "size 5×7×4 instead of 5×6×4"),
        (moved(shift=1), (4, 6, 5), "origin 1 mm away"),
        (moved(stretch=1.2), (4, 6, 5), "spacing 2×2×6 instead of 2×2×5 mm"),
        (moved(turn=30), (4, 6, 5), "direction 30° off"),
        (np.diag([2.0, -2, 5, 1]), (4, 6, 5), "direction 180° off"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_another_grid_says_how_it_differs(
    matrix: np.ndarray, shape: tuple[int, int, int], says: str, suffix: str, tmp_path: Path
) -> None:
    volume = Volume.from_array(NOISE, ijk_to_ras=moved(), name="scan")
    path = tmp_path / f"x{suffix}"
    mask = np.zeros(shape, bool)
    mask[1, 1:, 1:] = True
    write_segmentation(path, one_structure(matrix, mask))
    error = refusal(lambda: read_segmentation(path, volume))
    assert error.code == "bad_geometry"
    if "size" in says and suffix == ".seg.nrrd":
        # A box of the same voxels, but drawn beyond the image.
        assert "4 voxels of the segmentation lie outside" in error.message
    else:
        assert error.message == f"{path} is not on the grid of the image scan: {says}."


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_empty_support(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    write_segmentation(path, one_structure(np.eye(4), np.zeros((4, 6, 5), bool)))
    assert refusal(lambda: read_segmentation(path)).message == f"{path} is empty: every voxel is 0."


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (NOISE, "below 0"),
        (np.abs(NOISE) + np.float32(0.5), "whole numbers"),
        (np.arange(1500, dtype=np.int16).reshape(3, 20, 25), "1499 values"),
    ],
)
def test_image_given_as_labelmap(array: np.ndarray, says: str, tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", array)
    error = refusal(lambda: read_segmentation(path))
    assert f"{path} is not a labelmap" in error.message
    assert says in error.message


def test_pictures_that_are_no_labelmap(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (20, 30, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "skin.png"))
    save(tmp_path / "mask.jpg", pixels[..., 0])
    assert "in colour" in refusal(lambda: read_segmentation(tmp_path / "skin.png")).message
    assert "JPEG" in refusal(lambda: read_segmentation(tmp_path / "mask.jpg")).message
    assert "folder" in refusal(lambda: read_segmentation(tmp_path)).message
