"""Tables and page say what keeps figures from being compared with published ones."""

from __future__ import annotations

from typing import Any

import pytest
from evaluation_documents import ORGANS, document, record, weights

from FoBSAMLib.evaluation import report, tables
from FoBSAMLib.evaluation.dataset_descriptions import CHAOS
from FoBSAMLib.evaluation.origins import training
from FoBSAMLib.evaluation.table import Table

LABELLED = "trained with organ labels; published rows use none: not comparable"
SELF, LABELS = "fob-lite-self", {"chaos": ["liver"]}


def fob(*generators: dict[str, Any], complete: bool = False, **fields: Any) -> dict[str, Any]:
    """Liver in the first fold, or in all, 0.9 by the first weights and 0.05 less by each other;
    and a baseline."""
    folds = CHAOS.folds() if complete else CHAOS.folds()[:1]
    records = [
        record(
            query,
            "liver",
            0.9 - 0.05 * place,
            fold=fold.name,
            support=fold.support,
            presence="given",
            generator=one["name"],
        )
        for fold in folds
        for query in fold.queries
        for place, one in enumerate(generators)
    ]
    records += [{**one, "method": "copy", "generator": "", "segmenter": ""} for one in records[:1]]
    models = {"generators": {one["name"]: [one] for one in generators}, "segmenters": {}}
    names = [one["name"] for one in generators]
    return document("fob", records, models=models, generators=names, **fields)


def found(made: dict[str, Any], title: str) -> Table:
    (one,) = [one for one in tables.build(made) if one.title.startswith(title)]
    return one


def test_labels_in_training_stand_in_row_note_table_and_tile():
    made = fob(weights(labels=LABELS))
    main, less = found(made, "Three"), found(made, "fobsam less what was published")
    assert main.lines[0].cells[0] == f"fobsam ({LABELLED}; 4 of 20 published cases)"
    assert main.lines[0].cells[0] in [line.cells[0] for line in found(made, "Dice by fold").lines]
    (tile,) = [one for one in report.summary(made) if one.name == "Against the published"]
    for said in (main.note, less.note, tile.remark):
        assert LABELLED in said
        assert "4 of 20 published cases" in said
    assert "FoBSAM's row follows the structure through each third" in main.note


def test_all_folds_without_labels_can_be_compared():
    made = fob(weights(), complete=True)
    main = found(made, "Three")
    assert "fobsam (trained without organ labels)" in [line.cells[0] for line in main.lines]
    assert "comparable" not in main.note
    assert "published cases" not in main.note


@pytest.mark.parametrize(
    ("trained_on", "asked", "said"),
    [
        ({"chaos": [1], "sabs": [1]}, None, "trained on MR and CT"),
        ({"sabs": [1]}, None, "trained on CT"),
        ({"sabs": [1]}, ["sabs"], ""),
        ({"chaos": [1], "sabs": []}, None, ""),
        (None, None, "unknown what it was trained on"),
    ],
)
def test_training_on_other_images_than_the_published_is_told(trained_on, asked, said):
    made = fob(weights(trained_on=trained_on), complete=True, train_on=asked)
    names = [line.cells[0] for line in found(made, "Three").lines]
    (name,) = [name for name in names if name.startswith("fobsam")]
    assert (said in name) if said else ("trained on" not in name)


def test_weights_without_labels_stand_next_to_the_published_and_are_compared():
    made = fob(weights(labels=LABELS), weights(SELF))
    main = found(made, "Three")
    names = [line.cells[0].split(" (")[0] for line in main.lines]
    ours = "fobsam, fob-lite-self → compact"
    assert names[:4] == ["fobsam, fob-lite → compact", "copy", ours, "published ALPNet"]
    (best,) = [line for line in main.lines if line.cells[0] == "published FoB + SAM"]
    assert dict(zip(main.header, best.cells, strict=True))["difference"] == "-0.61"
    assert f"*difference* of published rows is from {ours}" in main.note
    (tile,) = [one for one in report.summary(made) if one.name == "Against the published"]
    assert tile.value == "-0.61"
    assert "not comparable" not in tile.remark
    less = [one.title for one in tables.build(made) if "less what was" in one.title]
    assert less[0].startswith(ours)


def test_where_nothing_was_published_labels_are_told_all_the_same():
    records = [record(19, organ, 0.9, annotated=[3]) for organ in ORGANS]
    models = {"generators": {"fob-lite": [weights(labels=LABELS)]}, "segmenters": {}}
    main = tables.build(document("interactive", records, models=models))[0]
    assert main.lines[0].cells[0] == "fobsam (trained with organ labels)"
    assert main.note == ""


def served(name: str, fold: str, queries: list[int], trained_on: list[int]) -> dict[str, Any]:
    serves = {"queries": queries, "supports": [3], "folds": [fold], "organs": ["liver"]}
    return weights(name, trained_on={"chaos": trained_on}, serves=serves)


@pytest.mark.parametrize(
    ("known", "column", "said"),
    [
        # A fold's weights may know the subjects of another.
        ([8], ["no", "no"], "None of the subjects evaluated was trained on by the weights that"),
        ([1], ["yes", "no"], "(chaos 1): their figures are no test"),
    ],
)
def test_training_is_decided_by_the_weights_of_a_fold(known, column, said):
    files = [served("a", "1", [1], known), served("b", "2", [8], [2])]
    records = [record(1, "liver", 0.9, fold="1"), record(8, "liver", 0.9, fold="2")]
    models = {"generators": {"fob-lite": files}, "segmenters": {}}
    made = document("fob", records, models=models, trained_on={"chaos": [1, 2, 8]})
    assert [line.cells[1] for line in found(made, "Dice by volume").lines] == column
    assert said in training(made)
    assert "a: chaos" in training(made)


def test_supports_that_were_trained_on_are_told():
    made = document("whole", [record(19, "liver", 0.9)], trained_on={"chaos": [1, 3]})
    assert "The supports (subject 3) were trained on." in training(made)


def test_subjects_whose_labels_had_a_part_in_the_rules_are_marked():
    records = [record(subject, "liver", 0.9) for subject in (15, 19, 20)]
    parts = {"rules_from": {"chaos": [15], "sabs": [20]}, "choices_from": {"chaos": [19]}}
    made = document("whole", records, **parts)
    column = [line.cells[1] for line in found(made, "Dice by volume").lines]
    assert column == [
        "no; labels had a part in the rules",
        "no; labels had a part in a choice",
        "no",
    ]
    assert "Of chaos 15 labels had a part in the rules" in training(made)
    assert "Of chaos 19 labels had a part in a choice" in training(made)


@pytest.mark.parametrize("protocol", ["interactive", "whole"])
def test_the_reader_is_told_whether_annotated_slices_count(protocol):
    made = document(protocol, [record(19, "liver", 0.9)])
    said = "in which annotated slices count as found" in tables.markdown(made)
    assert said == (protocol == "interactive")


def test_photographs_have_no_millimetres():
    unmeasured = {"hd95_mm": None, "surface_dice": None}
    made = document("skin", [record(1, "nevus", 0.9, **unmeasured)], dataset="isic")
    main = found(made, "One annotated photograph")
    assert not [name for name in main.header if "mm" in name]
    assert all(len(line.cells) == len(main.header) for line in main.lines)
