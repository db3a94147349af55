"""Which slice to annotate next, from what was found and how sure of it the tool is."""

import numpy as np
import pytest

from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.suggest import suggest_slice

COUNT = 30


def results(confidences, area=lambda index: 4):
    """Found slices by index and confidence; 0 for one judged empty."""
    found = {}
    for index, confidence in confidences.items():
        mask = np.zeros((8, 8), bool)
        mask.flat[: area(index) if confidence else 0] = True
        ball = Structure("ball", 1)
        presence = 1.0 if confidence else 0.1
        found[index] = SliceResult(
            ball, "k", index, mask, Prompts(), presence, confidence or 0.9, milliseconds=1.0
        )
    return found


def sure(*indices):
    return dict.fromkeys(indices, 0.9)


def unsure(*indices):
    return dict.fromkeys(indices, 0.2)


@pytest.mark.parametrize(
    ("drawn", "absent", "found", "expected"),
    [
        ([10], [], sure(*range(7, 10), *range(11, 20)), 16),
        # The same with a tail in which the structure is lost: no reason to go farther.
        ([10], [], sure(*range(7, 10), *range(11, 20)) | unsure(*range(20, 25)), 16),
        # An unsure tail does not outweigh a side that the tool is sure of.
        ([10], [], sure(*range(3, 10), *range(11, 14)) | unsure(*range(14, 19)), 5),
        # Of a difficult structure it is unsure everywhere: the longest stretch counts.
        ([10], [], sure(9, 11) | unsure(*range(12, 20)), 16),
        # Between two annotated slices the middle.
        ([4, 16], [2, 18], sure(3, *range(5, 16), 17), 10),
        # Up to where the user said that it is not.
        ([10], [9, 14], sure(11, 12, 13) | {15: 0.0}, 12),
        # The volume ends.
        ([COUNT - 2], [COUNT - 3], sure(COUNT - 1), COUNT - 1),
        # Found in no other slice: where it would go on.
        ([10], [], {9: 0.0, 11: 0.0}, 9),
    ],
)
def test_the_longest_stretch_in_which_the_structure_is_not_lost(drawn, absent, found, expected):
    assert suggest_slice(COUNT, drawn, absent, results(found)) == expected


def test_an_image_with_nothing_annotated_starts_where_most_was_found():
    found = results(sure(*range(5, 15)), area=lambda index: 9 - abs(index - 11))
    assert suggest_slice(COUNT, [], [], found) == 11
    assert suggest_slice(COUNT, [], [], results({5: 0.0})) is None
    assert suggest_slice(COUNT, [], [], {}) is None


def test_nothing_is_left_to_annotate():
    assert suggest_slice(COUNT, [5, 6, 7], [4, 8], results({3: 0.0, 9: 0.0})) is None
