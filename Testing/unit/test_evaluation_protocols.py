"""Protocols, tables and the command, on made-up subjects laid out like chaos."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from phantom import BALL, DRAWN, EGG, labels, save, voxels

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import command, protocols
from FoBSAMLib.evaluation.cost import Cost, measure_cost
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.evaluation.tables import markdown
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

ABSENT = 0


class CopySession:
    """Stands in for the tool: copies the annotated mask by two slices to either side."""

    def __init__(self, generator: str, segmenter: str, device: str) -> None:
        pass

    def set_image(self, volume: Volume) -> None:
        self.volume = volume

    def set_supports(self, support: Support) -> None:
        self.support = support

    def segment(self) -> Iterator[SliceResult]:
        (structure,) = self.support.structures
        annotated = self.support.indices(structure)
        for index in range(self.volume.shape[0]):
            if index in (*annotated, *self.support.absent.get(structure.name, ())):
                continue
            nearest = min(annotated, key=lambda other: abs(other - index))
            near = abs(nearest - index) <= 2
            mask = self.support.mask(structure, nearest) & near
            yield SliceResult(structure, "k", index, mask, Prompts(), float(near), 1.0, 1.0)

    def suggest(self, structure: str) -> int | None:
        (drawn,) = self.support.structures
        assert drawn.name == structure
        known = (*self.support.indices(drawn), *self.support.absent.get(structure, ()))
        return next((index for index in (ABSENT, DRAWN + 3) if index not in known), None)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two check subjects and the support, with a liver (the ball) and a right kidney (the egg)."""
    assert (BALL, EGG) == (1, 2)
    for subject in (3, 19, 20):
        save(tmp_path / f"image_{subject}.nii.gz", voxels(seed=subject))
        save(tmp_path / f"label_{subject}.nii.gz", labels())
    return find_dataset("chaos", tmp_path)


@pytest.fixture
def folder(dataset: Dataset) -> Path:
    return dataset.files[3][0].parent


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for the tool, and no process of its own that would measure its cost."""
    monkeypatch.setattr(protocols, "LocalSession", CopySession)
    monkeypatch.setattr(command, "measure_cost", lambda *_: Cost(19, "liver", 1.5, 800.0, {}))


def copied(truth: np.ndarray, index: int) -> np.ndarray:
    found = np.zeros_like(truth)
    found[index - 2 : index + 3] = truth[index]
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.usefixtures("copying")
def test_interactive_starts_at_the_largest_slice_and_scores_the_whole_volume(dataset):
    subject = dataset.read(19)
    settings = protocols.Settings(organs=("liver",), methods=("fobsam",))
    (record,) = protocols.interactive(subject, settings)
    truth = subject.masks["liver"]
    largest = int(truth.sum(axis=(1, 2)).argmax())
    assert (record.annotated, record.absent) == ((largest,), ())
    assert record.dice == pytest.approx(overlap(truth, copied(truth, largest)))
    others = np.arange(len(truth)) != largest
    assert record.dice_queries == pytest.approx(
        overlap(truth[others], copied(truth, largest)[others])
    )
    assert (record.query_slices, record.found_slices) == (11, 4)
    assert 0 < record.surface_dice < 1
    assert record.hd95_mm > 0


@pytest.mark.usefixtures("copying")
def test_further_slices_are_those_the_tool_asks_for_and_absent_is_an_answer(dataset):
    settings = protocols.Settings(organs=("liver",), methods=("fobsam", "copy"), slices_annotated=5)
    subject = dataset.read(19)
    records = list(protocols.interactive(subject, settings))
    largest = int(subject.masks["liver"].sum(axis=(1, 2)).argmax())
    tool = [record for record in records if record.method == "fobsam"]
    # The tool has no question after two: it stops there although five were allowed.
    assert [record.annotated for record in tool] == [
        (largest,),
        (largest, ABSENT),
        (largest, ABSENT, DRAWN + 3),
    ]
    assert [record.absent for record in tool] == [(), (ABSENT,), (ABSENT,)]
    for presence in ("own", "tool"):
        copies = [r for r in records if (r.method, r.presence) == ("copy", presence)]
        assert [record.annotated for record in copies] == [record.annotated for record in tool]
    # Told what the tool kept, a copy of the same masks is the tool's own answer.
    told = next(r for r in records if (r.method, r.presence) == ("copy", "tool"))
    assert told.dice == tool[0].dice


@pytest.mark.usefixtures("copying")
def test_whole_annotates_another_subject_only(dataset):
    settings = protocols.Settings(organs=("liver", "right kidney"), methods=protocols.METHODS)
    records = list(protocols.whole(dataset.read(19), dataset.read(3), settings))
    assert {record.annotated for record in records} == {()}
    assert {record.query_slices for record in records} == {12}
    assert all(record.dice == record.dice_queries for record in records)
    # Both subjects are the same phantom but for the noise, so that the supports fit.
    best = [r.dice for r in records if r.method == "registration+random-walker"]
    assert min(best) > 0.7


def test_baselines_need_no_tool(dataset):
    settings = protocols.Settings(organs=("liver",), methods=("copy", "random-walker"))
    records = list(protocols.interactive(dataset.read(19), settings))
    assert [(record.method, record.presence) for record in records] == [
        ("copy", "own"),
        ("random-walker", "own"),
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": ("fobsam", "magic")}, "magic"),
        ({"slices_annotated": 0}, "At least one"),
        ({"slices_annotated": 2, "methods": ("copy",)}, "Add fobsam"),
    ],
)
def test_settings_that_make_no_sense(wrong, said):
    with pytest.raises(FoBSAMError, match=said) as caught:
        protocols.Settings(organs=("liver",), **wrong)
    assert caught.value.code == "bad_request"


@pytest.mark.usefixtures("copying")
def test_the_command_writes_json_and_markdown_as_it_goes(folder, tmp_path):
    files = {"json_file": tmp_path / "a.json", "markdown_file": tmp_path / "a.md"}
    seen: list[tuple[int, int, int | None]] = []

    def progress(done: int, total: int, subject: int | None) -> None:
        seen.append((done, total, subject))
        held = json.loads(files["json_file"].read_text())["records"]
        assert len({record["subject"] for record in held}) == done

    document = command.run(
        "chaos", folder, subjects=[19, 20], methods=["fobsam", "copy"], progress=progress, **files
    )
    assert seen == [(0, 2, None), (1, 2, 19), (2, 2, 20)]
    assert json.loads(files["json_file"].read_text()) == document
    assert files["markdown_file"].read_text() == markdown(document)
    assert document["machine"]["jobs"] == 1


@pytest.mark.usefixtures("copying")
def test_an_interrupted_run_goes_on_where_it_stopped(folder, tmp_path):
    file = tmp_path / "a.json"
    first = command.run("chaos", folder, subjects=[19], methods=["fobsam"], json_file=file)
    seen: list[int | None] = []
    second = command.run(
        "chaos",
        folder,
        subjects=[19, 20],
        methods=["fobsam"],
        json_file=file,
        resume=True,
        progress=lambda done, total, subject: seen.append(subject),
    )
    assert seen == [None, 20]
    assert second["records"][: len(first["records"])] == first["records"]
    with pytest.raises(FoBSAMError, match="another question"):
        command.run("chaos", folder, "whole", subjects=[19], json_file=file, resume=True)


def test_two_jobs_find_what_one_finds(folder):
    one, two = (
        command.run("chaos", folder, subjects=[19, 20], methods=["copy"], jobs=jobs)
        for jobs in (1, 2)
    )
    assert [r["dice"] for r in one["records"]] == [r["dice"] for r in two["records"]]
    assert two["machine"]["jobs"] == 2


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize(
    "wrong", [{"protocol": "fob"}, {"jobs": 0}, {"json_file": Path("missing") / "a.json"}]
)
def test_what_cannot_work_is_said_before_the_work(folder, monkeypatch, wrong):
    monkeypatch.setattr(command, "interactive", lambda *_: pytest.fail("it began"))
    with pytest.raises(FoBSAMError):
        command.run("chaos", folder, subjects=[19], **wrong)


@pytest.mark.usefixtures("copying")
def test_the_table_holds_means_spreads_and_differences(folder):
    document = command.run("chaos", folder, subjects=[19, 20], methods=["fobsam", "copy"])
    for record, dice in zip(document["records"], (0.9, 0.7, 0.4) * 4, strict=True):
        record["dice"] = dice
        record["presence"] = "tool" if dice == 0.4 else "own"
    text = markdown(document)
    tool, own, told = (line for line in text.splitlines() if line.startswith(("| fob", "| copy")))
    assert "| 90.0 ± 0.0 | 90.0 ± 0.0 | **90.0 ± 0.0** |  |" in tool
    assert own.startswith("| copy, presence: own | 70.0 ± 0.0")
    assert "| +20.0 |" in own
    assert "| +50.0 |" in told
    assert "| 100 % |" in told
    assert "first result after 1.5 s, peak memory 800 MB" in text


@pytest.mark.usefixtures("copying")
def test_the_difference_does_not_hang_on_the_order_of_methods(folder):
    one, two = (
        command.run("chaos", folder, subjects=[19], methods=methods)
        for methods in (["fobsam", "copy"], ["copy", "fobsam"])
    )
    columns = [
        [
            line.split("|")[5]
            for line in markdown(document).splitlines()
            if line.startswith("| copy")
        ]
        for document in (one, two)
    ]
    assert columns[0] == columns[1]
    assert all(re.fullmatch(r" [+-]\d+\.\d ", difference) for difference in columns[1])


def test_the_support_is_not_evaluated_on_itself(folder):
    with pytest.raises(FoBSAMError, match="on itself") as caught:
        command.run("chaos", folder, "whole", subjects=[3], methods=["copy"])
    assert caught.value.code == "bad_request"


@pytest.mark.usefixtures("copying")
def test_the_command_is_kept_without_the_folders_of_its_outputs(folder, tmp_path, monkeypatch):
    files = ["--json", str(tmp_path / "a.json"), f"--markdown={tmp_path / 'a.md'}"]
    monkeypatch.setattr(
        sys, "argv", ["fobsam", "evaluate", "chaos", "data", *files, "--organ", "left kidney"]
    )
    document = command.run("chaos", folder, subjects=[19], organs=["liver"], methods=["copy"])
    assert document["command"] == (
        "fobsam evaluate chaos data --json a.json --markdown=a.md --organ 'left kidney'"
    )


@pytest.mark.usefixtures("copying")
def test_the_spread_is_that_over_subjects(folder):
    document = command.run("chaos", folder, subjects=[19, 20], methods=["fobsam"])
    for record, dice in zip(document["records"], (0.9, 0.5, 0.7, 0.3), strict=True):
        record["dice"] = dice
    assert "**60.0 ± 14.1**" in markdown(document)


@pytest.mark.usefixtures("copying")
def test_the_table_shows_dice_against_annotated_slices(folder):
    document = command.run(
        "chaos", folder, subjects=[19], organs=["liver"], methods=["fobsam"], slices_annotated=4
    )
    for record, dice in zip(document["records"], (0.7, 0.8, 0.95), strict=True):
        record["dice"] = dice
    line = markdown(document).splitlines()[-1]
    # Three slices were all the tool wanted: with four it is where it was.
    assert line.split("|")[1:6] == [
        " fobsam ",
        *(f" {dice:.1f} ± 0.0 " for dice in (70, 80, 95, 95)),
    ]
    assert line.endswith("| 3.0 (1 of 1) |")


@pytest.mark.usefixtures("copying")
def test_the_published_row_stands_beside_the_whole_protocol(folder):
    document = command.run(
        "chaos", folder, "whole", subjects=[19], organs=["liver"], methods=["fobsam"]
    )
    assert "| published FoB + SAM ViT-H, organ slices only | 85.6 | 85.6 |" in markdown(document)


def test_the_cost_is_measured_in_a_process_of_its_own(dataset):
    cost = measure_cost(dataset, 19, "liver", "fob-lite", "compact", "cpu")
    assert 0.1 < cost.first_result_s < 60
    assert 50 < cost.peak_memory_mb < 4000
    assert cost.models["device"] == "cpu"
