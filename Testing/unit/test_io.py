"""Images and segmentations as files: round trips, and files that are no good."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from hypothesis import given, settings
from test_volume import geometries

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import (
    atomic_path,
    check_output,
    read_segmentation,
    read_volume,
    write_segmentation,
)
from FoBSAMLib.image.segmentation import Segmentation, Structure
from FoBSAMLib.image.volume import Volume

CHEST = slicerio.get_testdata_file("CTChest4.nrrd")
DRAWN = slicerio.get_testdata_file("Segmentation.seg.nrrd")
OVERLAPPING = slicerio.get_testdata_file("SegmentationOverlapping.seg.nrrd")
RNG = np.random.default_rng(0)
NOISE = RNG.integers(-500, 1500, (4, 6, 5)).astype(np.int16)


def blob(shape: tuple[int, int, int] = (4, 6, 5)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1, 1:4, 2:5] = True
    return mask


def one_structure(matrix: np.ndarray, mask: np.ndarray | None = None) -> Segmentation:
    return Segmentation.from_masks(
        matrix,
        [(Structure("liver", 3, color=(0.5, 0.25, 0.125)), blob() if mask is None else mask)],
    )


def save(path: Path, array: np.ndarray, **geometry: tuple[float, ...]) -> Path:
    """Write an image with SimpleITK; geometry in its own frame, LPS."""
    image = sitk.GetImageFromArray(array, isVector=False)
    for what, value in geometry.items():
        getattr(image, f"Set{what.capitalize()}")(value)
    sitk.WriteImage(image, str(path))
    return path


def refusal(call: Callable[[], object]) -> FoBSAMError:
    """The error a call raises, which must be one line with something to do."""
    with pytest.raises(FoBSAMError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


# Images -----------------------------------------------------------------------------------


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


# Segmentations ----------------------------------------------------------------------------


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


# Writing ----------------------------------------------------------------------------------

FORMATS = ["x.seg.nrrd", "x.nrrd", "x.nii.gz", "x.nii", "x.mha", "x.png"]


def noisy_slice() -> Segmentation:
    """One slice of labels that do not compress."""
    labels = RNG.integers(1, 200, (1, 200, 200))
    masks = [(Structure(str(n), n), labels == n) for n in range(1, 200)]
    return Segmentation.from_masks(np.eye(4), masks)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB: writing fails halfway, as it does on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", FORMATS)
def test_full_disk_leaves_what_was_there(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    segmentation = noisy_slice()
    for before in (None, b"an earlier result"):
        if before:
            path.write_bytes(before)
        with full_disk():
            error = refusal(lambda: write_segmentation(path, segmentation))
        assert error.code == "unwritable"
        assert "enough space" in error.hint
        assert list(tmp_path.iterdir()) == ([path] if before else [])
        assert not before or path.read_bytes() == before
    assert capfd.readouterr().err == ""


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may not write to, even if it runs as root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        was_root = hasattr(os, "geteuid") and os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if was_root:
                os.seteuid(0)
            os.chmod(folder, 0o755)


@pytest.mark.skipif(os.name == "nt", reason="folders are not read-only by mode on Windows")
@pytest.mark.parametrize("name", FORMATS)
def test_read_only_folder(name: str, read_only_folder: Path) -> None:
    segmentation = one_structure(np.eye(4), blob()[1:2])
    for call in (lambda p: write_segmentation(p, segmentation), check_output):
        error = refusal(lambda call=call: call(read_only_folder / name))
        assert error.code == "unwritable"
        assert "Permission denied" in error.message


@pytest.mark.parametrize("name", FORMATS)
def test_missing_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        error = refusal(lambda f=folder: write_segmentation(f / name, one_structure(np.eye(4))))
        if name == "x.png":
            assert error.message.startswith("A PNG holds one slice")
        else:
            assert error.code == "unwritable"
            assert f"the folder {folder} does not exist" in error.message
        assert refusal(lambda f=folder: check_output(f / name)).code == "unwritable"


def test_unknown_format_names_the_known(tmp_path: Path) -> None:
    for call in (lambda p: write_segmentation(p, one_structure(np.eye(4))), check_output):
        error = refusal(lambda call=call: call(tmp_path / "x.jpg"))
        assert ".nii.gz" in error.hint
    assert not list(tmp_path.iterdir())


def test_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").mkdir()
    error = refusal(lambda: write_segmentation(tmp_path / "x.nii.gz", one_structure(np.eye(4))))
    assert "exists and is not a file" in error.message


def test_output_check_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"an earlier result")
    check_output(tmp_path / "x.nii.gz")
    check_output(tmp_path / "new.seg.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    assert (tmp_path / "x.nii.gz").read_bytes() == b"an earlier result"


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_path(tmp_path / "case.1.seg.nrrd") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.endswith(".seg.nrrd")
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_finished_writing_replaces_at_once(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
