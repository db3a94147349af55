"""Which slices of a volume are annotated, and along which axis."""

from __future__ import annotations

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis


def annotated_slices(mask: np.ndarray, axis: Axis) -> tuple[int, ...]:
    """Indices along an axis of the slices that a mask, bool [K, J, I], touches."""
    others = tuple(n for n in range(3) if n != ARRAY_AXIS[axis])
    return tuple(int(n) for n in np.flatnonzero(mask.any(axis=others)))


def find_axis(mask: np.ndarray) -> Axis:
    """The axis along which a support was drawn: its mask touches fewest slices of it.

    ``mask`` is bool [K, J, I]. A volume of a single slice has the axis of that slice.
    Raises FoBSAMError for an empty mask, for two axes equally likely, and for a mask that
    leaves no slice to segment.
    """
    for axis in ARRAY_AXIS:
        if mask.shape[ARRAY_AXIS[axis]] == 1:
            check_axis(mask, axis)
            return axis
    touched = {axis: len(annotated_slices(mask, axis)) for axis in ARRAY_AXIS}
    fewest = min(touched.values())
    likely = sorted(axis for axis, count in touched.items() if count == fewest)
    if fewest and len(likely) > 1:
        raise FoBSAMError(
            "bad_request",
            f"The support could be drawn along {' or '.join(likely)}"
            f" ({fewest} {'slice' if fewest == 1 else 'slices'} each).",
            "Give --axis.",
        )
    check_axis(mask, likely[0])
    return likely[0]


def check_axis(mask: np.ndarray, axis: Axis) -> None:
    """Raise FoBSAMError unless a mask, bool [K, J, I], is a support along an axis.

    It must not be empty, nor touch every slice: then nothing is left to find.
    """
    check_annotated(len(annotated_slices(mask, axis)), mask.shape[ARRAY_AXIS[axis]], axis)


def check_annotated(count: int, total: int, axis: Axis) -> None:
    """The same from how many of all slices are annotated."""
    if not count:
        raise FoBSAMError(
            "bad_request",
            "The support is empty.",
            "Paint the structure on at least one slice.",
        )
    if count == total > 1:
        raise FoBSAMError(
            "bad_request",
            f"The support touches all {total} slices along {axis}: nothing is left to find.",
            "Keep only the annotated slices, or give another --axis.",
        )
