"""Images as files: what is read, and files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from io_files import CHEST, NOISE, RNG, refusal, save
from test_volume import geometries

from FoBSAMLib.image.io import read_segmentation, read_volume, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha"])
def test_voxels_and_points_are_where_the_file_says(suffix: str, tmp_path: Path) -> None:
    @settings(deadline=None, max_examples=15)
    @given(geometries())
    def check(matrix: np.ndarray) -> None:
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        image = sitk.GetImageFromArray(NOISE)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
        path = tmp_path / f"scan{suffix}"
        sitk.WriteImage(image, str(path))
        volume = read_volume(path)
        assert (volume.array == NOISE).all()
        assert volume.array.dtype == NOISE.dtype
        for index in [(0, 0, 0), (4, 0, 1), (2, 5, 3)]:
            left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
            point = volume.ijk_to_ras @ [*index, 1]
            # NIfTI stores a rotation in single precision.
            np.testing.assert_allclose(point[:3], [-left, -posterior, superior], atol=2e-3)

    check()


def test_chest_ct() -> None:
    volume = read_volume(CHEST)
    assert volume.shape == (34, 128, 128)
    assert volume.spacing == pytest.approx((3.047, 3.047, 10), abs=1e-3)
    assert (volume.name, volume.modality) == ("CTChest4", "ct")


def test_photograph_is_one_slice_of_unit_pixels(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (20, 30, 3), np.uint8)
    image = sitk.GetImageFromArray(pixels, isVector=True)
    image.SetSpacing((0.07, 0.07))
    sitk.WriteImage(image, str(tmp_path / "skin.png"))
    volume = read_volume(tmp_path / "skin.png")
    assert (volume.array == pixels[np.newaxis]).all()
    assert volume.spacing == (1, 1, 1)
    assert volume.modality == "rgb"


def test_transparency_of_a_photograph_is_ignored(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (20, 30, 4), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "skin.png"))
    assert (read_volume(tmp_path / "skin.png").array == pixels[np.newaxis, ..., :3]).all()


def test_grey_photograph(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", np.tile(np.arange(0, 240, 4, np.uint8), (40, 1)))
    volume = read_volume(path)
    assert volume.shape == (1, 40, 60)
    assert volume.modality == "8bit"


def test_2_d_medical_image_keeps_its_pixel_size(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "film.mha", NOISE[0], spacing=(0.5, 0.7), origin=(3, 4)))
    assert volume.shape == (1, 6, 5)
    assert volume.spacing == (0.5, 0.7, 1)
    assert volume.ijk_to_ras[:3, 3].tolist() == [-3, -4, 0]


def test_single_slice_volume(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "slice.nii.gz", NOISE[:1], spacing=(0.5, 0.7, 5.0)))
    assert volume.shape == (1, 6, 5)
    assert volume.slice_spacing("k") == pytest.approx((0.7, 0.5))


def test_4_d_with_one_volume_is_that_volume(tmp_path: Path) -> None:
    assert read_volume(save(tmp_path / "one.nrrd", NOISE[np.newaxis])).shape == NOISE.shape


def test_4_d_image(tmp_path: Path) -> None:
    path = save(tmp_path / "perfusion.nii.gz", np.stack([NOISE, NOISE + 1, NOISE]))
    error = refusal(lambda: read_volume(path))
    assert str(error) == f"{path} is 4-D: 3 volumes of 5×6×4. Extract one volume first."


def test_missing_file(tmp_path: Path) -> None:
    for read in (read_volume, read_segmentation):
        error = refusal(lambda read=read: read(tmp_path / "nothing.nii.gz"))
        assert error.code == "unreadable"
        assert error.message == f"There is no file or folder {tmp_path / 'nothing.nii.gz'}."


@pytest.mark.parametrize(
    "suffix", [".nrrd", ".nii.gz", ".nii", ".mha", ".png", ".dcm", ".seg.nrrd"]
)
@pytest.mark.parametrize("content", [b"", b"no image " * 400])
def test_file_that_is_no_image(
    suffix: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(content)
    for read in (read_volume, read_segmentation):
        error = refusal(lambda read=read: read(path))
        assert error.code == "unreadable"
        assert str(path) in error.message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".nii", ".mha", ".png", ".seg.nrrd"])
def test_file_cut_short(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = RNG.integers(0, 3, (1, 80, 80)).astype(np.uint8)
    path = tmp_path / f"labels{suffix}"
    masks = [(Structure(f"{n}", n), labels == n) for n in (1, 2)]
    write_segmentation(path, Segmentation.from_masks(np.eye(4), masks))
    assert (read_volume(path).array == labels).all()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    for read in (read_volume, read_segmentation):
        assert refusal(lambda read=read: read(path)).code == "unreadable"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("value", "count"), [(np.nan, 3), (-np.inf, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nan_and_infinite_voxels(
    value: float, count: int, dtype: type, suffix: str, tmp_path: Path
) -> None:
    array = NOISE.astype(dtype)
    array.flat[-count:] = value
    path = save(tmp_path / f"scan{suffix}", array)
    error = refusal(lambda: read_volume(path))
    assert f"{count} of 120 voxels of {path} are NaN or infinite." in error.message


def swap_bytes(nifti: bytes) -> bytes:
    """A float32 NIfTI-1 file in the other byte order."""
    raw = bytearray(nifti)
    fields = {2: [(36, 38), (40, 56), (68, 76), (120, 122), (252, 256)]}
    fields[4] = [(0, 4), (32, 36), (56, 68), (76, 120), (124, 148), (256, 328), (352, len(raw))]
    for size, ranges in fields.items():
        for start, stop in ranges:
            swapped = np.frombuffer(raw[start:stop], f"u{size}").byteswap()
            raw[start:stop] = swapped.tobytes()
    return bytes(raw)


def test_big_endian_nifti(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    # A value that in the wrong byte order is infinite.
    array = np.frombuffer(np.full(120, 0x0000807F, "<u4"), "<f4").reshape(4, 6, 5).copy()
    array[0] = 1
    for value, good in ((2, True), (np.nan, False)):
        array[1, 1, 1] = value
        path.write_bytes(swap_bytes(save(path, array).read_bytes()))
        if good:
            assert (read_volume(path).array == array).all()
        else:
            assert "1 of 120 voxels" in refusal(lambda: read_volume(path)).message


def test_uncompressed_nifti_named_compressed(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", NOISE).rename(tmp_path / "scan.nii.gz")
    assert (read_volume(path).array == NOISE).all()


def test_compressed_nifti_named_uncompressed(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", NOISE).rename(tmp_path / "scan.nii")
    assert refusal(lambda: read_volume(path)).code == "unreadable"


def test_colour_nifti(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 255, (3, 6, 5, 3), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "x.nii.gz"))
    assert (read_volume(tmp_path / "x.nii.gz").array == pixels).all()


def test_constant_image(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", np.full((3, 4, 5), 7, np.int16))
    assert refusal(lambda: read_volume(path)).message == (f"{path} is constant: every voxel is 7.")


def test_axes_not_at_right_angles(tmp_path: Path) -> None:
    path = tmp_path / "sheared.nii"
    save(path, NOISE)
    raw = bytearray(path.read_bytes())
    # qform_code and sform_code, then the first row of the sform.
    raw[252:256] = np.array([0, 1], "<i2").tobytes()
    raw[280:296] = np.array([1, 0.4, 0, 0], "<f4").tobytes()
    path.write_bytes(raw)
    assert "not at right angles" in refusal(lambda: read_volume(path)).message
