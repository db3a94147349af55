"""What a session hands back, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Axis
from FoBSAMLib.prompts import Prompts


@dataclass(frozen=True)
class SliceResult:
    """One structure in one query slice.

    ``mask`` is bool [H, W] on the slice's own pixels, empty where the structure was judged
    absent; ``prompts`` are in the same pixels. ``presence`` (is the structure in this slice)
    and ``confidence`` (is the mask right) lie in [0, 1]; ``doubt`` is the area, in mm², that is
    expected to be wrong by the probabilities from which the mask was made.
    """

    structure: Structure
    axis: Axis
    index: int
    mask: np.ndarray
    prompts: Prompts
    presence: float
    confidence: float
    milliseconds: float
    doubt: float = 0.0
