"""Some rounds of `hard_use.py`, which runs many."""

from __future__ import annotations

import hard_use
import pytest

pytestmark = pytest.mark.skipif(
    not hard_use.Path("/proc/self/fd").is_dir(), reason="needs /proc, as on Linux"
)


def test_a_worker_opens_nothing_that_it_does_not_close():
    use = hard_use.soak(6, seed=1)
    assert use["last"]["worker files"] == use["first"]["worker files"]
    assert use["last"]["caller files"] == use["first"]["caller files"]


def test_images_of_all_kinds_are_segmented_or_refused_in_a_line():
    outcome = hard_use.fuzz(12, seed=1)
    assert outcome["segmented"] + outcome["refused"] == 12
    assert outcome["segmented"]


def test_killed_commands_leave_nothing_half_written():
    outcome = hard_use.kill(6, seed=1)
    assert all(sum(outcome[name].values()) == 2 for name in ("segment", "batch", "download"))
