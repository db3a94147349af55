"""`fobsam evaluate`: whom it asks, what it refuses, what it writes and takes up again."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from evaluation_subjects import CopySession, make_dataset
from PIL import Image
from typer.testing import CliRunner

from FoBSAMLib import cli
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation import command, tool
from FoBSAMLib.evaluation.cases import PAIRS, Case, find_cases, lacking_notes
from FoBSAMLib.evaluation.cost import Cost, measure_cost
from FoBSAMLib.evaluation.datasets import Dataset, find_dataset
from FoBSAMLib.evaluation.settings import METHODS, SUGGESTIONS, Settings
from FoBSAMLib.evaluation.tables import markdown
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.segmenters import registry as segmenters

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(Path(tmp_path_factory.mktemp("chaos")))


@pytest.fixture
def folder(dataset: Dataset) -> Path:
    return dataset.files[3][0].parent


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for the tool, and no process of its own that would measure its cost."""
    monkeypatch.setattr(tool, "ToolSession", CopySession)
    monkeypatch.setattr(command, "measure_cost", lambda *_: Cost(19, "liver", 1.5, 800.0, {}))


@pytest.mark.usefixtures("copying")
def test_json_and_markdown_are_written_as_it_goes(folder, tmp_path):
    files = {"json_file": tmp_path / "a.json", "markdown_file": tmp_path / "a.md"}
    seen: list[tuple[int, int, int | None]] = []
    told: list[str] = []

    def progress(done: int, total: int, subject: int | None) -> None:
        seen.append((done, total, subject))
        held = json.loads(files["json_file"].read_text())["records"]
        assert len({record["subject"] for record in held}) == done

    document = command.run(
        "chaos",
        folder,
        subjects=[19, 20],
        methods=["fobsam", "copy"],
        progress=progress,
        tell=told.append,
        **files,
    )
    assert told[0] == "subject 19, liver by fobsam done"
    assert told[-1] == "subject 20, right kidney by copy done"
    assert seen == [(0, 2, None), (1, 2, 19), (2, 2, 20)]
    assert json.loads(files["json_file"].read_text()) == document
    assert files["markdown_file"].read_text() == markdown(document)
    assert document["machine"]["jobs"] == 1
    assert document["cost"]["first_result_s"] == 1.5
    # A record a line, so that two files can be compared.
    lines = files["json_file"].read_text().splitlines()
    assert sum('"method"' in line for line in lines) == len(document["records"])


@pytest.mark.usefixtures("copying")
def test_an_interrupted_run_goes_on_where_it_stopped(folder, tmp_path):
    file = tmp_path / "a.json"
    first = command.run("chaos", folder, subjects=[20], methods=["fobsam"], json_file=file)
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
    assert seen == [None, 19]
    assert second["records"][-len(first["records"]) :] == first["records"]
    for other in (
        {"protocol": "whole"},
        {"suggestions": ["middle"]},
        {"segmenters": ["random-walker"]},
        {"train_on": ["chaos", "sabs"]},
    ):
        asked = {"methods": ["fobsam"], "json_file": file, "resume": True, **other}
        with pytest.raises(FoBSAMError, match="another question"):
            command.run("chaos", folder, subjects=[19], **asked)
    before = file.read_bytes()
    with pytest.raises(FoBSAMError, match="holds the results of 2 subjects"):
        command.run("chaos", folder, subjects=[19], methods=["fobsam"], json_file=file)
    assert file.read_bytes() == before
    with pytest.raises(FoBSAMError, match="nothing to resume from"):
        command.run("chaos", folder, subjects=[19], methods=["fobsam"], resume=True)


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("end", [KeyboardInterrupt(), FoBSAMError("out_of_memory", "Too large.")])
def test_the_page_of_a_run_that_ends_early_holds_what_was_done(folder, tmp_path, end):
    page, file = tmp_path / "a.html", tmp_path / "a.json"
    asked = {"subjects": [19, 20], "methods": ["copy"], "json_file": file, "html_file": page}

    def stop(done: int, total: int, subject: int | None) -> None:
        if subject is None:
            assert "No subject yet of 19, 20" in page.read_text()
        else:
            raise end

    with pytest.raises(type(end)):
        command.run("chaos", folder, progress=stop, **asked)
    (dice, *_) = (one["dice"] for one in json.loads(file.read_text())["records"])
    assert f"{100 * dice:.1f}" in page.read_text()
    for written in (page.read_text(), markdown(json.loads(file.read_text()))):
        assert "Subject 19 of 19, 20" in written
        assert "unfinished: 1 of 2 cases" in written
    command.run("chaos", folder, resume=True, **asked)
    assert "Subjects 19, 20;" in page.read_text()
    assert "unfinished" not in page.read_text()


@pytest.mark.usefixtures("copying")
def test_ctrl_c_says_where_the_results_are_and_how_to_go_on(folder, tmp_path, monkeypatch, capsys):
    def stopped_after_one(*asked):
        yield next(evaluate(*asked))
        raise KeyboardInterrupt

    evaluate, file = command._evaluate, tmp_path / "a.json"
    monkeypatch.setattr(command, "_evaluate", stopped_after_one)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    asked = ["--subject", "19", "--subject", "20", "--method", "copy"]
    for files in ([], ["--json", str(file)]):
        monkeypatch.setattr(
            sys, "argv", ["fobsam", "evaluate", "chaos", str(folder), *asked, *files]
        )
        with pytest.raises(SystemExit, match="130"):
            cli.main()
    first, second = capsys.readouterr().err.strip().splitlines()
    assert first == "stopped: no unfinished file is left."
    assert second == f"stopped: {file} holds what is done. The same command with --resume goes on."
    assert {one["subject"] for one in json.loads(file.read_text())["records"]} == {19}


@pytest.mark.usefixtures("copying")
def test_other_weights_of_the_same_name_are_another_question(folder, tmp_path):
    """A run that goes on must not mix the answers of two weights files."""
    weights = tmp_path / "own.pth"
    weights.write_bytes(b"first")
    asked = {
        "subjects": [19],
        "methods": ["copy"],
        "generators": [f"fob-lite:{weights}"],
        "allow_trained": True,
        "json_file": tmp_path / "a.json",
    }
    command.run("chaos", folder, **asked)
    command.run("chaos", folder, **asked, resume=True)
    weights.write_bytes(b"second")
    with pytest.raises(FoBSAMError, match="another question"):
        command.run("chaos", folder, **asked, resume=True)


def test_two_jobs_find_what_one_finds(folder):
    one, two = (
        command.run("chaos", folder, subjects=[19, 20], methods=["copy"], jobs=jobs)
        for jobs in (1, 2)
    )
    assert [r["dice"] for r in one["records"]] == [r["dice"] for r in two["records"]]
    assert two["machine"]["jobs"] == 2


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"protocol": "fib"}, "protocol 'fib'"),
        ({"jobs": 0}, "One job|one job"),
        ({"json_file": Path("missing") / "a.json"}, "missing"),
        ({"html_file": Path("missing") / "a.html"}, "missing"),
        ({"protocol": "skin"}, "not for chaos"),
        ({"ablation": True}, "--protocol fob or skin"),
        ({"protocol": "whole", "slices_annotated": 3}, "--protocol interactive"),
        ({"protocol": "fob", "suggestions": ["middle"]}, "--protocol interactive"),
        ({"protocol": "fob", "subjects": None, "folds": ["1"]}, "public subjects"),
        ({"folds": ["1"]}, "not both"),
        ({"generators": ["fob-light"]}, "fob-lite"),
        ({"generators": ["fob-paper"]}, "checkpoints"),
        ({"generators": ["fob-lite:cv{cv}.safetensors"]}, "of a fold"),
        ({"protocol": "whole", "subjects": [3]}, "on itself"),
        ({"protocol": "fob", "subjects": [3]}, "on itself"),
    ],
)
def test_what_cannot_work_is_said_before_the_work(folder, monkeypatch, wrong, said):
    monkeypatch.setattr(command, "_evaluate", lambda *_: pytest.fail("it began"))
    with pytest.raises(FoBSAMError, match=said):
        command.run("chaos", folder, **{"subjects": [19], **wrong})


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
def test_every_option_of_the_command_line_is_part_of_the_question(folder, tmp_path):
    arguments = "--protocol fob --subject 19 --organ liver --method fobsam --method interpolation"
    arguments += f" --segmenter compact --segmenter random-walker --json {tmp_path / 'a.json'}"
    result = CliRunner().invoke(cli.app, ["evaluate", "chaos", str(folder), *arguments.split()])
    assert result.exit_code == 0, result.output
    question = json.loads((tmp_path / "a.json").read_text())["question"]
    assert question == {
        "dataset": "chaos",
        "protocol": "fob",
        "organs": ["liver"],
        "methods": ["fobsam", "interpolation"],
        "slices_annotated": 1,
        "suggestions": ["tool"],
        "generators": ["fob-lite"],
        "segmenters": ["compact", "random-walker"],
        "device": "auto",
        "setting": None,
        "train_on": None,
        "ablation": False,
        "folds": None,
    }


def help_of(command: str) -> str:
    """What --help says, in one line."""
    shown = CliRunner().invoke(cli.app, [command, "--help"], terminal_width=300).output
    return " ".join(shown.replace("│", " ").split())


def test_help_names_every_method_suggestion_and_model():
    said = help_of("evaluate")
    known = (*METHODS, *SUGGESTIONS, *generators.NAMES, *segmenters.names())
    assert [name for name in known if not re.search(rf"\b{re.escape(name)}\b", said)] == []
    for default in ("tool", "fob-lite", "compact", "all", "those of the published table"):
        assert f"[default: ({default})]" in said


def test_the_cost_is_measured_in_a_process_of_its_own(dataset):
    cost = measure_cost(dataset, 19, "liver", "fob-lite", "compact", "cpu")
    assert 0.1 < cost.first_result_s < 60
    assert 50 < cost.peak_memory_mb < 4000
    assert cost.models["device"] == "cpu"


def test_the_page_shows_the_worst_slices_of_the_tool(folder, tmp_path):
    """With the real tool, which is asked for them again."""
    command.run(
        "chaos",
        folder,
        "fob",
        subjects=[19],
        organs=["right kidney"],
        methods=["fobsam"],
        html_file=tmp_path / "report.html",
    )
    (picture,) = (tmp_path / "report_files").iterdir()
    assert Image.open(picture).size[0] > 200
    assert f"report_files/{picture.name}" in (tmp_path / "report.html").read_text()


def test_the_page_is_written_without_the_tool_as_well(folder, tmp_path):
    page = tmp_path / "report.html"
    document = command.run("chaos", folder, subjects=[19], methods=["copy"], html_file=page)
    dice = next(record["dice"] for record in document["records"] if record["organ"] == "liver")
    assert f"{100 * dice:.1f}" in page.read_text()


def test_what_annotated_subjects_lack_is_said(tmp_path):
    make_dataset(tmp_path, (3, 19))
    label = tmp_path / "label_3.nii.gz"
    image = sitk.ReadImage(str(label))
    sitk.WriteImage(image * sitk.Cast(image != 1, image.GetPixelID()), str(label))
    dataset = find_dataset("chaos", tmp_path)
    asked = ("liver", "right kidney")
    note = "No figures are of liver where subject 3 is annotated, which lacks it."
    document = command.run("chaos", tmp_path, "fob", subjects=[19], organs=asked, methods=["copy"])
    assert document["notes"] == [note]
    assert [record["organ"] for record in document["records"]] == ["right kidney"]
    assert note in markdown(document)
    with pytest.raises(FoBSAMError, match="has no liver"):
        command.run("chaos", tmp_path, "fob", subjects=[19], organs=["liver"], methods=["copy"])
    # Of two supports, one has it; a subject that is annotated itself needs none.
    assert lacking_notes(dataset, [Case(20, 3, "1"), Case(20, 19, "2")], asked) == [note]
    assert lacking_notes(dataset, [Case(19)], asked) == []


def everyone(dataset: Dataset) -> Dataset:
    """As if all of the public set were on disk."""
    files = dict.fromkeys(dataset.description.ids, dataset.files[3])
    return replace(dataset, files=files)


def test_published_folds_are_taken_where_all_of_the_set_is_there(dataset):
    settings = Settings(("liver",))
    cases = find_cases(everyone(dataset), "fob", settings, None, None)
    assert cases[:5] == [Case(n, 3, "1") for n in (1, 2, 5, 8)] + [Case(8, 13, "2")]
    # Five count twice and the five supports never.
    assert len(cases) == 20
    assert len({case.query for case in cases}) == 15
    once = find_cases(everyone(dataset), "whole", settings, None, None)
    assert sorted({case.query for case in cases}) == [case.query for case in once]
    assert {case.support for case in once} == {case.support for case in cases}
    (*_, last) = find_cases(everyone(dataset), "fob", settings, None, ["1"])
    assert last == Case(8, 3, "1")
    with pytest.raises(FoBSAMError, match="no fold 6"):
        find_cases(everyone(dataset), "fob", settings, None, ["6"])


def test_a_part_of_the_set_is_checked_from_its_own_support(dataset):
    cases = find_cases(dataset, "fob", Settings(("liver",)), [19, 20], None)
    assert cases == [Case(19, 3), Case(20, 3)]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen of two classes: a dark spot on skin, each at its own place."""
    folder = Path(tmp_path_factory.mktemp("skin"))
    random = np.random.default_rng(0)
    lines = ["image_id,class"]
    rows, columns = np.ogrid[:64, :80]
    for number in range(1, 14):
        row, column = 32 + random.integers(-6, 7), 40 + random.integers(-8, 9)
        spot = (rows - row) ** 2 + (columns - column) ** 2 < 13**2
        skin = np.where(spot[..., None], (110, 70, 60), (225, 180, 165))
        image = skin + random.normal(0, 6, (64, 80, 3))
        name = f"ISIC_{number:07d}"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.jpg")
        Image.fromarray(np.uint8(255 * spot)).save(folder / f"{name}_segmentation.png")
        lines.append(f"{name},{'melanoma' if number <= 7 else 'nevus'}")
    (folder / "class_id.csv").write_text("\n".join(lines))
    return folder


def test_setting_one_of_skin_pairs_each_photograph_with_the_one_before(photographs):
    dataset = find_dataset("isic", photographs)
    settings = Settings(("melanoma", "nevus"), setting="I")
    cases = find_cases(dataset, "skin", settings, None, None)
    folds = {fold.name: fold.queries for fold in dataset.folds()}
    assert cases
    for case in cases:
        of_class = [
            n for n in folds[case.fold] if dataset.classes[n] == dataset.classes[case.query]
        ]
        assert of_class.index(case.query) == of_class.index(case.support) + 1
    assert len(cases) == 13 - 10


def test_setting_two_of_skin_draws_pairs_of_one_class_at_random_but_always_the_same(photographs):
    dataset = find_dataset("isic", photographs)
    settings = Settings(("melanoma", "nevus"), setting="II")
    cases = find_cases(dataset, "skin", settings, None, None)
    assert cases == find_cases(dataset, "skin", settings, None, None)
    # Fewer photographs than pairs: each pair once.
    assert len(cases) == 7 * 6 + 6 * 5 < PAIRS
    assert all(dataset.classes[one.query] == dataset.classes[one.support] for one in cases)
    assert all(one.query != one.support for one in cases)
    assert len(set(cases)) == len(cases)


def test_on_photographs_of_any_size_baselines_do_the_same(photographs, tmp_path):
    for file in photographs.iterdir():
        if file.suffix == ".csv":
            (tmp_path / file.name).write_bytes(file.read_bytes())
        else:
            # Eight pixels for one, and no compression that would make something else of them.
            image = Image.open(file)
            large = image.resize([8 * n for n in image.size], Image.Resampling.NEAREST)
            large.save(tmp_path / file.name, quality=100)
    plain = ["registration", "random-walker", "registration+random-walker"]
    small, large = (
        command.run("isic", folder, "skin", organs=["melanoma"], methods=plain)
        for folder in (photographs, tmp_path)
    )
    found = [[record["dice"] for record in one["records"]] for one in (small, large)]
    assert np.allclose(*found, atol=0.02)
    assert min(found[0]) > 0.5


def test_photographs_are_segmented_from_one_another(photographs):
    """With the real tool."""
    document = command.run(
        "isic", photographs, "skin", organs=["melanoma"], ablation=True, device="cpu"
    )
    records = document["records"]
    by_method = {record["method"]: record for record in records}
    assert set(by_method) == {
        "fobsam",
        "fob-prompts",
        "prototype-prompts",
        "copy",
        "registration",
        "random-walker",
        "registration+random-walker",
        "ablation",
    }
    assert all(record["presence"] == "given" and record["support"] for record in records)
    assert by_method["fobsam"]["dice"] > 0.6
    variants = [record["ablation"] for record in records if record["method"] == "ablation"]
    assert {one["points"] for one in variants} == {0, 1, 2, 3, 4, 6, 8, 10}
    assert {(one["refinement"], one["context"]) for one in variants} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
