"""Is the structure in a slice, and is its mask right: probabilities from what the chains say.

Logistic rules, fitted with organ labels of subjects that the weights never saw by
``Testing/benchmarks/fit_presence.py``; the model card lists all that labels had a part in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from FoBSAMLib.session.chain import Evidence

#: A way outward ends where the presence falls below this. On the subjects of the fit the Dice over
#: the volume hardly depends on it from 0.3 to 0.8 (0.685 to 0.695; thirty structures).
PRESENT = 0.65
#: Farther than this from the annotated slice, in mm, distance says no more: structures are of all
#: lengths.
FAR = 80.0
#: A mask whose mean intensity is farther than this from the annotated one's lies on something
#: else, however well it fits: a last resort against leaving an organ for its neighbour.
ALIEN = 4.0
#: The generator's word is never taken for more certain than this.
SURE = 0.98
#: A smaller share of doubt says no more.
LEAST_DOUBT = 0.005

#: Weights of the features below, with the generator's own word and without it; the latter were
#: fitted on an earlier generator, between two slices by hand. Those of presence are of a follower
#: that did not hold on to doubtful masks: fitted anew they gain nothing (`presence.json`).
PRESENCE = np.array([2.11, -1.93, 0.85, 0.4, 0.16, 0.0])
CONFIDENCE = np.array([5.45, -1.14, -4.32, 0.0, 0.61, 0.95])
PRESENCE_BY_POINTS = np.array([3.76, 2.39, 1.23, -4.12, 0.12])
CONFIDENCE_BY_POINTS = np.array([4.05, 1.34, 3.29, -3.24, -3.98])
BETWEEN = np.array([0.32, -1.31, -4.56, 5.66])
BETWEEN_BY_POINTS = np.array([10.0, 0.0, -7.15])


class Verdict(NamedTuple):
    """Probabilities that the structure is in the slice, and that its mask has a Dice above 0.7."""

    presence: float
    confidence: float


@dataclass(frozen=True)
class Between:
    """What speaks for the mask of a slice between two annotated ones: the Dice ``agreement`` of
    the masks found from either side, the ``distance`` to the nearer in mm, and the share of the
    mask that is doubted, None where the generator has no word on it."""

    agreement: float
    distance: float
    doubt: float | None


def features(evidence: Evidence) -> np.ndarray:
    """Evidence as the rules weigh it: the cycle, then with the generator's own word distance, 1,
    presence, quality and certainty, [6]; without it what the watching chain says, distance and 1,
    [5]."""
    chains = (evidence.cycle, evidence.watch_cycle, evidence.agreement)
    x = [*_known(*chains), min(evidence.distance, FAR) / 100, 1.0]
    word = _own_word(evidence.presence, evidence.quality)
    return np.array([*x, *word, *_certainty(evidence.doubt)])


def features_between(evidence: Between) -> np.ndarray:
    """The same between two annotated slices: [4], [3] without the generator's own word."""
    x = [evidence.agreement, min(evidence.distance, FAR) / 100, 1.0]
    return np.array([*x, *_certainty(evidence.doubt)])


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _own_word(*probabilities: float | None) -> list[float]:
    return [float(logit(np.clip(p, 1 - SURE, SURE))) for p in _known(*probabilities)]


def _certainty(doubt: float | None) -> list[float]:
    """On a scale of factors, as a share of 0.1 says much more than one of 0.2."""
    return [-float(np.log(np.clip(share, LEAST_DOUBT, 1))) for share in _known(doubt)]


def judge(evidence: Evidence) -> Verdict:
    """Presence and confidence of one slice on a way outward from an annotated one."""
    x = features(evidence)
    rules = (PRESENCE, CONFIDENCE)
    if evidence.quality is None:
        rules = (PRESENCE_BY_POINTS, CONFIDENCE_BY_POINTS)
    presence, confidence = (float(expit(x @ rule)) for rule in rules)
    if evidence.shift > ALIEN:  # no more is known then than that this is something else
        return Verdict(min(presence, 0.5), 0.0)
    return Verdict(presence, confidence)


def judge_between(evidence: Between, *, held: bool) -> Verdict:
    """The same for a slice between two that hold the structure; ``held``: its mask, weighed from
    both sides, is not empty."""
    x = features_between(evidence)
    rule = BETWEEN if len(x) == len(BETWEEN) else BETWEEN_BY_POINTS
    return Verdict(float(held), float(expit(x @ rule)))
