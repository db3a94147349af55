"""Tables of hand-made documents, and of those that earlier versions wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_documents import ORGANS, document, entry, record

from FoBSAMLib.evaluation import origins, tables
from FoBSAMLib.evaluation.table import Table

FOLDER = Path(__file__).parents[1] / "benchmarks"
BENCHMARKS = sorted((*FOLDER.glob("*_whole.json"), *FOLDER.glob("*_interactive*.json")))
#: Dice of the tool in two folds of two subjects each, a value an organ.
FOB_DICE = {"liver": 0.86, "right kidney": 0.90, "left kidney": 0.80, "spleen": 0.76}


def table(made: dict[str, Any], title: str) -> Table:
    (found,) = [one for one in tables.build(made) if one.title.startswith(title)]
    return found


def cells(of: Table, name: str) -> dict[str, str]:
    """A row of a table by the names of its columns; the name without what is remarked of it."""
    (line,) = [line for line in of.lines if line.cells[0].split(" (")[0] == name]
    return dict(zip(of.header, line.cells, strict=True))


def fob(**fields: Any) -> dict[str, Any]:
    """Two folds of two subjects; spread 0.02 about the mean of each organ."""
    records = [
        record(subject, organ, dice + aside, fold=fold, presence="given", **method)
        for subject, fold, aside in (
            (1, "1", 0.02),
            (2, "1", -0.02),
            (8, "2", 0.02),
            (5, "2", -0.02),
        )
        for organ, dice in FOB_DICE.items()
        for method in ({}, {"method": "copy", "generator": "", "segmenter": ""})
    ]
    for one in records:
        if one["method"] == "copy":
            one["dice"] -= 0.3
    return document("fob", records, setting="I", **fields)


def test_published_rows_stand_beside_ours_with_the_difference():
    made = fob()
    main = table(made, "Three annotated slices")
    ours = cells(main, "fobsam")
    assert ours["liver"] == "86.00 ± 2.3"
    assert ours["mean"] == "83.00 ± 5.9"
    assert cells(main, "copy")["difference"] == "+30.00"
    best = cells(main, "published FoB + SAM")
    assert (best["liver"], best["mean"], best["difference"]) == ("85.61", "84.46", "-1.46")
    assert cells(main, "published ALPNet")["difference"] == "+4.16"
    assert len(main.lines) == 2 + 9


def test_the_difference_is_given_organ_by_organ():
    less = table(fob(), "fobsam less what was published")
    assert [line.cells[0] for line in less.lines][-1] == "less FoB + SAM, released weights"
    assert cells(less, "less FoB + SAM") == {
        "": "less FoB + SAM",
        "liver": "+0.39",
        "right kidney": "+1.82",
        "left kidney": "-4.76",
        "spleen": "-3.31",
        "mean": "-1.46",
    }
    assert cells(less, "less FoB + SAM, released weights")["liver"] == "–"


@pytest.mark.parametrize(
    ("fields", "mean"),
    [
        ({"setting": "II"}, "80.46"),
        ({"train_on": ["sabs"]}, "73.30"),
        ({"dataset": "sabs"}, "86.21"),
    ],
)
def test_the_published_rows_are_those_of_the_same_question(fields, mean):
    made = fob()
    made["question"].update(fields)
    assert cells(table(made, "Three"), "published FoB + SAM")["mean"] == mean


def test_folds_stand_beside_those_of_the_re_runs():
    folds = table(fob(), "Dice by fold")
    assert cells(folds, "fobsam")["fold 1"].startswith("83.00 ")
    rerun = cells(folds, "published FoB + SAM, released weights")
    assert (rerun["fold 1"], rerun["fold 2"], rerun["mean"]) == ("86.89", "81.95", "85.01")


def test_the_mean_of_skin_is_that_of_classes_not_of_photographs():
    dice = [(1, "melanoma", 0.9), (2, "nevus", 0.5), (3, "nevus", 0.5), (4, "nevus", 0.5)]
    dice.append((5, "seborrheic keratosis", 0.7))
    made = document("skin", [record(*one) for one in dice], dataset="isic", setting="I")
    main = table(made, "One annotated photograph")
    assert cells(main, "fobsam")["mean"].startswith("70.00 ")
    assert cells(main, "published FoB + SAM")["difference"] == "-6.62"


def test_every_generator_with_every_segmenter_has_its_row():
    pairs = [(g, s) for g in ("fob-lite", "fob-paper") for s in ("compact", "sam")]
    records = [
        record(1, "liver", 0.8 + n / 100, generator=generator, segmenter=segmenter, method=method)
        for n, (generator, segmenter) in enumerate(pairs)
        for method in ("fobsam", "fob-prompts", "prototype-prompts")
    ]
    for one in records:
        one["presence"] = "given"
        one["dice"] -= {"fobsam": 0, "fob-prompts": 0.1, "prototype-prompts": 0.25}[one["method"]]
    made = document("fob", records)
    main = table(made, "Three")
    assert cells(main, "fobsam, fob-paper → sam")["difference"] == "-3.00"
    assert len([one for one in tables.build(made) if "less what was published" in one.title]) == 8
    claim = table(made, "fob-prompts less prototype-prompts")
    assert [line.cells[-1] for line in claim.lines] == ["+15.0"] * 4


def test_organs_missed_without_a_warning_can_be_counted():
    sure, unsure = [entry(0, 0.2, 0.9)], [entry(0, 0.2, 0.3)]
    made = document(
        "whole",
        [
            record(1, "liver", 0.2, slices=sure),
            record(2, "liver", 0.2, slices=unsure),
            record(3, "liver", 0.9, slices=unsure),
            record(4, "liver", 0.9, slices=sure),
            record(4, "liver", 0.1, method="copy"),
        ],
    )
    main = table(made, "Three")
    tool = cells(main, "fobsam")
    assert (tool["under 50"], tool["unwarned"], tool["warned"]) == ("50 %", "1 of 2", "50 %")
    other = cells(main, "copy, presence: own")
    assert (other["under 50"], other["unwarned"], other["warned"]) == ("100 %", "–", "–")
    volumes = table(made, "Dice by volume")
    assert [line.cells[2] for line in volumes.lines] == ["20.0", "20.0 ⚠", "90.0 ⚠", "90.0"]
    assert cells(main, "published FoB + SAM ViT-H, organ slices only")["difference"] == "-30.6"


def interactive() -> dict[str, Any]:
    """Two subjects with up to three annotated slices, chosen by the tool or as the middle."""
    records = []
    for subject, better in ((1, 0.0), (2, 0.1)):
        for rule, dice in (("tool", (0.7, 0.8, 0.92)), ("middle", (0.7, 0.75, 0.85))):
            for count, value in enumerate(dice, 1):
                fields: dict[str, Any] = {"annotated": [20, 5, 30][:count], "suggestion": rule}
                records.append(record(subject, "liver", round(value - better, 2), **fields))
    return document("interactive", records)


def test_dice_against_annotated_slices_by_the_tools_own_suggestion():
    effort = cells(table(interactive(), "Dice against annotated slices"), "fobsam")
    assert [effort[count][:4] for count in "123"] == ["65.0", "75.0", "87.0"]
    assert effort["slices to 90 (organs that reach it)"] == "3.0 (1 of 2)"


@pytest.mark.parametrize("shared", [False, True])
def test_rules_of_suggestion_are_compared(shared):
    made = interactive()
    if shared:  # the first slice is nobody's suggestion, and was run once
        made["records"] = [
            one
            for one in made["records"]
            if one["suggestion"] == "tool" or len(one["annotated"]) > 1
        ]
    rules = table(made, "Which slice to annotate next")
    assert [line.cells[:4] for line in rules.lines] == [
        ["fobsam", "tool", "75.0 ± 7.1", "87.0 ± 7.1"],
        ["fobsam", "middle", "70.0 ± 7.1", "80.0 ± 7.1"],
        ["fobsam", "tool less middle", "+5.0 (2 : 0)", "+7.0 (2 : 0)"],
    ]


def test_the_confidence_has_its_table_for_every_number_of_slices():
    records = [
        record(
            subject,
            "liver",
            0.8,
            annotated=[9, 3][:count],
            slices=[entry(0, 0.1, 0.2), entry(1, 0.9, 0.9), entry(2, 1.0, 0.9, 0, 0)],
        )
        for subject in (1, 2)
        for count in (1, 2)
    ]
    worth = table(document("interactive", records), "Confidence")
    assert [line.cells[1:7] for line in worth.lines][:2] == [
        ["1", "with the organ, or found", "4", "50.0 %", "1.000 (1.000 to 1.000)", "50.0 %"],
        ["1", "all", "6", "33.3 %", "1.000 (1.000 to 1.000)", "33.3 %"],
    ]
    assert len(worth.lines) == 4
    assert "judged empty only those that hold the organ, all of them errors" in worth.note


def test_the_ablation_has_its_own_table_and_no_part_in_others():
    records = [record(1, "liver", 0.9, presence="given")]
    for points in (0, 10):
        for refinement in (True, False):
            parts = {"points": points, "refinement": refinement, "context": True}
            dice = 0.5 + points / 50 - 0.1 * (not refinement)
            records.append(record(1, "liver", dice, method="ablation", ablation=parts))
    made = document("fob", records)
    parts_table = table(made, "Ablation")
    assert list(parts_table.header)[1:] == ["refinement, context", "no refinement, context"]
    assert [line.cells for line in parts_table.lines] == [
        ["0", "50.0 ± 0.0", "40.0 ± 0.0"],
        ["10", "70.0 ± 0.0", "60.0 ± 0.0"],
    ]
    assert "switched off at test time, without training anew" in parts_table.note
    assert [line.cells[0] for line in table(made, "Three").lines][0:2] == [
        "fobsam (1 of 20 published cases, not with the published supports)",
        "published ALPNet",
    ]


@pytest.mark.parametrize(
    ("trained_on", "said", "column"),
    [
        (None, "unknown", ["unknown", "unknown"]),
        ({"chaos": [1, 2], "sabs": [19]}, "None of the subjects evaluated", ["no", "no"]),
        ({"chaos": [1, 19]}, "(chaos 19): their figures are no test", ["yes", "no"]),
        ({}, "Trained on: none", ["no", "no"]),
    ],
)
def test_what_was_trained_on_is_told(trained_on, said, column):
    records = [record(subject, "liver", 0.9) for subject in (19, 20)]
    made = document("whole", records, trained_on=trained_on)
    assert said in origins.training(made)
    assert origins.training(made) in tables.markdown(made)
    assert [line.cells[1] for line in table(made, "Dice by volume").lines] == column


def test_labels_in_training_are_told():
    made = document("whole", [record(19, "liver", 0.9)])
    assert "without organ labels" in origins.training(made)
    (weights,) = made["models"]["generators"]["fob-lite"]
    weights["labels"] = {"chaos": ["liver", "spleen"]}
    assert "with labels of liver, spleen" in origins.training(made)


def test_of_many_subjects_the_worst_are_listed():
    records = [record(n, "nevus", 0.3 + n / 200) for n in range(1, 101)]
    volumes = table(document("skin", records, dataset="isic"), "Dice by volume")
    assert [line.cells[0] for line in volumes.lines] == [str(n) for n in range(1, 21)]
    assert "20 worst of 100" in volumes.note


def test_names_cannot_break_the_markdown():
    text = tables.markdown(document("whole", [record(1, "liver|x\n<b>y", 0.9)]))
    (line,) = [line for line in text.splitlines() if line.startswith("| Method")]
    assert "liver\\|x &lt;b>y" in line


def test_nothing_evaluated_yet_is_no_table():
    made = document("whole", [], subjects=[19], organs=list(ORGANS))
    assert tables.build(made) == []
    assert "No subject yet of 19;" in tables.markdown(made)


def test_documents_of_earlier_versions_make_the_same_table():
    records = [record(n, "liver", 0.6 + n / 10, annotated=[n]) for n in (1, 2)]
    made = document("interactive", records)
    expected = cells(table(made, "Annotated slices: 1"), "fobsam")
    for name in ("generator", "segmenter", "suggestion", "fold", "support", "ablation", "slices"):
        for one in records:
            del one[name]
    for name in ("models", "trained_on", "notes"):
        del made[name]
    for name in ("setting", "train_on", "generators", "segmenters"):
        del made["question"][name]
    made["question"] |= {"generator": "fob-lite", "segmenter": "compact"}
    assert cells(table(made, "Annotated slices: 1"), "fobsam") == expected
    assert "generator fob-lite, segmenter compact" in tables.markdown(made)
    assert "Trained on: unknown" in tables.markdown(made)


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_the_documents_of_the_project_make_tables(file):
    made = json.loads(file.read_text(encoding="utf-8"))
    dice: dict[int, list[float]] = {}
    for one in made["records"]:
        if one["method"] == "fobsam" and len(one["annotated"]) <= 1:
            dice.setdefault(one["subject"], []).append(one["dice"])
    mean = sum(sum(values) / len(values) for values in dice.values()) / len(dice)
    main = tables.build(made)[0]
    assert cells(main, "fobsam")["mean"].startswith(f"{100 * mean:.1f} ")
    assert "nan" not in tables.markdown(made)
