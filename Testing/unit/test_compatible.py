"""The paper's network: names and shapes of its weights, and its points, held to a reference."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import fob_reference as reference
import numpy as np
import pytest
import torch
from scipy import ndimage

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.compatible import CompatibleFoB, Features
from FoBSAMLib.generator.paper_encoder import WinogradConv

SHAPES = json.loads((Path(__file__).parents[1] / "data" / "fob_state_dict.json").read_text())
LOSS_BUFFER = "nllloss.weight"
SILENT = 3  # the background point whose heat map the test's weights keep below zero


def random_weights(seed: int) -> dict[str, torch.Tensor]:
    """A released-looking state dict whose activations stay of ordinary size."""
    rng = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in SHAPES.items():
        value = torch.randn(shape, generator=rng)
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(0)
        elif name.endswith("running_var"):
            value = 1 + 0.2 * value.abs()
        elif name == "refine.gcn.alpha":
            value = torch.tensor(0.3)
        elif name.endswith("learnable_pos"):
            value = 0.3 * value
        elif value.ndim >= 2:
            value = value * math.sqrt(1.5 / math.prod(shape[1:]))
        elif name.endswith("bias") or name.endswith("running_mean"):
            value = 0.1 * value
        else:  # the scale of a normalisation; small where a residual branch ends
            value = (0.3 if "bn3" in name else 1.0) + 0.1 * value
        weights[name] = value
    weights["head.head.3.bias"][SILENT] = -1e3
    return weights


def draw(*discs: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:256, :256]
    return np.any([(x - cx) ** 2 + (y - cy) ** 2 <= r * r for cx, cy, r in discs], axis=0)


def picture(seed: int) -> np.ndarray:
    """A slice with regions of different brightness and texture, z-scored."""
    rng = np.random.default_rng(seed)
    regions = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 18)
    texture = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 1.5)
    image = np.digitize(regions, np.quantile(regions, (0.3, 0.6, 0.85))) + 2 * texture
    return ((image - image.mean()) / image.std()).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(11)


@pytest.fixture(scope="module")
def model(weights: dict[str, torch.Tensor]) -> CompatibleFoB:
    model = CompatibleFoB()
    model.load_state_dict(weights)
    return model


@pytest.fixture(scope="module")
def slices() -> np.ndarray:
    return np.stack([picture(1), picture(2)])


@pytest.fixture(scope="module")
def features(model: CompatibleFoB, slices: np.ndarray) -> Features:
    return model.encode(slices)


@pytest.fixture(scope="module")
def encoded(weights: dict[str, torch.Tensor], slices: np.ndarray) -> list:
    """The same slices, encoded by the reference."""
    return [reference.encode(weights, image) for image in slices]


def threshold_for(support: torch.Tensor, mask: np.ndarray, query: torch.Tensor, share: float):
    """A threshold that puts about ``share`` of the query above the foreground probability.

    Of several the one that leaves most room between that probability and any pixel's, so that
    rounding does not decide.
    """
    cosine = reference.foreground_cosine(support, mask, query)
    middle = float(torch.quantile(-20 * cosine, share)) + 2 * math.log(0.96 / 0.04)

    def room(threshold: float) -> float:
        probability = reference.foreground_probability(cosine, threshold)
        return float(np.abs(probability - 0.96).min())

    return max(np.linspace(middle, middle + 0.1, 20).tolist(), key=room)


def test_names_shapes_and_size_are_those_of_the_released_weights(model: CompatibleFoB) -> None:
    expected = {name: tuple(shape) for name, shape in SHAPES.items() if name != LOSS_BUFFER}
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == 54_554_688
    assert not model.training


def test_the_encoder_is_the_reference_one(features: Features, encoded: list) -> None:
    assert features.maps.shape == (2, 512, 64, 64)
    for index, (expected, threshold) in enumerate(encoded):
        scale = expected.std()
        assert (features.maps[index] - expected).abs().max() < 1e-3 * scale
        assert features.thresholds[index].item() == pytest.approx(threshold, rel=1e-3, abs=1e-4)


MASKS = {
    "central": draw((128, 120, 30)),
    "at the border": draw((250, 90, 35)),
    "two parts": draw((60, 80, 20), (180, 150, 32)),
    "one pixel": draw((77, 140, 0)),
    "full": np.ones((256, 256), bool),
}


@pytest.mark.parametrize(
    ("name", "share", "foreground_count"),
    [
        ("central", 0.02, 10),
        ("at the border", 0.3, 10),
        ("two parts", None, 1),
        ("one pixel", 0.0003, None),
        ("full", 0.02, 10),
    ],
)
def test_points_are_those_of_the_reference(
    name: str,
    share: float | None,
    foreground_count: int | None,
    model: CompatibleFoB,
    features: Features,
    weights: dict,
) -> None:
    mask, (support, query) = MASKS[name], features.maps
    threshold = -40.0 if share is None else threshold_for(support, mask, query, share)
    background, foreground = reference.prompts(weights, (support, 0.0), mask, (query, threshold))
    (found,) = model.propose(
        features[:1], mask, Features(features.maps[1:], torch.tensor([threshold]))
    )
    assert found.background.dtype == found.foreground.dtype == np.float32
    assert found.background.shape == (10, 2)
    np.testing.assert_allclose(found.background, background, atol=0.5)
    np.testing.assert_allclose(found.foreground, foreground, atol=0.5)
    # The case is a real one: the points differ, and one heat map is nowhere positive.
    assert len(np.unique(found.background, axis=0)) >= 4
    assert found.background[SILENT].tolist() == [0, 0]
    if foreground_count is None:
        assert 1 < len(found.foreground) < 10
    else:
        assert len(found.foreground) == foreground_count


def test_refined_points_are_those_of_the_reference(
    model: CompatibleFoB, features: Features, encoded: list, weights: dict
) -> None:
    mask = MASKS["two parts"]
    expected, _ = reference.prompts(weights, encoded[0], mask, encoded[1], refine=True)
    (refined,) = model.propose(features[:1], mask, features[1:], refine=True)
    (plain,) = model.propose(features[:1], mask, features[1:])
    np.testing.assert_allclose(refined.background, expected, atol=0.5)
    np.testing.assert_array_equal(refined.foreground, plain.foreground)
    moved = np.abs(refined.background - plain.background).max(1)
    assert (moved > 1).sum() > 5
    # The prototypes are of the sorted points, the points are not sorted: a real difference here.
    ordered = reference.sorted_about_leftmost([tuple(point) for point in plain.background])
    assert ordered != [tuple(point) for point in plain.background]


def test_a_slice_gives_the_same_prompts_alone_and_in_company(
    model: CompatibleFoB, slices: np.ndarray, features: Features
) -> None:
    mask = MASKS["central"]
    alone = model.prompts(slices[1], mask, slices[0])
    together = model.propose(features[1:], mask, features)
    assert len(together) == 2
    np.testing.assert_array_equal(together[0].background, alone.background)
    np.testing.assert_array_equal(together[0].foreground, alone.foreground)
    assert not np.array_equal(together[0].background, together[1].background)


def test_checkpoints_are_read_strictly_and_the_loss_buffer_is_ignored(
    tmp_path: Path, weights: dict
) -> None:
    path = tmp_path / "ckpt.pth"
    torch.save(weights, path)
    loaded = CompatibleFoB.from_checkpoint(path).state_dict()
    assert LOSS_BUFFER not in loaded
    assert all(torch.equal(value, weights[name]) for name, value in loaded.items())

    wrong = {name: value for name, value in weights.items() if name != "head.head.0.bias"}
    torch.save(wrong | {"extra": torch.zeros(1)}, path)
    with pytest.raises(FoBSAMError, match=r"head\.head\.0\.bias") as caught:
        CompatibleFoB.from_checkpoint(path)
    assert caught.value.code == "weights_corrupt"


def test_loading_a_state_dict_leaves_the_callers_as_it_was(model: CompatibleFoB) -> None:
    given = model.state_dict() | {LOSS_BUFFER: torch.ones(2)}
    assert not any(model.load_state_dict(given))
    assert LOSS_BUFFER in given
    with pytest.raises(RuntimeError, match="unwanted"):
        model.load_state_dict(given | {"unwanted": torch.ones(1)})


@pytest.mark.parametrize(
    ("support", "mask", "query", "code"),
    [
        (np.zeros((128, 128)), MASKS["central"], np.zeros((256, 256)), "bad_geometry"),
        (np.zeros((256, 256)), np.ones((64, 64)), np.zeros((256, 256)), "bad_geometry"),
        (np.zeros((256, 256)), MASKS["central"], np.zeros((2, 256, 256)), "bad_geometry"),
        (np.full((256, 256), np.nan), MASKS["central"], np.zeros((256, 256)), "bad_request"),
        (np.zeros((256, 256)), np.zeros((256, 256)), np.zeros((256, 256)), "bad_request"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    support: np.ndarray, mask: np.ndarray, query: np.ndarray, code: str, model: CompatibleFoB
) -> None:
    with pytest.raises(FoBSAMError) as caught:
        model.prompts(support, mask, query)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_two_support_slices_are_refused(model: CompatibleFoB, features: Features) -> None:
    with pytest.raises(FoBSAMError, match="one support slice, not 2"):
        model.propose(features, MASKS["central"], features)


def test_made_fast_it_finds_the_same_points(
    model: CompatibleFoB, slices: np.ndarray, features: Features
) -> None:
    fast = copy.deepcopy(model)
    fast.speed_up()
    fast.speed_up()  # a second time changes nothing
    encoded = fast.encode(slices)
    scale = features.maps.std()
    assert 0 < (encoded.maps - features.maps).abs().max() < 1e-3 * scale
    torch.testing.assert_close(encoded.thresholds, features.thresholds, rtol=1e-3, atol=1e-4)
    mask = MASKS["central"]
    for found, plain in zip(
        fast.propose(encoded[:1], mask, encoded),
        model.propose(features[:1], mask, features),
        strict=True,
    ):
        np.testing.assert_allclose(found.background, plain.background, atol=0.5)
        np.testing.assert_allclose(found.foreground, plain.foreground, atol=0.5)


@pytest.mark.parametrize(("side", "dilation"), [(8, 1), (24, 2), (64, 4)])
def test_winograds_convolution_is_a_convolution(side: int, dilation: int) -> None:
    torch.manual_seed(dilation)
    conv = torch.nn.Conv2d(5, 7, 3, padding=dilation, dilation=dilation).requires_grad_(False)
    maps = torch.randn(2, 5, side, side)
    torch.testing.assert_close(WinogradConv(conv)(maps), conv(maps), rtol=1e-3, atol=1e-4)


def test_queries_computed_together_give_what_each_gives_alone(
    model: CompatibleFoB, features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = MASKS["two parts"]
    alone = model.propose(features[:1], mask, features)
    monkeypatch.setattr(model, "together", 8)
    together = model.propose(features[:1], mask, features)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.background, other.background)
        np.testing.assert_array_equal(one.foreground, other.foreground)
