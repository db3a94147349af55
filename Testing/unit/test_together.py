"""Ways followed at once: the order of their results, how they are stopped, and what they raise."""

from __future__ import annotations

import threading
import time

import pytest

from FoBSAMLib.session.kept import Kept
from FoBSAMLib.session.together import together

GO_ON = lambda: False  # noqa: E731


def way(name: str, count: int, stop, seconds: float = 0.0):
    for number in range(count):
        if stop():
            return
        time.sleep(seconds)
        yield f"{name}{number}"


@pytest.mark.parametrize("threaded", [False, True])
def test_two_ways_take_turns_and_the_third_begins_when_one_has_ended(threaded):
    def ways(stop):
        yield way("a", 1, stop, 0.02)
        yield way("b", 3, stop)
        yield way("c", 2, stop)

    found = list(together(ways, GO_ON, threaded=threaded))
    assert found == ["a0", "b0", "b1", "c0", "b2", "c1"]


def test_two_ways_are_run_at_the_same_time():
    meeting = threading.Barrier(2)

    def meet(stop):
        yield meeting.wait(60)

    assert sorted(together(lambda stop: [meet(stop), meet(stop)], GO_ON, threaded=True)) == [0, 1]


@pytest.mark.parametrize("threaded", [False, True])
def test_cancelled_ways_end_and_only_the_caller_is_asked(threaded):
    ended, asked = [], []

    def endless(stop):
        try:
            yield from way("x", 10**9, stop, 0.01)
        finally:
            ended.append(True)

    def cancel():
        asked.append(threading.current_thread())
        return len(asked) > 4

    assert len(list(together(lambda stop: [endless(stop)], cancel, threaded=threaded))) <= 4
    assert ended
    assert set(asked) == {threading.current_thread()}


def test_ways_that_give_nothing_yet_are_cancelled():
    def silent(stop):
        while not stop():
            time.sleep(0.01)
        yield from ()

    began = time.monotonic()
    late = lambda: time.monotonic() > began + 0.2  # noqa: E731
    assert list(together(lambda stop: [silent(stop), silent(stop)], late, threaded=True)) == []


def test_results_no_longer_wanted_end_the_ways():
    ended = []

    def endless(stop):
        yield from way("x", 10**9, stop, 0.01)
        ended.append(True)

    results = together(lambda stop: [endless(stop), endless(stop)], GO_ON, threaded=True)
    next(results)
    results.close()
    assert len(ended) == 2


@pytest.mark.parametrize("threaded", [False, True])
def test_what_a_way_raises_comes_after_its_results(threaded):
    def failing(stop):
        yield "one"
        raise MemoryError("full")

    results = together(lambda stop: [failing(stop)], GO_ON, threaded=threaded)
    assert next(results) == "one"
    with pytest.raises(MemoryError, match="full"):
        next(results)


def test_a_value_is_made_once_whoever_asks():
    kept, made, values = Kept(5), [], []

    def make():
        made.append(True)
        time.sleep(0.05)
        return object()

    askers = [
        threading.Thread(target=lambda: values.append(kept.obtain("a", make))) for _ in range(4)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert len(made) == 1
    assert len(set(values)) == 1


def test_a_value_that_could_not_be_made_is_tried_again():
    kept = Kept(5)
    with pytest.raises(MemoryError):
        kept.obtain("a", lambda: (_ for _ in ()).throw(MemoryError))
    assert kept.obtain("a", lambda: 1) == 1


def test_values_made_together_are_those_that_are_missing():
    kept, asked = Kept(3), []

    def make(keys):
        asked.append(list(keys))
        return [10 * key for key in keys]

    assert kept.obtain_all([1, 2], make) == 10
    assert kept.obtain_all([2, 3], make) == 20
    assert kept.obtain_all([3, 2, 4], make) == 30
    assert asked == [[1, 2], [3, 4]]
    # Of four, the one used longest ago is forgotten.
    assert kept.obtain_all([1], make) == 10
    assert asked[-1] == [1]
