"""Presence and confidence from what the two chains and the generator say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from FoBSAMLib.session.chain import Evidence
from FoBSAMLib.session.presence import PRESENT, Between, judge, judge_between
from FoBSAMLib.session.warning import UNSURE

GOOD = Evidence(0.92, None, None, distance=10, shift=0.5, presence=0.98, quality=0.93, doubt=0.05)
LOST = Evidence(0.1, None, None, distance=40, shift=1, presence=0.1, quality=0.3, doubt=0.6)
BESIDE = Between(agreement=0.95, distance=10, doubt=0.05)


def without_word(evidence):
    """As of a generator that gives points alone."""
    alike = 0.9 if evidence is GOOD else 0.2
    return replace(
        evidence, watch_cycle=alike, agreement=alike, presence=None, quality=None, doubt=None
    )


@pytest.mark.parametrize("good", [GOOD, without_word(GOOD)])
def test_chains_that_agree_near_the_annotation_are_sure(good):
    verdict = judge(good)
    assert verdict.presence > 0.9
    assert verdict.confidence > 0.85


@pytest.mark.parametrize(
    ("good", "worse"),
    [
        (GOOD, {"cycle": 0.2}),
        (GOOD, {"distance": 70}),
        (GOOD, {"quality": 0.3}),
        (GOOD, {"doubt": 0.4}),
        (GOOD, {"presence": 0.1, "quality": 0.2}),
        (without_word(GOOD), {"cycle": 0.2}),
        (without_word(GOOD), {"watch_cycle": 0.2}),
        (without_word(GOOD), {"agreement": 0.2}),
    ],
)
def test_whatever_speaks_against_it_lowers_confidence(good, worse):
    assert judge(replace(good, **worse)).confidence < judge(good).confidence


@pytest.mark.parametrize("worse", [{"cycle": 0.2}, {"distance": 70}, {"presence": 0.1}])
def test_what_speaks_for_an_end_lowers_presence(worse):
    assert judge(replace(GOOD, **worse)).presence < judge(GOOD).presence


@pytest.mark.parametrize("lost", [LOST, without_word(LOST)])
def test_chains_that_lost_the_structure_end_the_way(lost):
    assert judge(lost).presence < PRESENT


def test_a_mask_on_something_of_another_intensity_is_not_the_structure():
    alien = judge(replace(GOOD, shift=6))
    assert alien.presence < PRESENT
    assert alien.confidence == 0
    # All else speaks for the structure: that it ends here is not sure either.
    assert 1 - alien.presence < UNSURE


@pytest.mark.parametrize("doubt", [0.05, None])
def test_between_two_annotated_slices_agreement_makes_confidence(doubt):
    beside = replace(BESIDE, doubt=doubt)
    assert judge_between(beside, held=True).confidence > 0.8
    apart = replace(beside, agreement=0.4)
    assert judge_between(apart, held=True).confidence < judge_between(beside, held=True).confidence
    assert judge_between(replace(beside, agreement=0.0), held=False).presence == 0


def test_between_two_annotated_slices_doubt_counts():
    doubted = replace(BESIDE, doubt=0.4)
    assert (
        judge_between(doubted, held=True).confidence < judge_between(BESIDE, held=True).confidence
    )
