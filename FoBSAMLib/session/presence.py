"""Is the structure in a slice, and is its mask right: probabilities from what the chains say.

Two logistic rules over `Evidence`, fitted on training subjects that the shipped weights were not
trained on (see the model card); they are the only numbers of the default model that organ labels
had a part in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from FoBSAMLib.session.chain import Evidence

#: A way outward ends where the presence falls below this.
PRESENT = 0.5


class Verdict(NamedTuple):
    """Probabilities that the structure is in the slice, and that its mask has a Dice above 0.7."""

    presence: float
    confidence: float


#: Weights of `features`, the constant last.
PRESENCE_WEIGHTS = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0, -4.0])
CONFIDENCE_WEIGHTS = np.array([3.0, 3.0, 3.0, 0.0, 0.0, 0.0, -5.5])


def features(evidence: Evidence) -> np.ndarray:
    """Evidence as the rules weigh it, [7]; the last is the constant 1."""
    return np.array(
        [
            evidence.cycle,
            evidence.watch_cycle,
            evidence.agreement,
            evidence.margin,
            evidence.certainty,
            np.log(max(evidence.area, 1e-2)),
            1.0,
        ]
    )


def judge(evidence: Evidence) -> Verdict:
    """Presence and confidence of one slice on a way outward from an annotated one."""
    x = features(evidence)
    return Verdict(float(expit(x @ PRESENCE_WEIGHTS)), float(expit(x @ CONFIDENCE_WEIGHTS)))


def judge_between(agreement: float) -> Verdict:
    """The same for a slice between two that hold the structure, from the Dice of the masks found
    from either side: what lies between is taken to be there."""
    return Verdict(1.0, float(expit(logit(0.7) + 10 * (agreement - 0.8))))
