"""fob-lite: matching, background points and the dense head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.background import REFINEMENTS, Refinement, soft_argmax
from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.generator.lite import FobLite, body_places
from FoBSAMLib.generator.matching import read_anywhere, read_nearby
from FoBSAMLib.generator.registry import create
from FoBSAMLib.training.episodes import Episode
from FoBSAMLib.training.lite import WEIGHTS, LiteRecipe
from FoBSAMLib.training.losses import nearest_order


@pytest.fixture(scope="module")
def generator():
    return create("fob-lite", "cpu")


def slices_with_disc(centres: list[tuple[int, int]], seed: int = 0) -> np.ndarray:
    """Textured slices with a bright disc, float32 [n, 256, 256]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((256, 256))
    texture = F.interpolate(torch.from_numpy(rng.normal(size=(1, 1, 32, 32))), (256, 256))
    images = [
        texture[0, 0].numpy() * 0.3 + 2.0 * ((columns - x) ** 2 + (rows - y) ** 2 < 30**2)
        for x, y in centres
    ]
    return np.stack(images).astype(np.float32)


def disc(x: int, y: int) -> np.ndarray:
    rows, columns = np.indices((256, 256))
    return ((columns - x) ** 2 + (rows - y) ** 2 < 30**2).astype(np.float32)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def naive_reading(query, key, value, sharpness, locality, radius):
    """The definition of windowed matching, cell by cell."""
    _, h, w = query.shape
    read = torch.zeros(value.shape[1], h, w)
    for y in range(h):
        for x in range(w):
            logits, values = [], []
            for t in range(key.shape[0]):
                for v in range(max(0, y - radius), min(h, y + radius + 1)):
                    for u in range(max(0, x - radius), min(w, x + radius + 1)):
                        cost = locality * ((v - y) ** 2 + (u - x) ** 2)
                        logits.append(sharpness * query[:, y, x] @ key[t, :, v, u] - cost)
                        values.append(value[t, :, v, u])
            read[:, y, x] = torch.stack(logits).softmax(0) @ torch.stack(values)
    return read


def test_windowed_matching_is_what_its_definition_says():
    rng = torch.Generator().manual_seed(0)
    query = F.normalize(torch.randn(1, 5, 16, 16, generator=rng), dim=1)
    keys = F.normalize(torch.randn(1, 2, 5, 16, 16, generator=rng), dim=2)
    values = torch.rand(1, 2, 3, 16, 16, generator=rng)
    found = read_nearby(query, keys, values, torch.tensor(9.0), torch.tensor(0.1), 3)
    wanted = naive_reading(query[0], keys[0], values[0], 9.0, 0.1, 3)
    torch.testing.assert_close(found.values[0], wanted, atol=1e-5, rtol=1e-4)


def test_matching_anywhere_finds_what_moved_far():
    rng = torch.Generator().manual_seed(1)
    key = F.normalize(torch.randn(1, 1, 32, 16, 16, generator=rng), dim=2)
    key = key.repeat_interleave(2, 3).repeat_interleave(2, 4)
    values = torch.zeros(1, 1, 4, 32, 32)
    values[..., 2:8, 2:8] = 1
    query = key[:, 0].roll((18, 20), (2, 3))
    nowhere = torch.zeros(1, 2, 32, 32)
    places = (nowhere, nowhere[:, None])
    found = read_anywhere(query, key, values, torch.tensor(60.0), torch.tensor(20.0), places).values
    wanted = values[:, 0].roll((18, 20), (2, 3))
    assert ((found > 0.5) == (wanted > 0.5)).float().mean() > 0.99


def test_of_two_that_look_alike_the_one_in_the_same_place_of_the_body_is_taken():
    key = F.normalize(torch.ones(1, 1, 4, 16, 16), dim=2)
    values = torch.zeros(1, 1, 16, 16, 16)
    values[..., :8] = 1  # the left half
    x = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    places = torch.cat([x, torch.zeros_like(x)], 1)
    cost = torch.tensor(100.0)
    found = read_anywhere(
        key[:, 0], key, values, torch.tensor(40.0), cost, (places, places[:, None])
    )
    assert (found.values[..., :6] > 0.7).all()
    assert (found.values[..., -6:] < 0.3).all()
    # In a body twice as wide, of which the slice shows the left half, all of it is to the left.
    wide = torch.cat([x / 2, torch.zeros_like(x)], 1)
    found = read_anywhere(key[:, 0], key, values, torch.tensor(40.0), cost, (wide, places[:, None]))
    assert (found.values[..., :12] > 0.5).all()


def test_places_in_the_body_do_not_depend_on_the_air_around_it():
    slices = torch.zeros(2, 1, 256, 256)
    slices[0, :, 64:192, 32:224] = 1
    slices[1, :, 16:144, 64:256] = 1
    places = body_places(slices)
    torch.testing.assert_close(places[0, :, 16:48, 8:56], places[1, :, 4:36, 16:64])
    assert places[0, 0, 20, 8] == pytest.approx(0, abs=0.02)
    assert places[0, 1, 47, 20] == pytest.approx(1, abs=0.02)
    # A slice of one value has no body: its own sides count.
    flat = body_places(torch.ones(1, 1, 256, 256))
    assert flat[0, 0, 0, 0] == pytest.approx(0.5 / 64)


def test_what_is_encoded_beside_a_slice_does_not_matter(generator):
    images = slices_with_disc([(100, 100), (120, 90), (60, 200)])
    together = generator.encode(images)[1]
    alone = generator.encode(images[1:2])[0]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("name", ["fob-lite", "fob-lite-fast"])
def test_a_moved_disc_is_found_with_points_round_it(name):
    generator = create(name, "cpu")
    images = slices_with_disc([(110, 120), (118, 126)])
    support, query = generator.encode(images)
    proposal = generator.propose(query, [Remembered(support, disc(110, 120))])
    assert dice(proposal.probability >= 0.5, disc(118, 126) > 0) > 0.9
    away = np.linalg.norm(proposal.prompts.background - (118, 126), axis=1)
    assert len(away) == 10
    assert (away > 30).all()
    assert (away < 60).all()
    columns, rows = proposal.prompts.foreground.astype(int).T
    assert (disc(118, 126)[rows, columns] > 0).mean() >= 0.9


@pytest.mark.parametrize("foreign", [False, True])
def test_the_fast_one_sees_fewer_pixels_and_answers_on_the_same(foreign):
    full, fast = create("fob-lite", "cpu"), create("fob-lite-fast", "cpu")
    assert fast.name == "fob-lite-fast"
    assert fast.weights == full.weights
    images, masks = slices_with_disc([(110, 120), (118, 126)]), [disc(110, 120), disc(60, 60)]
    for generator in (full, fast):
        support, query = generator.encode(images)
        found = generator.propose(query, [Remembered(support, masks[0])], foreign=foreign)
        carried = generator.carry(query, support, masks, foreign=foreign)
        assert [one.shape for one in (found.probability, *carried)] == 3 * [(256, 256)]
        assert dice(found.probability >= 0.5, disc(118, 126) > 0) > 0.85
        assert dice(carried[0], disc(118, 126) > 0) > 0.8
        cells = support.place.shape[-1]
        assert cells == (64 if generator is full else 56)


@pytest.mark.parametrize("name", ["fob-lite", "fob-lite-fast"])
def test_a_structure_that_fills_the_slice_has_no_background(name):
    generator = create(name, "cpu")
    (features,) = generator.encode(slices_with_disc([(128, 128)]))
    proposal = generator.propose(features, [Remembered(features, np.ones((256, 256), np.float32))])
    assert proposal.prompts.background.shape == (0, 2)
    assert (proposal.probability >= 0.5).mean() > 0.95


def drawn(*, foreign: bool) -> Episode:
    """An episode in which a disc moves through four slices."""
    centres = [(110, 120), (114, 122), (118, 126), (120, 130)]
    masks = np.stack([disc(*centre) for centre in centres])[None, None] > 0
    images = torch.from_numpy(slices_with_disc(centres)).half()[None]
    flag = torch.tensor(foreign)
    return Episode(
        images,
        torch.from_numpy(masks),
        torch.tensor([False]),
        images[:, 0],
        flag,
        torch.tensor(False),
    )


def test_every_trained_tensor_receives_gradient():
    # With some seeds the bias of the keys (a ReLU, as in the paper) starts out switched off.
    torch.manual_seed(3)
    model = FobLite().train()
    # The offsets start at zero: what feeds them learns from the second step on.
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    moved: set[str] = set()
    for foreign in (False, True, False):
        optimiser.zero_grad()
        losses = LiteRecipe().losses(model, drawn(foreign=foreign))
        torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
        optimiser.step()
        moved |= {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert all(name.startswith("encoder.") for name in frozen)


def test_untrained_refinement_leaves_points_where_they_are():
    torch.manual_seed(0)
    refine = Refinement(16, 10)
    points = torch.rand(2, 10, 2) * 0.8 + 0.1
    moved = refine(torch.randn(2, 16, 64, 64), points, torch.randn(2, 10, 16))
    assert (moved - points).abs().max() < 0.5 / 64
    assert REFINEMENTS == 3


def test_soft_argmax_is_exact_below_a_cell():
    x, y = 0.4321, 0.6543
    centre = (torch.arange(64) + 0.5) / 64
    square = (centre[None] - x) ** 2 + (centre[:, None] - y) ** 2
    heat = -square * 64**2 / 2
    found = soft_argmax(heat[None, None])[0, 0]
    assert (found - torch.tensor([x, y])).abs().max() < 0.1 / 64


def test_where_a_contour_starts_does_not_matter_to_the_loss():
    ring = torch.rand(3, 10, 2)
    torch.testing.assert_close(nearest_order(ring, ring.roll(4, 1)), ring)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("fob-light", "bad_request", "Did you mean 'fob-lite'?"),
        ("fob-lite:nowhere.safetensors", "weights_missing", "nowhere.safetensors"),
        ("fob-paper", "weights_missing", "fob-paper:FILE"),
    ],
)
def test_generators_that_cannot_be(name, code, words):
    with pytest.raises(FoBSAMError, match=words.replace("?", r"\?")) as caught:
        create(name, "cpu")
    assert caught.value.code == code


def test_weights_cut_short_or_of_another_model(tmp_path):
    from FoBSAMLib.models.paths import resource

    whole = resource("weights/fob-lite.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FoBSAMError, match=r"cut\.safetensors") as caught:
        create(f"fob-lite:{cut}", "cpu")
    assert caught.value.code == "weights_corrupt"
    other = tmp_path / "other.pt"
    torch.save({"layer.weight": torch.zeros(3)}, other)
    with pytest.raises(FoBSAMError, match="missing") as caught:
        create(f"fob-lite:{other}", "cpu")
    assert caught.value.code == "weights_corrupt"
