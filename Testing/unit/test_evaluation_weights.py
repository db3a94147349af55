"""Weights are evaluated on what they were not trained on, and as the setting demands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_subjects import make_dataset
from safetensors.torch import load_file, save_file

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import command
from FoBSAMLib.evaluation.cases import Case
from FoBSAMLib.evaluation.settings import Settings
from FoBSAMLib.evaluation.tool import resolve
from FoBSAMLib.evaluation.weights import describe_models, trained_on
from FoBSAMLib.models.checkpoints import RECORD
from FoBSAMLib.models.paths import resource

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

ORGANS = ("liver", "right kidney")


def weights(path: Path, **record: Any) -> Path:
    """The shipped weights, saying of themselves that they were trained so; nothing for no word."""
    told = {"model": "fob-lite", "trained_on": {"chaos": [1, 2]}, "labels": {}, "leave_out": {}}
    metadata = {RECORD: json.dumps({**told, "steps": 10, "command": "", **record})}
    shipped = load_file(resource("weights/fob-lite.safetensors"))
    save_file(shipped, path, metadata if record else None)
    return path


def described(path: Path, allow_trained: bool = False, dataset: str = "chaos", **asked: Any) -> Any:
    settings = Settings(ORGANS, generators=(f"fob-lite:{path}",), **asked)
    cases = [Case(19, 3), Case(20, 3)]
    return describe_models(dataset, settings, cases, allow_trained=allow_trained)


def test_weights_trained_on_a_subject_are_refused_unless_told_otherwise(tmp_path):
    file = weights(tmp_path / "a.safetensors", trained_on={"chaos": [2, 19, 20]})
    with pytest.raises(FoBSAMError, match=r"trained on chaos 19, 20.*--allow-trained") as caught:
        described(file)
    assert caught.value.code == "bad_request"
    models = described(file, allow_trained=True)
    assert trained_on(models) == {"chaos": [2, 19, 20]}


def test_the_support_may_have_been_seen_and_so_may_other_data_sets(tmp_path):
    file = weights(tmp_path / "a.safetensors", trained_on={"chaos": [1, 3], "sabs": [19, 20]})
    models = described(file)
    assert trained_on(models) == {"chaos": [1, 3], "sabs": [19, 20]}
    ((one,),) = models["generators"].values()
    assert (one["name"], one["steps"]) == ("fob-lite:a.safetensors", 10)


@pytest.mark.parametrize(
    ("record", "asked", "said"),
    [
        ({"leave_out": {"chaos": ["liver"]}}, {"setting": "II"}, "right kidney"),
        ({"leave_out": {"sabs": list(ORGANS)}}, {"setting": "II"}, "liver, right kidney"),
        (
            # Of two data sets one showed the organs.
            {
                "trained_on": {"chaos": [1], "sabs": [1]},
                "leave_out": {"chaos": list(ORGANS)},
            },
            {"setting": "II"},
            "liver, right kidney",
        ),
        ({"labels": {"chaos": ["liver", "spleen"]}}, {"setting": "I"}, "labels of liver"),
        # Labels of whatever organ, of whatever data set.
        ({"labels": {"chaos": ["spleen"]}}, {"setting": "I"}, "labels of spleen"),
        (
            {"labels": {"sabs": ["aorta"]}, "leave_out": {"chaos": list(ORGANS)}},
            {"setting": "II"},
            "labels of aorta",
        ),
        ({}, {"train_on": ("sabs",)}, "trained on chaos; asked for are some of sabs alone"),
        (
            {"trained_on": {"chaos": [1], "sabs": [1]}},
            {"train_on": ("sabs",)},
            "trained on chaos, sabs; asked for are some of sabs alone",
        ),
    ],
)
def test_weights_that_do_not_fit_the_setting_are_refused(tmp_path, record, asked, said):
    file = weights(tmp_path / "a.safetensors", **{"steps": 10, **record})
    with pytest.raises(FoBSAMError, match=said):
        described(file, **asked)


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ({"leave_out": {"chaos": [*ORGANS, "spleen"]}}, {"setting": "II"}),
        ({"labels": {"chaos": []}}, {"setting": "I"}),
        ({"labels": {"chaos": ["liver"]}}, {}),
        ({"trained_on": {"sabs": [19]}}, {"train_on": ("sabs",), "setting": "I"}),
    ],
)
def test_weights_that_fit_are_evaluated(tmp_path, record, asked):
    described(weights(tmp_path / "a.safetensors", **{"steps": 10, **record}), **asked)


def test_of_weights_without_a_record_nothing_is_known(tmp_path):
    file = weights(tmp_path / "a.safetensors")
    with pytest.raises(FoBSAMError, match=r"do not say what they were trained on.*--allow-trained"):
        described(file)
    assert trained_on(described(file, allow_trained=True)) is None


@pytest.mark.parametrize("asked", [{"setting": "I"}, {"setting": "II"}, {"train_on": ("sabs",)}])
def test_weights_without_a_record_fit_no_setting(tmp_path, asked):
    for kind in ("fob-lite", "fob-paper"):
        settings = Settings(
            ORGANS, generators=(f"{kind}:{weights(tmp_path / 'a.safetensors')}",), **asked
        )
        with pytest.raises(FoBSAMError, match="nobody can tell whether --"):
            describe_models("chaos", settings, [Case(19, 3)], allow_trained=True)


def test_the_papers_own_checkpoints_need_no_record(tmp_path):
    file = tmp_path / "ckpt.pth"
    file.write_bytes(b"never opened")
    settings = Settings(ORGANS, generators=(f"fob-paper:{file}",))
    models = describe_models("chaos", settings, [Case(19, 3)], allow_trained=False)
    assert trained_on(models) is None


def test_the_support_of_a_fold_is_not_to_be_trained_on(tmp_path):
    file = weights(tmp_path / "a.safetensors", trained_on={"chaos": [13]})
    settings = Settings(ORGANS, generators=(f"fob-lite:{file}",))
    with pytest.raises(FoBSAMError, match="trained on chaos 13"):
        describe_models("chaos", settings, [Case(8, 13, "2")], allow_trained=False)
    # Photographs have no development support.
    file = weights(tmp_path / "a.safetensors", trained_on={"isic": [13]})
    settings = Settings(("nevus",), generators=(f"fob-lite:{file}",))
    with pytest.raises(FoBSAMError, match="trained on isic 13"):
        describe_models("isic", settings, [Case(8, 13)], allow_trained=False)


@pytest.mark.parametrize(
    ("segmenter", "code", "said"),
    [
        ("sam-vit-b:~/missing.pth", "weights_missing", "/of/mine/missing.pth"),
        ("sam-vit-b", "weights_missing", "sam_vit_b_01ec64.pth is not in"),
        ("compakt", "bad_request", "Did you mean 'compact'"),
        ("compact:a.pth", "bad_request", "has no weights"),
    ],
)
def test_a_segmenter_that_cannot_work_is_told_first(tmp_path, monkeypatch, segmenter, code, said):
    monkeypatch.setenv("HOME", "/of/mine")
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path))
    settings = Settings(ORGANS, segmenters=(segmenter,))
    with pytest.raises(FoBSAMError, match=said) as caught:
        describe_models("chaos", settings, [Case(19, 3)], allow_trained=False)
    assert caught.value.code == code


def test_the_weights_of_a_segmenter_are_known_by_what_is_in_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.pth").write_bytes(b"abc")
    settings = Settings(ORGANS, segmenters=("sam-vit-b:~/a.pth", "compact"))
    models = describe_models("chaos", settings, [Case(19, 3)], allow_trained=False)
    assert models["segmenters"] == {
        "sam-vit-b:a.pth": {"sha256": hashlib.sha256(b"abc").hexdigest()},
        "compact": {"sha256": ""},
    }


def test_weights_of_folds_and_groups_are_looked_up_for_each(tmp_path):
    for number in (1, 2):
        for group in ("upper", "lower"):
            subjects = {"chaos": [10 * number]}
            weights(tmp_path / f"{number}_{group}.safetensors", trained_on=subjects)
    name = f"fob-lite:{tmp_path}/{{fold}}_{{group}}.safetensors"
    settings = Settings(ORGANS, generators=(name,))
    cases = [Case(1, 3, "1"), Case(8, 13, "2")]
    models = describe_models("chaos", settings, cases, allow_trained=False)
    ((label, files),) = models["generators"].items()
    assert label == "fob-lite:{fold}_{group}.safetensors"
    assert [one["name"] for one in files] == [
        f"fob-lite:{n}_{group}.safetensors" for n in (1, 2) for group in ("upper", "lower")
    ]
    assert trained_on(models) == {"chaos": [10, 20]}
    assert files[3]["serves"] == {
        "queries": [8],
        "supports": [13],
        "folds": ["2"],
        "organs": ["right kidney"],
    }
    # A fold's weights may know the subjects of another.
    cases = [Case(20, 3, "1"), Case(8, 13, "2")]
    describe_models("chaos", settings, cases, allow_trained=False)
    with pytest.raises(FoBSAMError, match="trained on chaos 20"):
        describe_models("chaos", settings, [Case(20, 3, "2")], allow_trained=False)


def test_released_weights_count_their_folds_from_zero():
    assert resolve("fob-paper:x_cv{cv}/ckpt.pth", "3", "liver") == "fob-paper:x_cv2/ckpt.pth"
    assert resolve("fob-lite:{group}", None, "seborrheic keratosis").endswith(
        ":seborrheic-keratosis"
    )


def test_what_the_weights_saw_stands_in_the_document(tmp_path):
    dataset = make_dataset(tmp_path, (3, 19))
    file = weights(tmp_path / "a.safetensors", trained_on={"chaos": [19]}, labels={"chaos": []})
    asked = {"subjects": [19], "methods": ["copy"], "generators": [f"fob-lite:{file}"]}
    folder = dataset.files[3][0].parent
    with pytest.raises(FoBSAMError, match="trained on chaos 19"):
        command.run("chaos", folder, **asked)
    document = command.run("chaos", folder, **asked, allow_trained=True)
    assert document["trained_on"] == {"chaos": [19]}
    assert document["rules_from"] == {"chaos": [15], "sabs": [10, 11]}
    assert document["choices_from"] == {"chaos": [19], "sabs": [12, 14]}
