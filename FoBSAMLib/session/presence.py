"""Is the structure in a slice, and is its mask right: probabilities from what the chains say.

Two logistic rules over `Evidence`, fitted with organ labels of training-split subjects (CHAOS 8 10
13 15, SABS 6 10 11; the weights saw the images of CHAOS 8 and 10, without labels). The model card
lists all that labels had a part in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from FoBSAMLib.session.chain import Evidence

#: A way outward ends where the presence falls below this.
PRESENT = 0.65
#: Farther than this from the annotated slice, in mm, distance says no more: structures are of all
#: lengths.
FAR = 80.0


class Verdict(NamedTuple):
    """Probabilities that the structure is in the slice, and that its mask has a Dice above 0.7."""

    presence: float
    confidence: float


#: A mask whose mean intensity is farther than this from the annotated one's lies on something
#: else, however well it fits: a last resort against leaving an organ for its neighbour.
ALIEN = 4.0

#: Weights of cycle, watch_cycle, agreement, distance in 100 mm, and the constant.
PRESENCE_WEIGHTS = np.array([3.76, 2.39, 1.23, -4.12, 0.12])
CONFIDENCE_WEIGHTS = np.array([4.05, 1.34, 3.29, -3.24, -3.98])


def features(evidence: Evidence) -> np.ndarray:
    """Evidence as the rules weigh it, [5]."""
    cycles = (evidence.cycle, evidence.watch_cycle)
    return np.array([*cycles, evidence.agreement, min(evidence.distance, FAR) / 100, 1.0])


def judge(evidence: Evidence) -> Verdict:
    """Presence and confidence of one slice on a way outward from an annotated one."""
    if evidence.shift > ALIEN:
        return Verdict(0.0, 0.0)
    x = features(evidence)
    return Verdict(float(expit(x @ PRESENCE_WEIGHTS)), float(expit(x @ CONFIDENCE_WEIGHTS)))


def judge_between(agreement: float, *, held: bool) -> Verdict:
    """The same for a slice between two that hold the structure, from the Dice of the masks found
    from either side; ``held``: the two together are not empty. The slope is set by hand: even
    odds a little below the agreement at which the two masks differ by a pixel's width.
    """
    return Verdict(float(held), float(expit(logit(0.7) + 10 * (agreement - 0.8))))
