"""Segmenters by name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry


@pytest.fixture(autouse=True)
def models_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path))
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def refused(name: str, code: str) -> str:
    with pytest.raises(FoBSAMError) as caught:
        registry.create(name, "cpu")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names():
    without = ("compact", "random-walker")
    sam = ("sam-vit-b", "sam-vit-l", "sam-vit-h", "sam2.1-tiny", "sam-med2d")
    assert registry.names() == (*without, *sam)


@pytest.mark.parametrize("name", ["compact", "random-walker"])
def test_segmenters_without_weights_work_at_once(name):
    segmenter = registry.create(name)
    assert segmenter.name == name
    image = np.zeros((40, 50), np.float32)
    image[10:30, 10:30] = 1
    prompts = Prompts(np.array([[5, 5], [35, 35]]), np.array([[20, 20]]))
    probability = segmenter.segment(segmenter.embed(image), prompts)
    np.testing.assert_array_equal(probability > 0.5, image > 0.5)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("compct", "compact"), ("RandomWalker", "random-walker"), ("sam-vit-bb", "sam-vit-b")],
)
def test_unknown_name_tells_the_nearest(name, nearest):
    text = refused(name, "bad_request")
    assert f"Did you mean {nearest!r}?" in text
    assert name in text


def test_a_name_like_none_of_them_lists_all():
    text = refused("zzz", "bad_request")
    assert "Did you mean" not in text
    assert all(name in text for name in registry.names())


@pytest.mark.parametrize("name", ["compact", "random-walker"])
def test_a_file_for_a_segmenter_without_weights(name):
    assert "no weights" in refused(f"{name}:w.pth", "bad_request")


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("sam-vit-b", "sam_vit_b_01ec64.pth"),
        ("sam-vit-l", "sam_vit_l_0b3195.pth"),
        ("sam-vit-h", "sam_vit_h_4b8939.pth"),
    ],
)
def test_missing_weights_say_what_goes_where(name, file_name, models_folder):
    text = refused(name, "weights_missing")
    assert str(models_folder) in text
    assert f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}" in text
    assert f"fobsam models download {name}" in text
    assert f"{name}:FILE" in text


def test_missing_file_given_by_the_user(tmp_path):
    assert "mine.pth" in refused(f"sam-vit-b:{tmp_path / 'mine.pth'}", "weights_missing")


def test_the_registry_alone_is_light():
    program = (
        "import sys; from FoBSAMLib.segmenters import registry; registry.names();"
        "print([m for m in ('torch', 'skimage', 'torchvision', 'segment_anything')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_folder_in_place_of_a_file_and_a_colon_without_one_are_told(tmp_path):
    assert "is a folder" in refused(f"sam-vit-b:{tmp_path}", "weights_missing")
    assert "names no weights file" in refused("sam-vit-b:", "bad_request")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fob-lite:", "names no weights file"),
        ("fob-paper:sabs:9", "There is no published fold sabs:9"),
        ("fob-paper:chaos:0", "There is no published fold chaos:0"),
    ],
)
def test_names_of_generators_that_say_too_little_or_too_much(name, told):
    with pytest.raises(FoBSAMError, match=told) as caught:
        generators.weights_file(name)
    assert caught.value.code == "bad_request"
