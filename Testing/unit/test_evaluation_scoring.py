"""Records of what was found."""

from __future__ import annotations

import numpy as np
import pytest

from FoBSAMLib.evaluation.datasets import Subject
from FoBSAMLib.evaluation.scoring import Answer, Given, score
from FoBSAMLib.image.volume import Volume

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


@pytest.mark.parametrize("colours", [(), (3,)])
def test_only_volumes_have_distances_in_millimetres(colours):
    truth, found = np.zeros((2, 1, 16, 16), bool)
    truth[0, 4:8, 4:8] = found[0, 4:8, 5:9] = True
    volume = Volume(np.zeros((1, 16, 16, *colours), np.uint8), np.eye(4))
    subject = Subject(1, volume, {"nevus": truth})
    record = score(subject, "nevus", Answer("copy", "given", found, 1.0), Given({})).record
    assert record.dice == 0.75
    if colours:
        assert record.hd95_mm is None
        assert record.surface_dice is None
    else:
        assert record.hd95_mm == 1.0
        assert record.surface_dice == 1.0
