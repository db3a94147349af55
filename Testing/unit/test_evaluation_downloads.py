"""Data sets as they are downloaded: CHAOS, BTCV and ISIC, and the files that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from downloads import (
    GREYS,
    grid,
    inside,
    labels_at,
    places,
    ramp,
    write_chaos,
    write_nifti,
    write_photograph,
)
from skimage.io import imsave

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import Dataset, Subject, find_dataset
from FoBSAMLib.image.io import read_segmentation, read_volume
from FoBSAMLib.image.windows import normalise

MR_SPACING = (2.0, 2.0, 9.0)
MR = grid((8, 60, 50), MR_SPACING)
CT_SPACING = (0.8, 0.8, 3.0)
CT = grid((24, 200, 190), CT_SPACING)
CHAOS_ORGANS = ("liver", "right kidney", "left kidney", "spleen")
SABS_VALUES = {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}


def refusal(action: Callable[[], object], code: str = "unreadable") -> str:
    with pytest.raises(FoBSAMError) as caught:
        action()
    assert caught.value.code == code
    assert caught.value.hint
    return str(caught.value)


def chaos_subject(folder: Path, **how: object) -> Path:
    return write_chaos(folder, ramp(MR), labels_at(MR), MR_SPACING, **how)


def check_ramp(subject: Subject, spacing: tuple[float, float, float], highest: float) -> None:
    """Every voxel within the original ones has the intensity of its place, short of fractions."""
    points = places(subject.volume)
    original = MR if subject.volume.modality == "mr" else CT
    low, high = original[0, 0, 0], original[-1, -1, -1]
    known = ((points >= low) & (points <= high)).all(axis=-1) & (ramp(points) < highest)
    assert known.sum() > 1000
    np.testing.assert_allclose(subject.volume.array[known], ramp(points)[known], atol=1.1)
    assert subject.volume.spacing == pytest.approx(spacing)


def check_organs(subject: Subject, margin: float, values: dict[str, int]) -> None:
    """Voxels well within an organ's box belong to it, voxels well outside do not."""
    points = places(subject.volume)
    assert set(subject.masks) == set(values)
    for organ, value in values.items():
        mask = subject.masks[organ]
        assert mask[inside(points, value, -margin)].all()
        assert not mask[~inside(points, value, margin)].any()
        assert mask.sum() > 50


@pytest.mark.parametrize(
    "how",
    [
        {},
        # Read as text 10 comes before 2, and slices run from head to feet.
        {"slice_name": "IMG-{}".format, "number": lambda k: 11 - k},
        {"slice_name": "MR.{:x}".format, "mask_name": "mask_{}".format, "number": lambda k: 12 - k},
        {"greys": (0, 10, 20, 30, 200)},
    ],
    ids=["as downloaded", "hostile order", "by number", "other greys"],
)
def test_chaos_slices_and_masks_lie_where_the_patient_lay(tmp_path: Path, how: dict) -> None:
    chaos_subject(tmp_path / "Train_Sets" / "MR" / "10", **how)
    subject = find_dataset("chaos", tmp_path).read(10)
    assert subject.volume.shape == (10, 256, 256)
    check_ramp(subject, (1.25, 1.25, 7.7), np.percentile(ramp(MR), 99.5) - 20)
    check_organs(subject, 5.0, dict(zip(CHAOS_ORGANS, range(1, 5), strict=True)))
    # Indices run to the left, front and head, as in the published volumes.
    assert (np.diag(subject.volume.ijk_to_ras)[:3] * (-1, 1, 1) > 0).all()


def test_chaos_clips_the_brightest_voxels(tmp_path: Path) -> None:
    voxels = ramp(MR)
    voxels[3, 30, 20:22] = 9000
    write_chaos(tmp_path / "1", voxels, labels_at(MR), MR_SPACING)
    found = find_dataset("chaos", tmp_path).read(1).volume
    assert found.array.max() <= np.percentile(voxels, 99.5)
    assert found.array.max() >= np.percentile(voxels, 99) - 1


def test_chaos_without_an_organ_keeps_the_values_of_the_others(tmp_path: Path) -> None:
    labels = labels_at(MR)
    labels[labels == 2] = 0
    write_chaos(tmp_path / "1", ramp(MR), labels, MR_SPACING)
    masks = find_dataset("chaos", tmp_path).read(1).masks
    assert set(masks) == {"liver", "left kidney", "spleen"}


def test_chaos_grid_that_is_the_published_one_stays(tmp_path: Path) -> None:
    spacing = (1.25, 1.25, 7.7)
    points = grid((4, 256, 256), spacing)
    write_chaos(tmp_path / "3", ramp(points), labels_at(points), spacing)
    subject = find_dataset("chaos", tmp_path).read(3)
    # Rows are stored from back to front, and there is one empty slice more.
    highest = int(np.percentile(ramp(points).astype(np.uint16), 99.5))
    expected = np.minimum(ramp(points).astype(np.uint16), highest)[:, ::-1]
    assert subject.volume.shape == (5, 256, 256)
    assert (subject.volume.array[:4] == expected).all()
    assert not subject.volume.array[4].any()


def test_chaos_subjects_in_order_and_without_the_test_sets(tmp_path: Path) -> None:
    for name in ("Train_Sets/MR/10", "Train_Sets/MR/2", "Test_Sets/MR/4"):
        (tmp_path / name / "T2SPIR" / "DICOM_anon").mkdir(parents=True)
        if name.startswith("Train"):
            (tmp_path / name / "T2SPIR" / "Ground").mkdir()
    for folder in (tmp_path, tmp_path / "Train_Sets", tmp_path / "Train_Sets" / "MR"):
        assert find_dataset("chaos", folder).subjects == (2, 10)
    assert find_dataset("chaos", tmp_path / "Train_Sets" / "MR" / "2").subjects == (2,)
    assert "DICOM_anon" in refusal(lambda: find_dataset("chaos", tmp_path / "Test_Sets"))


def test_chaos_with_something_missing(tmp_path: Path) -> None:
    for subject in range(1, 6):
        chaos_subject(tmp_path / str(subject))
    dataset = find_dataset("chaos", tmp_path)
    (tmp_path / "1/T2SPIR/Ground/IMG-0002-00003.png").unlink()
    assert "IMG-0002-00003.dcm without a mask" in refusal(lambda: dataset.read(1))
    (tmp_path / "2/T2SPIR/DICOM_anon/IMG-0002-00008.dcm").unlink()
    assert "IMG-0002-00008.png without a DICOM slice" in refusal(lambda: dataset.read(2))
    (tmp_path / "3/T2SPIR/DICOM_anon/IMG-0002-00004.dcm").unlink()
    assert "unevenly spaced" in refusal(lambda: dataset.read(3), "bad_geometry")
    for file in (tmp_path / "4/T2SPIR/Ground").iterdir():
        file.unlink()
    assert "and 5 more without a mask" in refusal(lambda: dataset.read(4))
    (tmp_path / "5/T2SPIR/Ground").rename(tmp_path / "5/ground")
    assert "has no folder Ground" in refusal(lambda: find_dataset("chaos", tmp_path))


def test_chaos_that_is_damaged(tmp_path: Path) -> None:
    for subject in range(1, 5):
        chaos_subject(tmp_path / str(subject))
    chaos_subject(tmp_path / "5", greys=(0, 7, 9, 9, 9))
    dataset = find_dataset("chaos", tmp_path)
    png = tmp_path / "1/T2SPIR/Ground/IMG-0002-00003.png"
    png.write_bytes(png.read_bytes()[:60])
    assert "IMG-0002-00003.png cannot be read" in refusal(lambda: dataset.read(1))
    dcm = tmp_path / "2/T2SPIR/DICOM_anon/IMG-0002-00003.dcm"
    dcm.write_bytes(dcm.read_bytes()[:-3000])
    assert "DICOM_anon cannot be read" in refusal(lambda: dataset.read(2))
    imsave(tmp_path / "3/T2SPIR/Ground/IMG-0002-00003.png", np.eye(7, dtype=np.uint8) * 63)
    assert "7×7 pixels, its slice 50×60" in refusal(lambda: dataset.read(3), "bad_geometry")
    for file in (tmp_path / "4/T2SPIR/Ground").iterdir():
        imsave(file, np.zeros((60, 50), np.uint8), check_contrast=False)
    assert "the grey values 0." in refusal(lambda: dataset.read(4))
    assert "the grey values 0, 7, 9." in refusal(lambda: dataset.read(5))


def test_chaos_subject_that_is_there_twice(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        chaos_subject(tmp_path / folder / "7")
    assert "7 is there twice" in refusal(lambda: find_dataset("chaos", tmp_path))


def sabs_labels() -> np.ndarray:
    """The boxes as BTCV numbers them."""
    return np.array([0, 6, 2, 3, 1], np.uint8)[labels_at(CT)]


def sabs_subject(folder: Path, case: int, code: str = "LAS") -> None:
    voxels = (ramp(CT) - 300).astype(np.int16)
    write_nifti(folder / "img" / f"img{case:04d}.nii.gz", voxels, CT_SPACING, code)
    write_nifti(folder / "label" / f"label{case:04d}.nii.gz", sabs_labels(), CT_SPACING, code)


@pytest.mark.parametrize("code", ["LAS", "RPI"])
def test_sabs_is_windowed_cut_and_lies_where_the_patient_lay(tmp_path: Path, code: str) -> None:
    sabs_subject(tmp_path / "RawData" / "Training", 21, code)
    subject = find_dataset("sabs", tmp_path).read(10)
    # (190 - 64) / 1.75 and (200 - 64) / 1.75 pixels, 24 slices, and one more each way.
    assert subject.volume.shape == (25, 78, 73)
    assert subject.volume.array.dtype == np.uint8
    assert subject.volume.name == "image_10"
    points = places(subject.volume)
    # The ramp crosses the whole window: 0 is -125 HU and 255 is 275 HU.
    hu = np.clip(ramp(points) - 300, -125, 275)
    known = subject.volume.array > 0
    np.testing.assert_allclose(
        subject.volume.array[known], ((hu + 125) * 255 / 400)[known], atol=1.1
    )
    assert known.mean() > 0.2
    check_organs(subject, 3.0, SABS_VALUES)
    assert subject.volume.spacing == pytest.approx((1.4, 1.4, 3.0))
    assert (np.diag(subject.volume.ijk_to_ras)[:3] * (-1, 1, 1) > 0).all()


def test_sabs_of_512_pixels_has_257_and_its_grey_values_stay(tmp_path: Path) -> None:
    points = grid((2, 512, 512), (0.7, 0.7, 3.0))
    voxels = np.broadcast_to(np.where(points[..., 0] > 130, 1000.0, -1000.0), points.shape[:3])
    write_nifti(tmp_path / "img/img0001.nii.gz", voxels.astype(np.int16), (0.7, 0.7, 3.0))
    labels = (voxels > 0).astype(np.uint8)
    write_nifti(tmp_path / "label/label0001.nii.gz", labels, (0.7, 0.7, 3.0))
    subject = find_dataset("sabs", tmp_path).read(0)
    assert subject.volume.shape == (3, 257, 257)
    # 8-bit images are not windowed again: nothing is clipped before they are normalised.
    assert subject.volume.modality == "8bit"
    assert len(np.unique(normalise(subject.volume))) <= 256


def test_sabs_cases_are_numbered_without_gaps(tmp_path: Path) -> None:
    for folder, cases in (("Training", (40, 21, 10, 1)), ("Testing", (61, 80))):
        for case in cases:
            for kind in ("img", "label") if folder == "Training" else ("img",):
                path = tmp_path / folder / kind / f"{kind}{case:04d}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    assert find_dataset("sabs", tmp_path).subjects == (0, 9, 10, 29)
    (tmp_path / "Training/label/label0010.nii.gz").unlink()
    assert "no labels for" in (text := refusal(lambda: find_dataset("sabs", tmp_path)))
    assert "img0010.nii.gz" in text


def test_sabs_that_does_not_fit(tmp_path: Path) -> None:
    for case in (1, 2, 3, 4, 5):
        sabs_subject(tmp_path, case)
    dataset = find_dataset("sabs", tmp_path)
    image = tmp_path / "img/img0001.nii.gz"
    image.write_bytes(image.read_bytes()[:5000])
    assert "img0001.nii.gz cannot be read" in refusal(lambda: dataset.read(0))
    write_nifti(tmp_path / "label/label0002.nii.gz", sabs_labels()[1:], CT_SPACING)
    assert "label0002.nii.gz is not on the grid" in refusal(lambda: dataset.read(1), "bad_geometry")
    for name, array in (("img/img", ramp(CT)), ("label/label", sabs_labels())):
        small = array[:, :60, :60].astype(np.int16)
        write_nifti(tmp_path / f"{name}0003.nii.gz", small, CT_SPACING)
    assert "60×60 pixels" in refusal(lambda: dataset.read(2), "bad_geometry")
    write_nifti(tmp_path / "img/img0004.nii.gz", (ramp(CT) + 900).astype(np.int16), CT_SPACING)
    assert "Hounsfield" in refusal(lambda: dataset.read(3), "bad_request")
    # Only the origin differs, as between headers of different programs.
    labels = sitk.ReadImage(str(tmp_path / "label/label0005.nii.gz"))
    labels.SetOrigin((0, 0, 0))
    sitk.WriteImage(labels, str(tmp_path / "label/label0005.nii.gz"))
    check_organs(dataset.read(4), 3.0, SABS_VALUES)


def test_a_download_is_kept_preprocessed_and_made_anew_when_it_changes(tmp_path: Path) -> None:
    chaos_subject(tmp_path / "MR" / "5")
    dataset = find_dataset("chaos", tmp_path / "MR")
    image, label = dataset.as_files(5, tmp_path / "cache")
    subject = dataset.read(5)
    volume = read_volume(image)
    assert (volume.array == subject.volume.array).all()
    assert volume.same_grid(subject.volume.shape, subject.volume.ijk_to_ras)
    assert (normalise(volume) == normalise(subject.volume)).all()
    assert (read_segmentation(label, like=volume).layers[0] == 4).sum() == (
        subject.masks["spleen"].sum()
    )
    assert find_dataset("chaos", tmp_path / "cache").read(5).masks.keys() == subject.masks.keys()
    written = image.stat().st_mtime_ns
    assert dataset.as_files(5, tmp_path / "cache") == (image, label)
    assert image.stat().st_mtime_ns == written
    (tmp_path / "MR/5/T2SPIR/Ground/IMG-0002-00001.png").touch()
    dataset.as_files(5, tmp_path / "cache")
    assert image.stat().st_mtime_ns > written


def isic(folder: Path, numbers: tuple[int, ...] = (4, 6, 13, 12173)) -> Path:
    for number in numbers:
        write_photograph(
            folder / "ISIC2018_Task1-2_Training_Input",
            folder / "ISIC2018_Task1_Training_GroundTruth",
            number,
        )
    return folder


CLASSES = {4: "melanoma", 6: "nevus", 13: "melanoma", 12173: "seborrheic keratosis"}


@pytest.mark.parametrize(
    "table",
    [
        "ID,Class\nISIC_0000004,melanoma\nISIC_0000006,nevus\nISIC_0000013,melanoma\n"
        "ISIC_0012173,seborrheic_keratosis\n",
        "image_id,melanoma,seborrheic_keratosis\nISIC_0000004,1.0,0.0\nISIC_0000006,0.0,0.0\n"
        "ISIC_0000013,1,0\nISIC_0012173,0.0,1.0\n",
        "\ufeffisic_id,sex,diagnosis\nISIC_0000004,male,melanoma\nISIC_0000006,,nevus\n"
        'ISIC_0000013,,"melanoma"\nISIC_0012173,,seborrheic keratosis\n',
        "isic_id,diagnosis_1,diagnosis_3\nISIC_0000004,Malignant,Melanoma in situ\n"
        'ISIC_0000006,Benign,Nevus\nISIC_0000013,Malignant,"Melanoma, NOS"\n'
        "ISIC_0012173,Benign,Seborrheic keratosis\n",
    ],
    ids=["class_id.csv", "ISIC 2017 part 3", "archive", "archive of today"],
)
def test_isic_classes_from_any_published_table(tmp_path: Path, table: str) -> None:
    (isic(tmp_path) / "classes.csv").write_text(table, encoding="utf-8")
    (tmp_path / "other.csv").write_text("subject,age\n1,2\n")
    dataset = find_dataset("isic", tmp_path)
    assert dataset.classes == CLASSES
    assert dataset.choose() == (4, 6, 13, 12173)
    assert dataset.choose_organs() == ("melanoma", "nevus", "seborrheic keratosis")
    assert dataset.kind == "photograph"


def test_isic_photograph_has_the_mask_of_its_class_in_colour(tmp_path: Path) -> None:
    (isic(tmp_path) / "class_id.csv").write_text("ID,Class\nISIC_0000006,nevus\n")
    subject = find_dataset("isic", tmp_path).read(6)
    assert subject.volume.shape == (1, 12, 20)
    assert subject.volume.array.shape == (1, 12, 20, 3)
    assert set(subject.masks) == {"nevus"}
    expected = np.zeros((1, 12, 20), bool)
    expected[0, 3:9, 6:14] = True
    assert (subject.masks["nevus"] == expected).all()


def test_isic_without_classes(tmp_path: Path) -> None:
    dataset = find_dataset("isic", isic(tmp_path))
    assert dataset.choose_organs() == ("lesion",)
    assert set(dataset.read(4).masks) == {"lesion"}
    text = refusal(lambda: dataset.choose_organs(["melanoma"]), "bad_request")
    assert "isic_in_5_folds.json" in text
    assert "classes" in refusal(dataset.folds, "bad_request")
    assert any("4 of 4 photographs" in note for note in dataset.notes)


def write_folds(folder: Path, missing: tuple[int, ...] = ()) -> None:
    folds: dict[str, dict[str, list[str]]] = {
        f"fold_{n}": {"nevus": [], "melanoma": [], "seborrheic_keratosis": []} for n in range(1, 6)
    }
    for place, (number, name) in enumerate({**CLASSES, **dict.fromkeys(missing, "nevus")}.items()):
        folds[f"fold_{place % 5 + 1}"][name.replace(" ", "_")].append(f"ISIC_{number:07d}")
    (folder / "isic_in_5_folds.json").write_text(json.dumps(folds))


def test_isic_published_folds(tmp_path: Path) -> None:
    write_folds(isic(tmp_path))
    dataset = find_dataset("isic", tmp_path)
    assert dataset.classes == CLASSES
    assert [fold.queries for fold in dataset.folds()] == [(4,), (6,), (13,), (12173,), ()]
    assert not dataset.notes
    write_folds(tmp_path, missing=(99,))
    text = refusal(find_dataset("isic", tmp_path).folds, "bad_request")
    assert "Add subject 99" in text
    (tmp_path / "isic_in_5_folds.json").write_text('["fold_1"]')
    assert "does not hold folds" in refusal(lambda: find_dataset("isic", tmp_path))


def test_isic_folds_without_the_published_ones_are_told(tmp_path: Path) -> None:
    isic(tmp_path, tuple(range(1, 13)))
    rows = "".join(f"ISIC_{n:07d},{'nevus' if n > 5 else 'melanoma'}\n" for n in range(1, 13))
    (tmp_path / "class_id.csv").write_text(f"ID,Class\n{rows}")
    dataset = find_dataset("isic", tmp_path)
    folds = [fold.queries for fold in dataset.folds()]
    assert folds == [(1, 6, 11), (2, 7, 12), (3, 8), (4, 9), (5, 10)]
    assert "not the published one" in " ".join(dataset.notes)


def test_isic_that_does_not_fit(tmp_path: Path) -> None:
    dataset: Dataset = find_dataset("isic", isic(tmp_path))
    masks = tmp_path / "ISIC2018_Task1_Training_GroundTruth"
    photographs = tmp_path / "ISIC2018_Task1-2_Training_Input"
    (photographs / "ISIC_0000004.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    assert "ISIC_0000004.jpg cannot be read" in refusal(lambda: dataset.read(4))
    imsave(masks / "ISIC_0000006_segmentation.png", np.eye(9, dtype=np.uint8) * 255)
    assert "ISIC_0000006" in refusal(lambda: dataset.read(6), "bad_geometry")
    (tmp_path / "a.csv").write_text("ID,Class\nISIC_0000013,nevus\n")
    (tmp_path / "b.csv").write_text("ID,Class\nISIC_0000013,melanoma\n")
    assert "another file as nevus" in refusal(lambda: find_dataset("isic", tmp_path))
    (masks / "ISIC_0000013_segmentation.png").unlink()
    assert "no mask of" in refusal(lambda: find_dataset("isic", tmp_path))


def test_isic_masks_beside_the_photographs(tmp_path: Path) -> None:
    write_photograph(tmp_path / "skin", tmp_path / "skin", 24311, "mask")
    # Superpixels of the authors' layout have the same name, in a folder of their own.
    write_photograph(tmp_path / "superpixels", tmp_path / "superpixels", 24311, "mask")
    (tmp_path / "superpixels" / "ISIC_0024311.jpg").unlink()
    assert find_dataset("isic", tmp_path).read(24311).masks["lesion"].sum() == 48


def test_a_shared_subject_reads_the_same_from_a_download(shared_data: Path, tmp_path: Path) -> None:
    """A published volume, written as the download it came from, comes back as it was."""
    published = find_dataset("chaos", shared_data).read(2)
    labels = np.zeros(published.volume.shape, np.uint8)
    for value, organ in enumerate(CHAOS_ORGANS, 1):
        labels[published.masks[organ]] = value
    front_last = published.volume.array[:, ::-1], labels[:, ::-1]
    write_chaos(tmp_path / "2", *front_last, (1.25, 1.25, 7.7), greys=GREYS)
    found = find_dataset("chaos", tmp_path).read(2)
    for organ in CHAOS_ORGANS:
        assert (found.masks[organ][:-1] == published.masks[organ]).all()
    # Brightest voxels are clipped once more, and interpolation leaves fractions out.
    kept = np.minimum(published.volume.array, found.volume.array.max())
    assert np.abs(found.volume.array[:-1] - kept).max() <= 1
    assert not found.volume.array[-1].any()
