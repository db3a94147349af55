"""The published figures: complete, and without slips of the pen."""

from __future__ import annotations

import pytest

from FoBSAMLib.evaluation import published
from FoBSAMLib.evaluation.published import LESIONS, ORGANS, ROWS

PER_ORGAN = [row for row in ROWS if row.dice]


@pytest.mark.parametrize("row", PER_ORGAN, ids=lambda r: f"{r.dataset} {r.setting} {r.method}")
def test_the_mean_is_that_of_the_organs(row):
    assert tuple(row.dice) in (ORGANS, LESIONS)
    assert sum(row.dice.values()) / len(row.dice) == pytest.approx(row.mean, abs=0.02)


def test_the_mean_of_the_re_runs_is_that_of_their_folds():
    reruns = [row for row in ROWS if row.folds]
    assert {row.dataset for row in reruns} == {"chaos", "sabs"}
    for row in reruns:
        assert sum(row.folds.values()) / 5 == pytest.approx(row.mean, abs=0.02)
        assert row.source != PER_ORGAN[0].source


@pytest.mark.parametrize(
    ("question", "methods", "mean"),
    [
        (("chaos", "I"), 9, 84.46),
        (("chaos", "II"), 7, 80.46),
        (("sabs", "I"), 9, 86.21),
        (("sabs", "II"), 7, 84.80),
        (("isic", "I"), 7, 76.62),
        (("isic", "II"), 6, 75.56),
        (("chaos", "I", "sabs"), 3, 73.30),
        (("sabs", "II", "chaos"), 3, 67.02),
    ],
)
def test_every_table_is_found(question, methods, mean):
    rows = published.find(*question)
    assert len(rows) == len({row.method for row in rows}) == methods
    assert {row.method: row.mean for row in rows}[published.BEST] == mean


def test_a_choice_of_organs_has_its_own_mean():
    (row,) = [row for row in published.find("chaos") if row.method == published.BEST]
    assert row.over(ORGANS) == row.mean
    assert row.over(["liver", "spleen"]) == pytest.approx((85.61 + 79.31) / 2)
    assert row.over(["liver", "stomach"]) is None
    (rerun,) = [row for row in published.find("chaos") if row.folds]
    assert rerun.over(["liver"]) is None
    assert rerun.over(ORGANS) == 85.01


def test_another_data_set_has_no_figures():
    assert published.find("totalseg") == []
