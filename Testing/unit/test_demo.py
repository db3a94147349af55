"""``fobsam demo``: the first thing a newcomer runs."""

from __future__ import annotations

import json
import re

from FoBSAMLib.demo import STRUCTURE, read_example
from FoBSAMLib.image.io import read_segmentation


def test_demo_segments_a_lung_and_says_how_well(fobsam, tmp_path):
    result = fobsam("demo", "--output", "new/folder")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "new" / "folder"
    assert sorted(file.name for file in folder.iterdir()) == [
        "chest.json",
        "chest.png",
        "chest.seg.nrrd",
    ]
    said = float(re.search(r"Dice .*: (0\.\d+)", result.stdout)[1])
    assert re.search(r"\d s, \d+ ms a slice", result.stdout)

    volume, known = read_example()
    segmentation = read_segmentation(folder / "chest.seg.nrrd", like=volume)
    (structure,) = segmentation.select([STRUCTURE])
    found = segmentation.mask(structure)
    report = json.loads((folder / "chest.json").read_text())["structures"][0]
    (drawn,) = report["support_slices"]
    assert len(report["slices"]) == len(known) - 1
    others = [n for n in range(len(known)) if n != drawn]
    overlap = (found & known)[others].sum()
    dice = 2 * overlap / (found[others].sum() + known[others].sum())
    assert abs(dice - said) < 0.001
    assert dice > 0.85


def test_folder_that_cannot_be_made(fobsam, tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = fobsam("demo", "--output", "file/demo")
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
