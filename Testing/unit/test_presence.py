"""Presence and confidence from what the two chains say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from FoBSAMLib.session.chain import Evidence
from FoBSAMLib.session.presence import PRESENT, judge, judge_between

GOOD = Evidence(cycle=0.92, watch_cycle=0.9, agreement=0.95, distance=10, shift=0.5)


def test_chains_that_agree_near_the_annotation_are_sure():
    verdict = judge(GOOD)
    assert verdict.presence > 0.95
    assert verdict.confidence > 0.9


@pytest.mark.parametrize(
    "worse", [{"cycle": 0.2}, {"watch_cycle": 0.2}, {"agreement": 0.2}, {"distance": 70}]
)
def test_whatever_speaks_against_it_lowers_both(worse):
    verdict = judge(replace(GOOD, **worse))
    assert verdict.presence < judge(GOOD).presence
    assert verdict.confidence < judge(GOOD).confidence


def test_chains_that_lost_the_structure_end_the_way():
    assert judge(Evidence(0.1, 0.1, 0.3, distance=40, shift=1)).presence < PRESENT


def test_a_mask_on_something_of_another_intensity_is_not_the_structure():
    assert judge(replace(GOOD, shift=6)).presence == 0


def test_between_two_annotated_slices_agreement_makes_confidence():
    assert judge_between(0.95, held=True).confidence > 0.85
    assert judge_between(0.4, held=True).confidence < 0.2
    assert judge_between(0.0, held=False).presence == 0
