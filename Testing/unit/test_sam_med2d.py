"""SAM-Med2D, small and with random weights, against the plain way to compute it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.windows import to_uint8_rgb
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry

ensure_torchvision()
pytest.importorskip("segment_anything")

from FoBSAMLib.segmenters import sam_med2d  # noqa: E402

PROMPTS = Prompts(
    background=np.array([[10.0, 12.0], [120.0, 20.0]], np.float32),
    foreground=np.array([[60.0, 40.0], [70.0, 50.0], [65.0, 45.0]], np.float32),
)
small = partial(sam_med2d.build, depth=3, channels=32, heads=2)


@pytest.fixture
def model():
    torch.manual_seed(3)
    model = small()
    for name, parameter in model.image_encoder.named_parameters():
        if "pos" in name:  # zero at first
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def checkpoint(tmp_path, model, monkeypatch):
    monkeypatch.setattr(sam_med2d, "build", small)
    monkeypatch.setattr(sam_med2d, "fast_dtype", lambda device: torch.float32)
    path = tmp_path / "sam-med2d_b.pth"
    torch.save({"model": model.state_dict(), "epoch": 3}, path)
    return path


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(96, 140)).astype(np.float32)


def adapted(adapter, normed: torch.Tensor) -> torch.Tensor:
    weights = adapter.state_dict()
    gate = F.relu(normed.mean(dim=(1, 2)) @ weights["channel.0.weight"].T)
    gate = torch.sigmoid(gate @ weights["channel.2.weight"].T)
    y = (normed * gate[:, None, None]).permute(0, 3, 1, 2)
    y = F.relu(F.conv2d(y, weights["spatial.0.weight"], stride=2, padding=1))
    y = F.relu(F.conv_transpose2d(y, weights["spatial.2.weight"], stride=2, padding=1))
    sum_ = normed + y.permute(0, 2, 3, 1)
    return F.layer_norm(sum_, sum_.shape[-1:], weights["norm.weight"], weights["norm.bias"], 1e-5)


@torch.no_grad()
def reference(model, image: np.ndarray) -> np.ndarray:
    """Probabilities, with segment_anything's blocks and what adapters add to them."""
    mean, std = (
        np.array(v, np.float32) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    )
    normed = (to_uint8_rgb(image) - mean) / std
    rows, columns = (np.arange(256) * n // 256 for n in image.shape[:2])
    pixels = torch.from_numpy(normed[rows][:, columns].transpose(2, 0, 1).copy())[None]
    vit = model.image_encoder
    tokens = vit.patch_embed(pixels) + vit.pos_embed
    for block in vit.blocks:
        mlp, block.mlp = block.mlp, torch.nn.Identity()
        kept = []
        hook = block.norm2.register_forward_hook(lambda *_, kept=kept: kept.append(_[2]))
        tokens = block(tokens) - kept[0]  # so far without the MLP
        hook.remove()
        block.mlp = mlp
        tokens = tokens + mlp(kept[0]) + adapted(block.Adapter, kept[0])
    points = np.concatenate([PROMPTS.foreground, PROMPTS.background])
    points = points * (256 / np.array(image.shape[1::-1]))
    given = torch.tensor(points, dtype=torch.float32)[None], torch.tensor([[1, 1, 1, 0, 0]])
    sparse, dense = model.prompt_encoder(given, None, None)
    features = vit.neck(tokens.permute(0, 3, 1, 2))
    place = model.prompt_encoder.get_dense_pe()
    logits, quality = model.mask_decoder(features, place, sparse, dense, True)
    assert logits.shape[-2:] == (64, 64)
    for size in ((256, 256), image.shape[:2]):
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return torch.sigmoid(logits[0, quality[0].argmax()]).numpy()


@pytest.mark.parametrize("colour", [False, True])
def test_a_checkpoint_gives_the_masks_of_the_plain_way(checkpoint, model, image, colour):
    if colour:
        image = np.random.default_rng(1).integers(0, 256, (80, 130, 3)).astype(np.uint8)
    segmenter = registry.create(f"sam-med2d:{checkpoint}", "cpu")
    assert (segmenter.name, segmenter.precision) == ("sam-med2d", "float32")
    probability = segmenter.segment(segmenter.embed(image), PROMPTS)
    assert (probability.dtype, probability.shape) == (np.float32, image.shape[:2])
    np.testing.assert_allclose(probability, reference(model, image), rtol=0, atol=1e-5)


def test_no_foreground_point_is_an_empty_mask(checkpoint, image):
    segmenter = registry.create(f"sam-med2d:{checkpoint}", "cpu")
    assert not segmenter.segment(segmenter.embed(image), Prompts(PROMPTS.background)).any()


def test_the_names_in_the_file(model):
    names = {n.split("Adapter.")[1] for n in model.state_dict() if ".blocks.2.Adapter." in n}
    layers = ("channel.0", "channel.2", "spatial.0", "spatial.2", "norm")
    assert names == {f"{layer}.weight" for layer in layers} | {"norm.bias"}


def test_the_published_size():
    with torch.device("meta"):
        vit = sam_med2d.build().image_encoder
    assert vit.pos_embed.shape == (1, 16, 16, 768)
    windows = [block.window_size for block in vit.blocks]
    assert windows == [14, 14, 0] * 4
    assert vit.blocks[2].attn.rel_pos_h.shape == (31, 64)
    assert vit.blocks[1].Adapter.channel[0].weight.shape == (192, 768)


@pytest.mark.parametrize("content", ["bare", "renamed", "without adapters"])
def test_another_file_is_refused(tmp_path, checkpoint, model, content):
    state = model.state_dict()
    if content == "renamed":
        state["image_encoder.blocks.0.adapter.norm.bias"] = state.pop(
            "image_encoder.blocks.0.Adapter.norm.bias"
        )
    elif content == "without adapters":
        state = {name: value for name, value in state.items() if "Adapter" not in name}
    path = tmp_path / "other.pth"
    torch.save(state if content == "bare" else {"model": state}, path)
    with pytest.raises(FoBSAMError, match=r"other\.pth.*(Adapter|'model')") as caught:
        registry.create(f"sam-med2d:{path}", "cpu")
    assert caught.value.code == "weights_corrupt"


def test_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path))
    with pytest.raises(FoBSAMError, match=r"its authors.*sam-med2d:FILE") as caught:
        registry.create("sam-med2d", "cpu")
    assert caught.value.code == "weights_missing"
