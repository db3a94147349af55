"""Which slice to annotate next, from what was found and how doubtful it is."""

import numpy as np
import pytest

from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.suggest import suggest_slice


def results(doubts, area=lambda index: 4, empty=()):
    """Results by index and doubt; ``empty`` are those judged not to hold the structure."""
    found = {}
    for index, doubt in doubts.items():
        mask = np.zeros((8, 8), bool)
        mask.flat[: 0 if index in empty else area(index)] = True
        found[index] = SliceResult(
            Structure("ball", 1),
            "k",
            index,
            mask,
            Prompts(),
            1.0,
            0.9,
            milliseconds=1.0,
            doubt=doubt,
        )
    return found


def equally(*indices, doubt=9.0):
    return dict.fromkeys(indices, doubt)


@pytest.mark.parametrize(
    ("drawn", "absent", "doubts", "expected"),
    [
        # Well out on the longer side, but not at its end: slices on both sides of it gain.
        ([10], [], equally(*range(7, 10), *range(11, 20)), range(13, 17)),
        # The same slices, of which only those on the shorter side are doubtful.
        ([10], [], equally(*range(7, 10), doubt=90.0) | equally(*range(11, 20), doubt=0.0), [7, 8]),
        # Between two annotated slices near the middle, though a few lie beyond them.
        ([4, 16], [2, 18], equally(3, *range(5, 16), 17), range(9, 12)),
        # Between them, but where the mistakes are.
        ([4, 16], [], equally(*range(5, 16), doubt=1.0) | equally(12, 13, doubt=400.0), [12, 13]),
        # One slice of great doubt is suggested itself.
        ([10], [], equally(*range(11, 20), doubt=1.0) | {14: 5000.0}, [14]),
        # Models that know no doubt: all slices found count alike.
        ([10], [], equally(*range(7, 10), *range(11, 20), doubt=0.0), range(13, 17)),
    ],
)
def test_where_most_doubt_is_settled(drawn, absent, doubts, expected):
    assert suggest_slice(drawn, absent, results(doubts)) in expected


def test_slices_said_not_to_hold_it_are_not_suggested():
    found = results(equally(11, 12, 13, 14, 15), empty=(14, 15))
    assert suggest_slice([10], [14, 15], found) in (11, 12, 13)


def test_where_nothing_was_found_the_next_slice_is_asked_for():
    assert suggest_slice([10], [], results({9: 0.0, 11: 0.0, 12: 0.0}, empty=(9, 11, 12))) == 9


def test_an_image_with_nothing_annotated_starts_where_most_was_found():
    found = results(equally(*range(5, 15)), area=lambda index: 9 - abs(index - 11))
    assert suggest_slice([], [], found) == 11
    assert suggest_slice([], [], results({5: 0.0}, empty=(5,))) is None
    assert suggest_slice([], [], {}) is None


def test_nothing_is_left_to_annotate():
    assert suggest_slice([5, 6, 7], [4, 8], {}) is None
