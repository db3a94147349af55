"""Points alone, the ablation of their parts, and models shared by sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_subjects import make_dataset, overlap

from FoBSAMLib.evaluation import points
from FoBSAMLib.evaluation.ablation import POINT_COUNTS, ablated_points, background_points, thin
from FoBSAMLib.evaluation.settings import Pair, Settings
from FoBSAMLib.evaluation.tool import Tools, ToolSession
from FoBSAMLib.generator import registry
from FoBSAMLib.generator.compatible import CompatibleFoB, Features
from FoBSAMLib.generator.fob_paper import FobPaperGenerator
from FoBSAMLib.segmenters.random_walker import RandomWalkerSegmenter
from FoBSAMLib.session.slices import ImageSlices

KIDNEY = "right kidney"
AT = 6


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSlices, points.KnownSlice]:
    """The query, subject 19, and a slice of subject 3 with its right kidney."""
    dataset = make_dataset(Path(tmp_path_factory.mktemp("chaos")), (3, 19))
    generator = registry.create("fob-lite", "cpu")
    query, support = (
        ImageSlices(dataset.read(n).volume, "k", generator, RandomWalkerSegmenter())
        for n in (19, 3)
    )
    return query, points.KnownSlice(support, AT, dataset.read(3).masks[KIDNEY][AT])


def inside(slices: ImageSlices, mask: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Which points, in pixels of the network's grid, lie on a mask of the slice."""
    pixels = np.rint(slices.grid.points_from_network(where)).astype(int)
    return mask[tuple(pixels.clip(0, 63).T[::-1])]


@pytest.mark.parametrize("place", points.PLACES.values(), ids=points.PLACES)
def test_both_ways_place_as_many_points_inside_and_outside(known, place):
    query, support = known
    prompts = place(query, AT, [support.remembered()], True)
    # The subjects differ in their noise alone.
    assert (len(prompts.foreground), len(prompts.background)) == (10, 10)
    assert inside(query, support.mask, prompts.foreground).mean() >= 0.9
    assert not inside(query, support.mask, prompts.background).any()


@pytest.mark.parametrize("foreign", [True, False])
def test_both_ways_differ_in_their_background_points_alone(known, foreign):
    query, support = known
    memory = [support.remembered()]
    fob, prototype = (
        place(query, AT, memory, foreign) for place in (points.fob_points, points.prototype_points)
    )
    assert np.array_equal(fob.foreground, prototype.foreground)
    assert not np.array_equal(fob.background, prototype.background)
    located = query.generator.propose(query.features(AT), memory, foreign=foreign).prompts
    assert np.array_equal(fob.background, located.background)


@pytest.mark.parametrize("place", points.PLACES.values(), ids=points.PLACES)
def test_the_segmenter_draws_from_the_points_alone(known, place):
    query, support = known
    drawn = points.found_from(place, query, AT, support)
    assert overlap(drawn, support.mask) > 0.85


def test_within_a_volume_the_part_near_the_last_mask_is_taken(known):
    """Two structures look alike: which of them is meant is known from the slice before."""
    _, support = known
    slices = support.slices
    remembered = support.remembered()
    twice = remembered.features.key.clone()
    for half in (slice(0, 32), slice(32, 64)):
        twice[..., half] = remembered.features.key[..., 20:52]
    masks = [np.roll(remembered.mask, shift, axis=1) for shift in (-80, 48)]
    alike = remembered._replace(features=remembered.features._replace(key=twice))
    found = []
    for mask in masks:
        near = alike._replace(mask=mask)
        kept, slices.features = slices.features, lambda *_: alike.features
        try:
            prompts = points.prototype_points(slices, AT, [remembered, near], False)
        finally:
            slices.features = kept
        found.append(float(prompts.foreground[:, 0].mean()))
    assert found[0] < 128 < found[1]


def test_points_are_thinned_evenly_along_the_ring():
    ring = np.stack([np.arange(10.0), np.zeros(10)], axis=1)
    assert thin(ring, 10).tolist() == ring.tolist() == thin(ring, 12).tolist()
    assert thin(ring, 5)[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert thin(ring, 3)[:, 0].tolist() == [0, 3, 6]
    assert thin(ring, 0).shape == (0, 2)


def test_every_variant_differs_in_its_background_points_alone(known):
    query, support = known
    variants = dict(ablated_points(query, AT, support))
    assert len(variants) == len(POINT_COUNTS) * 4
    assert all(len(prompts.background) == one.points for one, prompts in variants.items())
    first, *others = (prompts.foreground for prompts in variants.values())
    assert all(np.array_equal(first, other) for other in others)


def test_a_part_switched_off_is_on_again_afterwards(known):
    query, support = known
    features, memory = query.features(AT), support.remembered()

    def background(refinement: bool, context: bool) -> np.ndarray:
        return background_points(
            query.generator, features, memory, refinement=refinement, context=context
        )

    whole = background(True, True)
    assert np.array_equal(whole, points.fob_points(query, AT, [memory], True).background)
    less = [background(False, True), background(True, False), background(False, False)]
    assert all(np.abs(one - whole).max() > 1e-3 for one in less)
    assert np.array_equal(background(True, True), whole)


def test_the_papers_network_has_the_same_parts(known):
    _, support = known
    torch.manual_seed(0)
    generator = FobPaperGenerator(CompatibleFoB())
    # Of made-up features: the encoder has no part in it, and takes long.
    first, second = (Features(torch.rand(1, 512, 64, 64), torch.zeros(1)) for _ in range(2))
    memory = support.remembered()._replace(features=first)

    def background(refinement: bool, context: bool) -> np.ndarray:
        return background_points(generator, second, memory, refinement=refinement, context=context)

    mask = memory.inside.astype(np.float32)
    (refined,) = generator.model.propose(first, mask, second, refine=True)
    coarse = background(False, True)
    assert np.array_equal(background(True, True), refined.background)
    assert not np.array_equal(coarse, refined.background)
    assert not np.array_equal(coarse, background(False, False))
    assert points.prototype_points(_Given(second), 0, [memory], True).foreground.size


class _Given:
    """Slices of which there is one, encoded already."""

    def __init__(self, features) -> None:
        self._features = features

    def features(self, index: int):
        return self._features


def test_sessions_share_what_was_encoded_and_count_its_time(tmp_path):
    dataset = make_dataset(tmp_path, (3,))
    subject = dataset.read(3)
    settings = Settings((KIDNEY,), segmenters=("compact", "random-walker"), device="cpu")
    tools = Tools(settings)
    one, two = (
        tools.session(Pair("fob-lite", segmenter), None, KIDNEY)
        for segmenter in settings.segmenters
    )
    assert one is not two
    assert tools.session(Pair("fob-lite", "compact"), None, KIDNEY) is one
    for session in (one, two):
        session.look_at(subject.volume)
    first = one.slices(subject.volume).features(AT)
    assert (one.spared, two.spared) == (0, 0)
    assert two.slices(subject.volume).features(AT) is first
    assert two.spared > 0


def test_alone_the_tool_is_measured_as_it_is_shipped(tmp_path):
    settings = Settings((KIDNEY,), device="cpu")
    session = Tools(settings).session(Pair("fob-lite", "compact"), None, KIDNEY)
    subject = make_dataset(tmp_path, (3,)).read(3)
    session.look_at(subject.volume)
    assert isinstance(session, ToolSession)
    assert type(session.slices(subject.volume).generator) is type(registry.create("fob-lite"))
