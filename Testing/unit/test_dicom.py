"""DICOM folders: the image series among whatever else lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import (
    ALONG_COLUMN,
    ALONG_ROW,
    FIRST,
    NORMAL,
    STEP,
    VOXELS,
    write_frames,
    write_series,
    write_slice,
)
from pydicom.uid import generate_uid

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import read_segmentation, read_volume


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(FoBSAMError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


def test_slices_sorted_by_position_in_hu_where_they_lie(tmp_path: Path) -> None:
    write_series(tmp_path)
    volume = read_volume(tmp_path)
    assert (volume.array == VOXELS.astype(int) - 1024).all()
    assert volume.modality == "ct"
    assert volume.name == tmp_path.name
    assert volume.spacing == pytest.approx((0.5, 0.7, STEP))
    for i, j, k in [(0, 0, 0), (4, 5, 0), (2, 1, 3)]:
        lps = np.array([10, -20, 30]) + 0.5 * i * ALONG_ROW + 0.7 * j * ALONG_COLUMN
        lps += k * STEP * NORMAL
        point = volume.ijk_to_ras @ [i, j, k, 1]
        np.testing.assert_allclose(point[:3], lps * [-1, -1, 1], atol=1e-6)


def test_other_files_and_segmentations_are_passed_over(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_slice(tmp_path / "aseg.dcm", 0, generate_uid(), Modality="SEG")
    write_slice(tmp_path / "dose.dcm", 0, series, Modality="RTDOSE")
    (tmp_path / "LICENSE.txt").write_text("free")
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "sub").mkdir()
    assert (read_volume(tmp_path).array == VOXELS.astype(int) - 1024).all()


def test_modality_is_what_dicom_says(tmp_path: Path) -> None:
    write_series(tmp_path, Modality="MR")
    assert read_volume(tmp_path).modality == "mr"


def test_several_series_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path)
    write_series(tmp_path, "x", SeriesDescription="T2 axial", Modality="MR")
    message = refusal(lambda: read_volume(tmp_path))
    assert "holds 2 DICOM series: 'Thorax' (CT, 4 images); 'T2 axial' (MR, 4 images)." in message


def test_folder_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    assert refusal(lambda: read_volume(tmp_path)).startswith(
        f"The folder {tmp_path} holds no DICOM images."
    )


def test_single_file_of_a_series(tmp_path: Path) -> None:
    write_slice(tmp_path / "one.dcm", 2, generate_uid())
    for path in (tmp_path / "one.dcm", tmp_path):
        volume = read_volume(path)
        assert (volume.array == VOXELS[2:3].astype(int) - 1024).all()
        assert volume.modality == "ct"


def test_segmentation_object_is_no_image(tmp_path: Path) -> None:
    write_slice(tmp_path / "seg.dcm", 0, generate_uid(), Modality="SEG")
    for read in (read_volume, read_segmentation):
        message = refusal(lambda read=read: read(tmp_path / "seg.dcm"))
        assert "modality SEG, not an image" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ImagePositionPatient": [10, -20, 30]}, "several images at one position"),
        (
            {"ImagePositionPatient": list(np.array([10, -20, 30]) + 9 * STEP * NORMAL)},
            "unevenly spaced, 3 to 21 mm",
        ),
        (
            {"ImagePositionPatient": list(np.array([12, -20, 30]) + 3 * STEP * NORMAL)},
            "unevenly spaced",
        ),
        (
            {"ImagePositionPatient": list([10, -20, 32] + 3 * STEP * NORMAL)},
            "sheared (a tilted gantry)",
        ),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "different size or direction"),
        ({"Rows": 5, "Columns": 6}, "different size or direction"),
        ({"ImagePositionPatient": None}, "slices without a position"),
    ],
)
def test_slices_that_make_no_grid(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    series = write_series(tmp_path)
    write_slice(tmp_path / "im003.dcm", 3, series, **changes)
    assert says in refusal(lambda: read_volume(tmp_path))


def test_file_cut_short(tmp_path: Path) -> None:
    write_series(tmp_path)
    path = tmp_path / "im003.dcm"
    header_only = pydicom.dcmread(path)
    del header_only.PixelData
    header_only.save_as(path)
    assert "cannot be read" in refusal(lambda: read_volume(tmp_path))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_frames_sorted_by_position(order: list[int], each: bool, tmp_path: Path) -> None:
    write_frames(tmp_path / "ct.dcm", order, each=each)
    for path in (tmp_path / "ct.dcm", tmp_path):
        volume = read_volume(path)
        assert (volume.array == VOXELS.astype(int) - 1024).all()
        assert volume.modality == "ct"
        for i, j, k in [(0, 0, 0), (4, 5, 0), (2, 1, 3)]:
            lps = FIRST + 0.5 * i * ALONG_ROW + 0.7 * j * ALONG_COLUMN + k * STEP * NORMAL
            point = volume.ijk_to_ras @ [i, j, k, 1]
            np.testing.assert_allclose(point[:3], lps * [-1, -1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ([0, 1, 2, 2], "several images at one position"),
        ([0, 1, 2, 6], "unevenly spaced, 3 to 12 mm"),
    ],
)
def test_frames_that_make_no_grid(positions: list[float], says: str, tmp_path: Path) -> None:
    write_frames(tmp_path / "ct.dcm", [0, 1, 2, 3], positions)
    assert says in refusal(lambda: read_volume(tmp_path / "ct.dcm"))


def test_real_folder_with_a_segmentation_and_labelmaps(shared_data: Path) -> None:
    volume = read_volume(shared_data / "dicom_ct")
    assert volume.shape == (3, 512, 512)
    assert volume.spacing == pytest.approx((0.810547, 0.810547, 1))
    liver = read_segmentation(shared_data / "dicom_ct" / "liver_seg.nrrd", volume)
    [structure] = liver.structures
    # Soft tissue, so the labelmap lies on the right voxels: flipped, only 60 % are.
    inside = volume.array[liver.mask(structure)]
    assert np.mean((inside > -20) & (inside < 200)) > 0.85
