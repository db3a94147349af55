"""What the confidence is worth: against counts made by hand, and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_documents import entry, record

from FoBSAMLib.evaluation.confidence import (
    Slices,
    auroc,
    auroc_interval,
    bad_seen,
    calibration_error,
    collect,
    judge,
    reliability,
    risk_coverage,
    share_to_look_at,
    volume_warning,
)


def drawn(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random bad slices, and confidences with ties that know a little of them."""
    random = np.random.default_rng(seed)
    bad = random.random(count) < 0.3
    return bad, np.round(random.random(count) * np.where(bad, 0.8, 1.0), 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_auroc_is_the_share_of_pairs_in_order(seed):
    bad, confidence = drawn(seed)
    pairs = [
        (low < high) + (low == high) / 2 for low in confidence[bad] for high in confidence[~bad]
    ]
    assert auroc(bad, confidence) == pytest.approx(np.mean(pairs))


def test_without_good_and_bad_slices_there_is_no_auroc():
    assert auroc(np.array([True, True]), np.array([0.1, 0.2])) is None
    assert auroc(np.array([False]), np.array([0.1])) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seen", [0.5, 0.9, 1.0])
def test_the_share_to_look_at_is_the_least_that_shows_enough(seed, seen):
    bad, confidence = drawn(seed)
    shares = [
        np.mean(confidence <= limit)
        for limit in confidence
        if bad[confidence <= limit].sum() >= seen * bad.sum()
    ]
    assert share_to_look_at(bad, confidence, seen) == pytest.approx(min(shares))


def test_slices_of_the_same_confidence_are_all_looked_at():
    bad = np.array([True, False, False, False])
    assert share_to_look_at(bad, np.full(4, 0.5)) == 1
    assert share_to_look_at(bad, np.array([0.1, 0.5, 0.5, 0.5])) == 0.25
    assert share_to_look_at(~bad & bad, np.full(4, 0.5)) == 0


def test_a_confidence_that_is_true_lies_on_the_diagonal():
    confidence = np.repeat(np.arange(10) / 10 + 0.05, 20)
    good = np.tile(np.arange(20), 10) < np.repeat(2 * np.arange(10) + 1, 20)
    bins = reliability(Slices(confidence, np.where(good, 0.9, 0.2), np.zeros(200)))
    assert [part.count for part in bins] == [20] * 10
    assert [part.good for part in bins] == pytest.approx([part.confidence for part in bins])
    assert calibration_error(bins) == pytest.approx(0)


def test_too_much_confidence_is_the_calibration_error():
    dice = np.tile([0.9, 0.2], 50)
    bins = reliability(Slices(np.full(100, 0.8), dice, np.zeros(100)))
    assert [part.good for part in bins] == pytest.approx([0.5] * 10)
    assert calibration_error(bins) == pytest.approx(0.3)


def test_fewer_slices_than_bins_still_make_a_diagram():
    bins = reliability(Slices(np.array([0.9, 0.1]), np.array([0.8, 0.3]), np.zeros(2)))
    assert [(part.confidence, part.good) for part in bins] == [(0.1, 0), (0.9, 1)]


def test_curves_go_through_all_slices():
    slices = Slices(np.array([0.2, 0.9, 0.6, 0.8]), np.array([0.1, 0.9, 0.5, 0.8]), np.zeros(4))
    taken, risk = risk_coverage(slices)
    assert taken.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    looked, seen = bad_seen(slices)
    assert looked.tolist() == [0.25, 0.5, 0.75, 1]
    assert seen.tolist() == [0.5, 1, 1, 1]


def test_slices_are_those_that_hold_the_organ_or_were_found_to():
    entries = [
        entry(0, 1.0, 0.9, truth=0, found=0),
        entry(1, 0.0, 0.2, truth=50, found=0),
        entry(2, 0.0, 0.3, truth=0, found=50),
        entry(3, 0.8, 0.7),
        entry(4, 0.8, None),
    ]
    records = [
        record(1, "liver", 0.8, slices=entries),
        record(2, "liver", 0.8, slices=entries[3:4]),
        record(3, "liver", 0.8),
    ]
    headline = collect(records)
    assert headline.confidence.tolist() == [0.2, 0.3, 0.7, 0.7]
    assert headline.bad.tolist() == [True, True, False, False]
    assert np.unique(headline.volume).size == 2
    assert collect(records, every=True).confidence.tolist() == [0.9, 0.2, 0.3, 0.7, 0.7]


def test_a_volume_is_a_subject_whatever_the_organ():
    slices = [entry(0, 0.9, 0.9)]
    records = [record(1, organ, 0.9, slices=slices) for organ in ("liver", "spleen")]
    assert np.unique(collect(records).volume).size == 1


def test_the_interval_knows_that_slices_of_a_volume_are_alike():
    bad, confidence = drawn(3)
    volume = np.arange(bad.size) % 6
    once = Slices(confidence, np.where(bad, 0.1, 0.9), volume)
    tenfold = Slices(*(np.tile(values, 10) for values in (confidence, once.dice, volume)))
    interval = auroc_interval(once)
    assert interval is not None
    assert interval[0] < auroc(bad, confidence) < interval[1]
    # The same slices again are no news, and make the interval no narrower.
    assert auroc_interval(tenfold) == pytest.approx(interval)


def test_the_interval_is_that_of_aurocs_of_volumes_drawn_again():
    bad, confidence = drawn(1, 80)
    volume = np.arange(bad.size) % 5
    random = np.random.default_rng(7)
    values = []
    for _ in range(2000):
        chosen = np.concatenate([np.flatnonzero(volume == n) for n in random.integers(5, size=5)])
        values.append(auroc(bad[chosen], confidence[chosen]))
    interval = auroc_interval(Slices(confidence, np.where(bad, 0.1, 0.9), volume), 2000)
    assert interval == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=0.02)


def test_one_volume_has_no_interval():
    bad, confidence = drawn(0)
    assert auroc_interval(Slices(confidence, np.where(bad, 0.1, 0.9), np.zeros(bad.size))) is None


def test_all_figures_of_slices_together():
    entries = [entry(n, 0.9 if n > 1 else 0.1, 0.1 + 0.1 * n) for n in range(8)]
    quality = judge(collect([record(s, "liver", 0.8, slices=entries) for s in (1, 2)]))
    assert quality is not None
    assert (quality.slices, quality.volumes, quality.bad) == (16, 2, 0.25)
    assert (quality.auroc, quality.interval, quality.look) == (1, (1, 1), 0.25)
    assert judge(collect([])) is None


@pytest.mark.parametrize(
    ("entries", "warned"),
    [
        ([entry(0, 0.9, 0.9), entry(1, 0.9, 0.8)], False),
        ([entry(0, 0.4, 0.5), entry(1, 0.4, 0.4)], True),
        # Nothing was found, however sure the tool is of that.
        ([entry(0, 0.0, 0.9, found=0), entry(1, 1.0, 0.9, truth=0, found=0)], True),
        # Slices in which it was not found have no part in the mean.
        ([entry(0, 0.9, 0.9), entry(1, 0.0, 0.1, found=0), entry(2, 0.0, 0.1, found=0)], False),
        # A method without confidence.
        ([], False),
    ],
)
def test_a_volume_of_which_the_tool_is_unsure_is_warned_of(entries, warned):
    assert volume_warning(record(1, "liver", 0.4, slices=entries)) is warned


def test_a_record_of_an_earlier_version_warns_of_nothing():
    old = record(1, "liver", 0.1)
    del old["slices"]
    assert not volume_warning(old)


def test_what_the_tool_marks_and_how_many_of_the_bad_slices_that_are():
    slices = [entry(0, 0.2, 0.3), entry(1, 0.3, 0.95), entry(2, 0.9, 0.5), entry(3, 0.9, 0.99)]
    quality = judge(collect([record(1, "liver", 0.5, slices=slices)]))
    assert quality is not None
    assert (quality.marked, quality.seen) == (0.5, 0.5)
