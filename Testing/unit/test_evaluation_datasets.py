"""Labelled data sets on disk, in the preprocessed layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from phantom import save, voxels

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.datasets import find_dataset

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


def test_the_shared_data_hold_all_check_subjects(shared_data):
    assert find_dataset("chaos", shared_data).choose() == (19, 20, 21, 22)
    assert find_dataset("sabs", shared_data).choose() == tuple(range(12, 18))
