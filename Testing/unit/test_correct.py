"""Corrections of one slice, and what a session keeps of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import phantom
import pytest

from FoBSAMLib import FoBSAMError, LocalSession, Prompts, Support, Volume

SHAPE = (64, 64)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def plus(prompts: Prompts, *, background=(), foreground=()) -> Prompts:
    """The prompts with further (x, y) points."""
    return Prompts(
        np.concatenate([prompts.background, np.reshape(background, (-1, 2))]),
        np.concatenate([prompts.foreground, np.reshape(foreground, (-1, 2))]),
    )


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


@pytest.fixture(scope="module")
def volume():
    return Volume.from_array(phantom.voxels(), spacing=(1.5, 1.5, 4.0))


@pytest.fixture(scope="module")
def truth():
    return phantom.labels() == phantom.BALL


@pytest.fixture(scope="module")
def support(volume, truth):
    drawn = np.zeros_like(truth)
    drawn[6] = truth[6]
    return Support.from_masks(volume, {"ball": drawn}, "k", {"ball": [11]})


@pytest.fixture(scope="module")
def found(volume, support):
    with LocalSession() as session:
        session.set_image(volume)
        session.set_supports(support)
        return {result.index: result for result in session.segment()}


@pytest.fixture
def session(volume, support):
    with LocalSession() as session:
        session.set_image(volume)
        session.set_supports(support)
        yield session


def with_mask(found, index: int, mask: np.ndarray):
    """What a session finds, but with this mask in one slice."""
    return dataclasses.replace(found[index], mask=mask)


def test_the_original_prompts_give_the_original_mask(session, found):
    session.restore(found.values())
    wrong = plus(found[5].prompts, background=[20, 22])
    assert (session.correct("ball", 5, wrong).mask != found[5].mask).any()
    again = session.correct("ball", 5, found[5].prompts)
    np.testing.assert_array_equal(again.mask, found[5].mask)


def test_neither_order_nor_repetition_matters(session, found):
    session.restore(found.values())
    one = plus(found[5].prompts, background=[14, 22])
    both = plus(one, foreground=[32, 22])
    straight = session.correct("ball", 5, both).mask
    session.correct("ball", 5, one)
    session.correct("ball", 5, both)
    np.testing.assert_array_equal(session.correct("ball", 5, both).mask, straight)
    turned = Prompts(both.background[::-1], both.foreground[::-1])
    np.testing.assert_array_equal(session.correct("ball", 5, turned).mask, straight)


def test_a_background_point_takes_a_wrong_part_away(session, found, truth):
    """The automatic mask has run out of the ball to the right."""
    leaked = truth[5] | disc(36, 22, 5)
    session.restore([with_mask(found, 5, leaked)])
    mended = session.correct("ball", 5, plus(found[5].prompts, background=[36, 22])).mask
    assert dice(mended, truth[5]) > max(0.93, dice(leaked, truth[5]) + 0.05)
    np.testing.assert_array_equal(mended[:, :20], leaked[:, :20])


def test_a_background_point_in_the_middle_takes_all_of_a_part_away(session, found, truth):
    elsewhere = disc(45, 50, 6)
    session.restore([with_mask(found, 5, truth[5] | elsewhere), with_mask(found, 9, elsewhere)])
    point = {"background": [45, 50]}
    mended = session.correct("ball", 5, plus(found[5].prompts, **point))
    np.testing.assert_array_equal(mended.mask, truth[5])
    mended = session.correct("ball", 9, plus(found[9].prompts, **point))
    assert not mended.mask.any()
    assert (mended.presence, mended.confidence) == (0.0, 1.0)


def test_a_foreground_point_adds_what_is_missing(session, found, truth):
    cut = truth[5] & (np.indices(SHAPE)[1] < 22)
    session.restore([with_mask(found, 5, cut)])
    mended = session.correct("ball", 5, plus(found[5].prompts, foreground=[25, 22]))
    assert dice(cut, truth[5]) < 0.7
    assert dice(mended.mask, truth[5]) > 0.9
    assert (mended.presence, mended.confidence) == (1.0, 1.0)
    assert mended.mask[:, :20].sum() == cut[:, :20].sum()


def test_a_foreground_point_in_a_slice_judged_empty(session, found, truth):
    empty = dataclasses.replace(found[5], mask=np.zeros(SHAPE, bool), prompts=Prompts())
    session.restore([empty])
    mended = session.correct("ball", 5, plus(Prompts(), foreground=[22, 22])).mask
    assert dice(mended, truth[5]) > 0.8
    # Also far from where the structure is in the next slice.
    mended = session.correct("ball", 5, plus(Prompts(), foreground=[42, 41])).mask
    assert mended[41, 42]
    assert 10 < mended.sum() < 2 * truth[6].sum()


def test_points_outside_the_slice_change_nothing(session, found):
    session.restore(found.values())
    outside = plus(found[5].prompts, background=[-7, 3], foreground=[1e6, -1e6])
    mended = session.correct("ball", 5, outside)
    np.testing.assert_array_equal(mended.mask, found[5].mask)
    assert len(mended.prompts.foreground) == len(found[5].prompts.foreground) + 1


def test_prompts_alone_make_the_mask_where_the_segmenter_has_no_prior(volume, support):
    with LocalSession(segmenter="random-walker") as session:
        session.set_image(volume)
        session.set_supports(support)
        found = {result.index: result for result in session.segment()}
        same = session.correct("ball", 5, found[5].prompts)
        np.testing.assert_array_equal(same.mask, found[5].mask)
        none = session.correct("ball", 5, Prompts(background=found[5].prompts.background))
        assert not none.mask.any()
        only = session.correct("ball", 5, Prompts(foreground=np.array([[40, 42], [42, 42]])))
        assert only.mask[42, 40]
        assert not (only.mask & found[5].mask).any()


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (Prompts(foreground=np.array([[np.nan, 3]])), "foreground.*NaN"),
        (Prompts(background=np.array([[np.inf, 3]])), "background.*infinite"),
        (Prompts(background=np.zeros((4, 3))), r"background.*\(x, y\).*\[n, 2\]"),
        (Prompts(foreground=np.zeros(2)), r"foreground.*\(x, y\)"),
        (Prompts(foreground=[[1, 2], [3]]), r"foreground.*\(x, y\)"),
    ],
)
def test_points_that_are_none(session, found, prompts, said):
    session.restore(found.values())
    with pytest.raises(FoBSAMError, match=said) as caught:
        session.correct("ball", 5, prompts)
    assert caught.value.code == "bad_request"


def test_slices_that_cannot_be_corrected(session, found):
    session.restore(r for r in found.values() if r.index != 5)
    for index, said in ((6, "annotated.*drawing"), (11, "not to hold.*drawing"), (5, "segment")):
        with pytest.raises(FoBSAMError, match=f"{index}.*{said}") as caught:
            session.correct("ball", index, Prompts())
        assert caught.value.code == "bad_request"
    with pytest.raises(FoBSAMError, match=r"cube.*ball"):
        session.correct("cube", 5, Prompts())
    with pytest.raises(FoBSAMError, match="cube"):
        session.results("cube")


def test_a_session_keeps_what_was_corrected(session, found):
    session.restore(found.values())
    suggested = session.suggest("ball")
    assert suggested < 6
    for index in [n for n, result in found.items() if n < 6 and result.mask.any()]:
        columns, rows = np.nonzero(found[index].mask.T)
        middle = plus(found[index].prompts, background=np.stack([columns, rows], 1))
        corrected = session.correct("ball", index, middle)
        assert not corrected.mask.any()
        assert session.results("ball")[index] is corrected
    assert session.suggest("ball") > 6
    session.results("ball").clear()
    assert session.results("ball").keys() == found.keys()
    # Segmenting again takes the corrections back.
    again = {result.index: result for result in session.segment()}
    assert session.results("ball") == again


def test_a_session_goes_on_where_another_ended(session, found, volume, support):
    mended = plus(found[5].prompts, background=[14, 22])
    list(session.segment())
    before = session.correct("ball", 5, mended).mask
    suggested = session.suggest("ball")
    results = session.results("ball")
    session.close()
    with pytest.raises(FoBSAMError, match="closed"):
        session.results("ball")
    with LocalSession() as other:
        other.set_image(volume)
        other.set_supports(support)
        other.restore(results.values())
        assert other.suggest("ball") == suggested
        np.testing.assert_array_equal(other.results("ball")[5].mask, before)
        other.restore(found.values())
        np.testing.assert_array_equal(other.correct("ball", 5, mended).mask, before)


def test_results_of_another_image_are_not_taken(session, found):
    other = dataclasses.replace(found[5], mask=np.zeros((32, 32), bool))
    beyond = dataclasses.replace(found[5], index=12)
    along = dataclasses.replace(found[5], axis="j")
    for wrong in (other, beyond, along):
        with pytest.raises(FoBSAMError, match="none of this image's") as caught:
            session.restore([found[4], wrong])
        assert caught.value.code == "bad_request"
    assert not session.results("ball")
    session.restore([with_mask(found, 5, found[5].mask), dataclasses.replace(found[5], index=6)])
    assert session.results("ball").keys() == {5}  # what is annotated by now is left out


def test_after_release_it_goes_on_as_before(session, found):
    mended = plus(found[5].prompts, background=[14, 22])
    list(session.segment())
    before = session.correct("ball", 5, mended).mask
    session.release()
    assert session.results("ball").keys() == found.keys()
    np.testing.assert_array_equal(session.correct("ball", 5, mended).mask, before)
    for result in session.segment():
        np.testing.assert_array_equal(result.mask, found[result.index].mask)
