"""What a training is shown: folds, settings, subjects kept for checking."""

from __future__ import annotations

from pathlib import Path

import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.dataset_descriptions import CHAOS, ISIC, SABS
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.training.settings import Choice, choose, record


def found(folder: Path, description, ids) -> Dataset:
    """A data set on disk; what is trained on depends on its files' names alone."""
    inside = folder / description.folders[0]
    inside.mkdir()
    for n in ids:
        for kind in ("image", "label"):
            (inside / f"{kind}_{n}.nii.gz").touch()
    return find_dataset(description.name, folder)


@pytest.fixture
def chaos(tmp_path):
    return found(tmp_path, CHAOS, CHAOS.ids)


@pytest.fixture
def sabs(tmp_path):
    return found(tmp_path, SABS, SABS.ids)


@pytest.fixture
def photographs():
    classes = dict(enumerate(["melanoma", "nevus", "seborrheic keratosis", "nevus"]))
    files = {n: (Path(f"{n}.jpg"), Path(f"{n}.png")) for n in classes}
    return Dataset(ISIC, files, None, classes, ((0, 1), (2,), (3,)))


def refused(*arguments, **options) -> str:
    with pytest.raises(FoBSAMError) as caught:
        choose(*arguments, **options)
    assert caught.value.code == "bad_request"
    return str(caught.value)


def test_training_subjects_are_chosen_unless_told_otherwise(chaos, sabs):
    scope = choose([chaos, sabs], Choice())
    assert scope.subjects == {"chaos": [1, 2, 3, 5, 8, 10, 13, 15], "sabs": list(range(12))}
    assert not scope.leave_out
    assert not scope.labels


def test_across_domains_one_data_set_is_trained_on(chaos):
    assert set(choose([chaos], Choice(), {"sabs": [1]}).subjects) == {"chaos"}


@pytest.mark.parametrize(
    ("fold", "outside"),
    [
        (1, [10, 13, 15, 19, 20, 21, 22, 31, 32, 33, 34, 36, 37, 38, 39]),
        (2, [1, 2, 3, 5, 20, 21, 22, 31, 32, 33, 34, 36, 37, 38, 39]),
        (5, [2, 3, 5, 8, 10, 13, 15, 19, 20, 21, 22, 31, 32, 33, 34]),
    ],
)
def test_a_fold_is_trained_on_all_cases_but_its_own_as_published(chaos, fold, outside):
    scope = choose([chaos], Choice(fold=fold, all_subjects=True), {"chaos": [1]})
    assert scope.subjects == {"chaos": outside}
    assert not scope.notes
    tested = next(one for one in chaos.folds() if one.name == str(fold))
    assert not set(tested.subjects) & set(outside)
    assert len(tested.subjects) + len(outside) == 20


def test_a_fold_leaves_subjects_kept_for_checking_out_and_says_so(chaos):
    scope = choose([chaos], Choice(fold=2))
    assert scope.subjects == {"chaos": [1, 2, 3, 5, 31, 32, 33, 34, 36, 37, 38, 39]}
    (note,) = scope.notes
    assert "20, 21, 22" in note
    assert "--all-subjects" in note


def test_a_fold_of_a_part_of_the_data_is_trained_on_what_is_there(tmp_path):
    part = found(tmp_path, CHAOS, (1, 2, 3, 5, 8, 10, 13, 15, 19))
    scope = choose([part], Choice(fold=1))
    assert scope.subjects == {"chaos": [10, 13, 15]}
    assert "11 of the 15" in scope.notes[0]


def test_no_subject_left(tmp_path):
    part = found(tmp_path, CHAOS, (1, 2, 3))
    assert "No subject of chaos is left" in refused([part], Choice(fold=1))


def test_an_unknown_fold(chaos):
    assert "folds are 1 to 5" in refused([chaos], Choice(fold=6))


@pytest.mark.parametrize("asked", [[1, 19], [12]])
def test_subjects_kept_for_checking_are_refused(chaos, sabs, asked):
    dataset = chaos if 19 in asked else sabs
    text = refused([dataset], Choice(), {dataset.name: asked})
    assert f"subjects {asked[-1]} are not for training" in text


def test_subjects_that_are_not_there(chaos):
    assert "no subject 4 here" in refused([chaos], Choice(), {"chaos": [1, 4]})


def test_setting_two_leaves_the_test_organs_out(chaos, sabs):
    organs = ("left kidney", "right kidney")
    scope = choose([chaos, sabs], Choice(setting="II", test_organs=organs, labels=True))
    assert scope.leave_out == {"chaos": list(organs), "sabs": list(organs)}
    assert scope.labelled([chaos])["chaos"] == ["liver", "spleen"]


def test_a_test_organ_must_be_labelled_to_be_left_out(chaos, sabs):
    pancreas = Choice(setting="II", test_organs=("pancreas",))
    assert choose([sabs], pancreas).leave_out == {"sabs": ["pancreas"]}
    assert "chaos has no labels of pancreas" in refused([sabs, chaos], pancreas)


@pytest.mark.parametrize("options", [{"setting": "II"}, {"test_organs": ("liver",)}])
def test_setting_and_test_organs_go_together(options):
    with pytest.raises(FoBSAMError, match="Setting I"):
        Choice(**options)


def test_photographs_of_a_tested_class_are_left_out(photographs):
    assert choose([photographs], Choice()).subjects == {"isic": [0, 1, 2, 3]}
    scope = choose([photographs], Choice(setting="II", test_organs=("nevus",)))
    assert scope.subjects == {"isic": [0, 2]}
    assert scope.leave_out == {"isic": ["nevus"]}
    assert choose([photographs], Choice(fold=1)).subjects == {"isic": [2, 3]}


def test_the_record_says_what_was_shown(chaos):
    scope = choose([chaos], Choice(setting="II", test_organs=("liver",)))
    said = record("fob-lite", scope, [chaos], 10, "fobsam train chaos DIR")
    assert said == {
        "model": "fob-lite",
        "trained_on": {"chaos": [1, 2, 3, 5, 8, 10, 13, 15]},
        "labels": {},
        "leave_out": {"chaos": ["liver"]},
        "steps": 10,
        "command": "fobsam train chaos DIR",
    }
