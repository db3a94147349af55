"""Labelled data sets on disk, in the preprocessed layout: subjects, organs, split and folds."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from phantom import save, voxels

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import DATASETS, Dataset, Fold, find_dataset

SUBJECTS = (1, 2, 3, 10, 19, 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "data" / "chaos_t2"
    inside.mkdir(parents=True)
    for subject in SUBJECTS:
        labels = np.zeros((4, 16, 16), np.uint8)
        labels[1:3, 4:8, 4:8] = 1
        labels[2, 10:12, 10:12] = 4
        save(inside / f"image_{subject}.nii.gz", voxels((4, 16, 16), seed=subject))
        save(inside / f"label_{subject}.nii.gz", labels)
    return inside


def error_of(action) -> FoBSAMError:
    with pytest.raises(FoBSAMError) as caught:
        action()
    return caught.value


def test_subjects_are_in_the_order_of_their_numbers(folder):
    assert find_dataset("chaos", folder).subjects == SUBJECTS


def test_the_parent_folder_does_as_well(folder):
    assert find_dataset("chaos", folder.parent).files == find_dataset("chaos", folder).files


def test_a_subject_has_its_organs_by_name_and_no_empty_one(folder):
    subject = find_dataset("chaos", folder).read(10)
    assert {organ: int(mask.sum()) for organ, mask in subject.masks.items()} == {
        "liver": 32,
        "spleen": 4,
    }
    assert subject.volume.shape == (4, 16, 16)


def test_check_subjects_are_chosen_unless_told_otherwise(folder):
    dataset = find_dataset("chaos", folder)
    assert dataset.choose([20, 19, 20]) == (19, 20)
    assert dataset.choose([2, 10, 1]) == (1, 2, 10)
    assert "21, 22" in str(error_of(dataset.choose))


def test_training_and_check_subjects_are_not_mixed(folder):
    dataset = find_dataset("chaos", folder)
    error = error_of(lambda: dataset.choose([1, 19]))
    assert error.code == "bad_request"
    assert "1 are training subjects" in str(error)


def test_organs_keep_the_order_of_the_table(folder):
    dataset = find_dataset("chaos", folder)
    assert dataset.choose_organs(["spleen", "liver"]) == ("liver", "spleen")
    assert "right kidney" in str(error_of(lambda: dataset.choose_organs(["heart"])))


def test_missing_data_says_what_is_missing(folder, tmp_path):
    assert error_of(lambda: find_dataset("chaos", tmp_path / "no")).code == "unreadable"
    assert "image_N.nii.gz" in str(error_of(lambda: find_dataset("chaos", tmp_path)))
    assert "chaos, sabs, isic or totalseg" in str(error_of(lambda: find_dataset("isles", folder)))
    (folder / "label_3.nii.gz").unlink()
    assert "label_3.nii.gz" in str(error_of(lambda: find_dataset("chaos", folder)))


def named(folder: Path, name: str, subjects: tuple[int, ...]) -> Dataset:
    """A data set whose files have names alone."""
    for subject in subjects:
        for kind in ("image", "label"):
            (folder / f"{kind}_{subject}.nii.gz").touch()
    return find_dataset(name, folder)


@pytest.mark.parametrize(
    ("name", "supports", "last"),
    [
        ("chaos", [3, 13, 21, 33, 37], (1, 36, 37, 38, 39)),
        ("sabs", [2, 8, 14, 20, 25], (0, 24, 25, 26, 27, 28, 29)),
    ],
)
def test_folds_are_places_in_the_public_set(
    tmp_path: Path, name: str, supports: list[int], last: tuple[int, ...]
) -> None:
    folds = named(tmp_path, name, DATASETS[name].ids).folds()
    assert [fold.support for fold in folds] == supports
    assert folds[-1].subjects == last
    assert supports[-1] not in folds[-1].queries
    # Neighbouring folds share one subject, and every subject is in one.
    assert [len({*one.subjects} & {*two.subjects}) for one, two in pairwise(folds)] == [1] * 4
    assert {n for fold in folds for n in fold.subjects} == set(DATASETS[name].ids)


def test_folds_of_a_part_of_the_public_set_are_refused(folder: Path) -> None:
    error = error_of(find_dataset("chaos", folder).folds)
    assert error.code == "bad_request"
    assert "here are 6 of them" in str(error)
    assert "5, 8, 13, 15, 21" in str(error)
    assert "check subjects (19, 20, 21, 22)" in str(error)


def test_check_subjects_have_a_support_of_their_own(tmp_path: Path) -> None:
    dataset = named(tmp_path, "chaos", (1, 3, 19, 20, 21, 22))
    assert dataset.check_fold() == Fold("check", 3, (19, 20, 21, 22))
    assert dataset.support == 3
    assert [dataset.split(n) for n in (1, 19, 31)] == ["train", "check", None]
    (tmp_path / "image_3.nii.gz").unlink()
    assert "no subject 3" in str(error_of(find_dataset("chaos", tmp_path).check_fold))


def test_public_subjects_outside_the_split_go_with_either(tmp_path: Path) -> None:
    dataset = named(tmp_path, "chaos", DATASETS["chaos"].ids)
    assert dataset.choose([39, 19]) == (19, 39)
    assert dataset.choose([39, 1]) == (1, 39)
    assert dataset.choose() == (19, 20, 21, 22)


def test_organs_beyond_the_table_are_chosen_by_name(tmp_path: Path) -> None:
    dataset = named(tmp_path, "sabs", (0,))
    assert len(dataset.organs) == 13
    assert dataset.choose_organs() == ("liver", "right kidney", "left kidney", "spleen")
    assert dataset.choose_organs(["pancreas", "spleen"]) == ("spleen", "pancreas")


def test_a_subject_that_is_not_there_is_told(folder: Path) -> None:
    assert "no subject 7" in str(error_of(lambda: find_dataset("chaos", folder).read(7)))


def test_preprocessed_files_stay_where_they_are(folder: Path, tmp_path: Path) -> None:
    dataset = find_dataset("chaos", folder)
    assert dataset.as_files(10, tmp_path / "cache") == dataset.files[10]
    assert not (tmp_path / "cache").exists()


def test_a_data_set_goes_to_other_processes(folder: Path) -> None:
    dataset = pickle.loads(pickle.dumps(find_dataset("chaos", folder)))
    assert dataset.read(2).masks.keys() == {"liver", "spleen"}


def test_samples_of_totalsegmentator(tmp_path: Path) -> None:
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1:3, 4:8, 4:8] = 5
    save(tmp_path / "example_mr_sm.nii.gz", voxels((4, 16, 16)))
    save(tmp_path / "example_seg_mr.nii.gz", labels)
    dataset = find_dataset("totalseg", tmp_path)
    assert dataset.subjects == (2,)
    assert dataset.read(2).masks.keys() == {"liver"}
    assert error_of(dataset.folds).code == "bad_request"
    assert error_of(dataset.check_fold).code == "bad_request"


def test_the_folder_of_another_data_set_is_told(folder):
    told = error_of(lambda: find_dataset("sabs", folder))
    assert told.code == "bad_request"
    assert "is the folder of chaos, not of sabs" in told.message


def test_labels_that_the_data_set_does_not_have_are_told(folder):
    labels = np.zeros((4, 16, 16), np.uint8)
    labels[1, 4:8, 4:8] = 9
    save(folder / "label_1.nii.gz", labels)
    told = error_of(lambda: find_dataset("chaos", folder).read(1))
    assert "label_1.nii.gz has the labels 9, where 1 to 4 are looked for" in told.message


def test_the_shared_data_hold_all_check_subjects(shared_data):
    for name, check in (("chaos", (19, 20, 21, 22)), ("sabs", tuple(range(12, 18)))):
        dataset = find_dataset(name, shared_data)
        assert dataset.choose() == check
        assert dataset.check_fold().queries == check
        assert set(dataset.subjects) == {*dataset.description.train, *check}
    assert find_dataset("totalseg", shared_data).choose() == (1, 2)
    lesions = find_dataset("isic", shared_data)
    assert lesions.read(lesions.choose()[0]).masks["lesion"].any()
