"""Following a structure with a generator that says how good its own masks are."""

import numpy as np
import phantom
import pytest

from FoBSAMLib.generator.base import Proposal
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.session.chain import carry_back, dice
from FoBSAMLib.session.follow import follow
from FoBSAMLib.session.slices import ImageSlices

DRAWN = phantom.drawn() == phantom.BALL
AT = int(np.flatnonzero(DRAWN.any((1, 2)))[0])


class Scripted:
    """A generator that says of every slice what ``say(memory)`` makes of what is remembered."""

    name, weights, ahead = "scripted", "", 1

    def __init__(self, say):
        self.say = say

    def encode(self, slices):
        return list(slices)

    def propose(self, query, memory, *, foreign=False):
        probability, quality = self.say(memory)
        return Proposal(Prompts(), probability.astype(np.float32), presence=0.9, quality=quality)

    def carry(self, query, source, masks, *, foreign=False):
        return [mask >= 0.5 for mask in masks]


GRID = ImageSlices(
    Volume.from_array(phantom.voxels()), "k", Scripted(None), segmenters.create("compact")
).grid


def walked(say, annotated, wanted, *, holding=True, voxels=None):
    volume = Volume.from_array(phantom.voxels() if voxels is None else voxels)
    slices = ImageSlices(volume, "k", Scripted(say), segmenters.create("compact"), threaded=False)
    return {one.index: one for one in follow(slices, annotated, set(), wanted, holding=holding)}


@pytest.mark.parametrize(("quality", "kept"), [(0.4, True), (0.95, False)])
def test_a_doubtful_mask_keeps_the_shape_found_before(quality, kept):
    # A mask that just is none: what was found before tips the scales where it is doubted.
    say = lambda memory: (0.45 * memory[-1].inside, quality)  # noqa: E731
    (found,) = walked(say, {AT: DRAWN[AT]}, range(AT + 1, AT + 2)).values()
    assert (dice(found.mask, DRAWN[AT]) > 0.8) == kept


@pytest.mark.parametrize("certain", [0.0, 0.98])
def test_what_the_generator_is_certain_of_counts_though_it_doubts_its_mask(certain):
    everywhere = np.full(phantom.voxels().shape[1:], certain, np.float32)
    say = lambda memory: (GRID.mask_to_network(everywhere), 0.3)  # noqa: E731
    (found,) = walked(say, {AT: DRAWN[AT]}, range(AT + 1, AT + 2)).values()
    assert found.mask.all() if certain else not found.mask.any()


def test_a_mask_that_was_lost_is_found_again_though_it_is_doubted():
    steps = iter(range(10))

    def say(memory):
        return (0.95 if next(steps) else 0.0) * memory[0].inside, 0.7

    found = walked(say, {AT: DRAWN[AT]}, range(AT + 1, AT + 3))
    assert [found[n].mask.any() for n in sorted(found)] == [False, True]


def test_between_two_annotated_slices_the_surer_side_has_the_word():
    low, high = 2, 9
    away = np.roll(DRAWN[AT], 20, axis=1)
    drawn = GRID.mask_to_network(DRAWN[AT]) >= 0.5

    def say(memory):
        # From below it stays where it was drawn, surely; from above it is lost, and not sure.
        from_below = dice(memory[-1].inside, drawn) > 0.5
        return np.where(memory[-1].inside, 0.97, 0.02), 0.9 if from_below else 0.3

    found = walked(say, {low: DRAWN[AT], high: away}, range(low, high))
    assert sorted(found) == list(range(low + 1, high))
    for index in range(low + 1, high - 1):
        assert dice(found[index].mask, DRAWN[AT]) > 0.9, index


def test_doubt_is_the_area_expected_to_be_wrong():
    def say(memory):
        inside = memory[-1].inside
        return np.where(inside, 0.9, 0.0), 0.95

    volume = Volume.from_array(phantom.voxels())
    (found,) = walked(say, {AT: DRAWN[AT]}, range(AT + 1, AT + 2)).values()
    area = DRAWN[AT].sum() * np.prod(volume.slice_spacing("k"))
    assert found.doubt == pytest.approx(0.1 * area, rel=0.05)


def shifted(mask):
    """The mask moved so far that hardly any of it is left where it was."""
    return next(moved for n in range(256) if dice(moved := np.roll(mask, n, axis=1), mask) < 0.1)


def good_for(count):
    """After so many good slices a mask in the wrong place that the generator takes for wrong, too,
    though it is sure that the structure is there."""
    steps = iter(range(100))

    def say(memory):
        if next(steps) < count:
            return np.where(memory[0].inside, 0.99, 0.0), 0.95
        return np.where(shifted(memory[0].inside >= 0.5), 0.97, 0.02), 0.02

    return say


def one_tissue():
    """An image whose intensities tell nothing."""
    return np.random.default_rng(0).normal(100, 10, phantom.voxels().shape).astype(np.float32)


def test_a_way_that_was_sure_ends_where_the_mask_is_surely_wrong():
    found = walked(
        good_for(2), {AT: DRAWN[AT]}, range(AT + 1, AT + 5), holding=False, voxels=one_tissue()
    )
    assert [found[n].mask.any() for n in sorted(found)] == [True, True, False, False]
    assert all(found[n].verdict.presence <= 0.5 for n in (AT + 3, AT + 4))
    # Of a way that never was sure it says nothing.
    found = walked(
        good_for(0), {AT: DRAWN[AT]}, range(AT + 1, AT + 3), holding=False, voxels=one_tissue()
    )
    assert all(one.mask.any() for one in found.values())


def test_the_farther_beyond_the_end_the_surer_is_the_absence():
    found = walked(good_for(2), {AT: DRAWN[AT]}, range(AT + 1, AT + 6), holding=False)
    beyond = [found[n].verdict for n in sorted(found) if not found[n].mask.any()]
    assert len(beyond) == 3
    presences = [verdict.presence for verdict in beyond]
    assert presences == sorted(presences, reverse=True)
    step = Volume.from_array(phantom.voxels()).step("k")
    assert presences[2] == pytest.approx(presences[0] * np.exp(-2 * step / 4.0))
    assert [v.confidence for v in beyond] == pytest.approx([1 - p for p in presences])


class Pointing(Scripted):
    """It cannot carry masks, and needs one to place points by, as the paper's network does."""

    def carry(self, query, source, masks, *, foreign=False):
        return None

    def propose(self, query, memory, *, foreign=False):
        assert memory[-1].inside.any()
        return Proposal(Prompts(foreground=[[32, 32]], background=[[5, 5], [60, 60]]))


def test_an_empty_mask_is_carried_back_as_an_empty_one():
    volume = Volume.from_array(phantom.voxels())
    slices = ImageSlices(
        volume, "k", Pointing(None), segmenters.create("random-walker"), threaded=False
    )
    empty, drawn = np.zeros((256, 256), bool), GRID.mask_to_network(DRAWN[AT]) >= 0.5
    back = carry_back(slices, AT, slices.features(AT), slices.features(AT + 1), [empty, drawn])
    assert [mask.any() for mask in back] == [False, True]
