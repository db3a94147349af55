"""When a structure's whole result is to be doubted, not only some of its slices."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

#: Slices of less confidence are to be looked at. Of the wrong slices (Dice below 0.7) of CHAOS 15
#: and SABS 10 11 eight of ten are, and a fifth of all slices that hold a structure or a mask.
UNSURE = 0.85
#: A result of less on average over the slices found is doubted as a whole.
UNSURE_VOLUME = 0.6


def unsure_of_volume(confidences: Sequence[float]) -> bool:
    """Whether a result is to be doubted as a whole, from the confidences of the slices in which
    the structure was found: it was found in none, or they are below `UNSURE_VOLUME` on average."""
    return not confidences or fmean(confidences) < UNSURE_VOLUME


def warn_of_volume(name: str, confidences: Sequence[float]) -> str:
    """The sentence for the user, "" where there is nothing to warn of."""
    if not unsure_of_volume(confidences):
        return ""
    if not confidences:
        return f"{name}: found in none of the slices it was looked for in."
    mean = fmean(confidences)
    return f"{name}: unsure of the result as a whole (confidence {mean:.2f}); look at every slice."
