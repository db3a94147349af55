"""Does the confidence mean something: does it tell bad slices from good ones, and is it true?

A slice is bad where its Dice is below 0.7. Everything is computed from the ``slices`` of an
evaluation's records: {"index", "truth", "found" (pixels), "dice", "presence", "confidence"} of
every query slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from FoBSAMLib.session.warning import UNSURE, unsure_of_volume

#: A slice below this Dice is bad: it has to be corrected.
BAD = 0.7
#: The share of bad slices a user wants to have seen.
SEEN = 0.9
#: Bins of the reliability diagram, of as many slices each.
BINS = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class Slices:
    """Query slices, float [n] each: confidence, Dice, and the number of the volume they are of."""

    confidence: np.ndarray
    dice: np.ndarray
    volume: np.ndarray

    @property
    def bad(self) -> np.ndarray:
        """Which slices are bad, bool [n]."""
        bad: np.ndarray = self.dice < BAD
        return bad


@dataclass(frozen=True)
class Bin:
    """Slices of similar confidence: how sure the tool was, and the share that was good."""

    confidence: float
    good: float
    count: int


@dataclass(frozen=True)
class Quality:
    """What the confidence is worth on ``slices`` query slices of ``volumes`` volumes.

    ``auroc`` is the probability that a bad slice has less confidence than a good one (None where
    there are not both), ``interval`` its 95 % interval; ``bad`` the share of bad slices;
    ``look`` the share to look at, least confidence first, to see 90 % of the bad ones; ``marked``
    the share that the tool marks (confidence below `UNSURE`), and ``seen`` that of the bad ones
    among them, 0 where there is none; ``calibration`` the expected calibration error.
    """

    slices: int
    volumes: int
    bad: float
    auroc: float | None
    interval: tuple[float, float] | None
    look: float
    marked: float
    seen: float
    calibration: float


def collect(records: Iterable[Mapping[str, Any]], *, every: bool = False) -> Slices:
    """The query slices of records that hold them, from all structures of all volumes.

    Slices that neither hold the organ nor were found to are only taken with ``every``: there
    are many, and they are easily right. A volume is a subject's image, whatever the organ.
    """
    rows = [
        (entry["confidence"], entry["dice"], record["subject"])
        for record in records
        for entry in record.get("slices") or ()
        if entry["confidence"] is not None and (every or entry["truth"] or entry["found"])
    ]
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    _, volume = np.unique(np.array(columns[2], dtype=str), return_inverse=True)
    return Slices(np.array(columns[0], float), np.array(columns[1], float), volume)


def judge(slices: Slices) -> Quality | None:
    """All figures of some slices; None where there are none."""
    if not slices.dice.size:
        return None
    bad, marked = slices.bad, slices.confidence < UNSURE
    return Quality(
        slices=bad.size,
        volumes=np.unique(slices.volume).size,
        bad=float(bad.mean()),
        auroc=auroc(bad, slices.confidence),
        interval=auroc_interval(slices),
        look=share_to_look_at(bad, slices.confidence),
        marked=float(marked.mean()),
        seen=float(marked[bad].mean()) if bad.any() else 0.0,
        calibration=calibration_error(reliability(slices)),
    )


def auroc(bad: np.ndarray, confidence: np.ndarray) -> float | None:
    """Probability that a bad slice has less confidence than a good one; ties count half.

    The rank-sum formula (Mann and Whitney). None where all are bad or none is.
    """
    count = int(np.count_nonzero(bad))
    others = bad.size - count
    if not count or not others:
        return None
    ranks = rankdata(-confidence)
    return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * others))


def auroc_interval(slices: Slices, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """95 % interval of the AUROC, from volumes drawn again with replacement.

    Slices of one volume are alike, so that volumes are drawn and not slices. None for fewer than
    two volumes, and where hardly any drawing has good and bad slices.
    """
    names, volume = np.unique(slices.volume, return_inverse=True)
    count, bad = names.size, slices.bad
    if count < 2:
        return None
    # Of a bad slice of volume a and a good one of volume b: how many pairs are in order. A drawing
    # has each pair as often as a and b together, so that slices need not be compared again.
    ordered = np.empty((count, count))
    for other in range(count):
        good = np.sort(slices.confidence[~bad & (volume == other)])
        less, upto = (np.searchsorted(good, slices.confidence[bad], s) for s in ("left", "right"))
        weights = good.size - (less + upto) / 2
        ordered[:, other] = np.bincount(volume[bad], weights, count)
    often = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), resamples)
    pairs = (often @ np.bincount(volume[bad], minlength=count)) * (
        often @ np.bincount(volume[~bad], minlength=count)
    )
    if np.count_nonzero(pairs) < resamples / 2:
        return None
    in_order = ((often @ ordered) * often).sum(axis=1)
    low, high = np.percentile(in_order[pairs > 0] / pairs[pairs > 0], (2.5, 97.5))
    return float(low), float(high)


def share_to_look_at(bad: np.ndarray, confidence: np.ndarray, seen: float = SEEN) -> float:
    """Share of slices to look at, least confidence first, until ``seen`` of the bad are seen.

    Slices of the same confidence cannot be told apart: all of them are looked at. 0 where none
    is bad.
    """
    if not bad.any():
        return 0.0
    lowest_first = np.sort(confidence[bad])
    needed = int(np.ceil(seen * lowest_first.size - 1e-9))
    return float(np.mean(confidence <= lowest_first[needed - 1]))


def reliability(slices: Slices, bins: int = BINS) -> list[Bin]:
    """Confidence against the share of good slices, in bins of as many slices each."""
    order = np.argsort(slices.confidence, kind="stable")
    return [
        Bin(float(slices.confidence[part].mean()), float(1 - slices.bad[part].mean()), part.size)
        for part in np.array_split(order, bins)
        if part.size
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance between confidence and share of good slices, over slices."""
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.confidence - part.good) for part in bins) / total


def risk_coverage(slices: Slices) -> tuple[np.ndarray, np.ndarray]:
    """Share of slices taken without a look, most confidence first, and the share of those bad."""
    order = np.argsort(-slices.confidence, kind="stable")
    taken = np.arange(1, order.size + 1)
    return taken / order.size, np.cumsum(slices.bad[order]) / taken


def bad_seen(slices: Slices) -> tuple[np.ndarray, np.ndarray]:
    """Share of slices looked at, least confidence first, and the share of the bad ones seen."""
    order = np.argsort(slices.confidence, kind="stable")
    seen = np.cumsum(slices.bad[order])
    return np.arange(1, order.size + 1) / order.size, seen / max(1, seen[-1])


def volume_warning(record: Mapping[str, Any]) -> bool:
    """Is the user warned that this organ of this volume may be wrong altogether?

    By the tool's own rule, from the query slices in which it found the organ. A method that gives
    no confidence warns of nothing.
    """
    slices = record.get("slices")
    if not slices:
        return False
    return unsure_of_volume([entry["confidence"] for entry in slices if entry["found"]])
