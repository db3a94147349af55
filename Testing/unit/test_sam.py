"""The SAM segmenter, with a tiny random SAM of segment_anything's own classes."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.windows import to_uint8_rgb
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry

ensure_torchvision()
segment_anything = pytest.importorskip("segment_anything")

from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from FoBSAMLib.segmenters.sam import SamSegmenter  # noqa: E402

PROMPTS = Prompts(
    background=np.array([[10.0, 12.0], [120.0, 20.0]], np.float32),
    foreground=np.array([[60.0, 40.0], [70.0, 50.0], [65.0, 45.0]], np.float32),
)


def tiny_sam() -> Sam:
    size, patch, width = 256, 16, 32
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=64,
            img_size=size,
            mlp_ratio=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=patch,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[1],
            window_size=14,
            out_chans=width,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=width,
            image_embedding_size=(size // patch, size // patch),
            input_image_size=(size, size),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=64, num_heads=2),
            transformer_dim=width,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    for name, parameter in sam.image_encoder.named_parameters():
        if "pos" in name:  # zero at first
            torch.nn.init.normal_(parameter, std=0.2)
    return sam


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    """``vit_b`` is a tiny one in these tests, and no bfloat16 blurs comparisons."""
    monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", tiny_sam)
    monkeypatch.setattr("FoBSAMLib.segmenters.sam.fast_dtype", lambda device: torch.float32)


@pytest.fixture
def model() -> Sam:
    torch.manual_seed(1)
    return tiny_sam()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(96, 140)).astype(np.float32)


def reference(model: Sam, image: np.ndarray) -> np.ndarray:
    """The three masks' probabilities, by segment_anything alone."""
    predictor = segment_anything.SamPredictor(copy.deepcopy(model).eval())
    predictor.set_image(to_uint8_rgb(image))
    points = np.concatenate([PROMPTS.foreground, PROMPTS.background])
    logits, _, _ = predictor.predict(
        points, np.array([1, 1, 1, 0, 0]), multimask_output=True, return_logits=True
    )
    return 1 / (1 + np.exp(-logits))


def test_a_grey_slice_takes_the_first_mask(model, image):
    segmenter = SamSegmenter(model)
    probability = segmenter.segment(segmenter.embed(image), PROMPTS)
    assert probability.dtype == np.float32
    assert probability.shape == image.shape
    masks = reference(model, image)
    np.testing.assert_allclose(probability, masks[0], rtol=0, atol=1e-5)
    assert np.abs(masks[0] - masks[1]).max() > 0.01, "the masks can be told apart"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_photograph_takes_the_second_mask(model, dtype):
    photograph = np.random.default_rng(0).integers(0, 256, (80, 130, 3)).astype(dtype)
    segmenter = SamSegmenter(model)
    probability = segmenter.segment(segmenter.embed(photograph), PROMPTS)
    np.testing.assert_allclose(probability, reference(model, photograph)[1], rtol=0, atol=1e-5)


def test_embeddings_of_several_slices_do_not_mix(model, image):
    segmenter = SamSegmenter(model)
    other = np.random.default_rng(5).normal(size=(130, 60)).astype(np.float32)
    first, second = segmenter.embed(image), segmenter.embed(other)
    alone = segmenter.segment(first, PROMPTS)
    assert segmenter.segment(second, PROMPTS).shape == other.shape
    np.testing.assert_array_equal(segmenter.segment(first, PROMPTS), alone)
    fresh = SamSegmenter(model)
    np.testing.assert_array_equal(fresh.segment(fresh.embed(image), PROMPTS), alone)


def test_background_points_matter_and_points_outside_do_not(model, image):
    segmenter = SamSegmenter(model)
    embedding = segmenter.embed(image)
    with_both = segmenter.segment(embedding, PROMPTS)
    without = segmenter.segment(embedding, Prompts(foreground=PROMPTS.foreground))
    assert not np.array_equal(with_both, without)
    outside = np.array([[-5, 10], [140, 10], [20, 300], [np.nan, 3]])
    more = Prompts(np.concatenate([PROMPTS.background, outside]), PROMPTS.foreground)
    np.testing.assert_array_equal(segmenter.segment(embedding, more), with_both)


def test_no_foreground_point_is_an_empty_mask(model, image):
    segmenter = SamSegmenter(model)
    for prompts in (Prompts(), Prompts(background=PROMPTS.background)):
        probability = segmenter.segment(segmenter.embed(image), prompts)
        assert probability.shape == image.shape
        assert not probability.any()


def test_no_gradients_are_kept(model, image):
    assert not SamSegmenter(model).embed(image).features.requires_grad


def test_a_checkpoint_gives_the_same_masks(tmp_path, model, image):
    path = tmp_path / "mine.pth"
    torch.save(model.state_dict(), path)
    torch.manual_seed(2)
    segmenter = registry.create(f"sam-vit-b:{path}", "cpu")
    assert segmenter.name == "sam-vit-b"
    probability = segmenter.segment(segmenter.embed(image), PROMPTS)
    np.testing.assert_allclose(probability, reference(model, image)[0], rtol=0, atol=1e-5)


def test_the_published_file_is_taken_from_the_models_folder_and_compared(
    tmp_path, model, monkeypatch
):
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path))
    path = tmp_path / "models" / "sam_vit_b_01ec64.pth"
    path.parent.mkdir()
    torch.save(model.state_dict(), path)
    with pytest.raises(FoBSAMError, match="sha256") as caught:
        registry.create("sam-vit-b", "cpu")
    assert caught.value.code == "weights_corrupt"
    assert str(path) in caught.value.message
    own = SamSegmenter.from_checkpoint(path, "vit_b").weights_sha256
    assert own is not None
    assert SamSegmenter.from_checkpoint(path, "vit_b", sha256=own).weights_sha256 == own


def test_a_checkpoint_of_another_model(tmp_path, model):
    path = tmp_path / "other.pth"
    state = model.state_dict()
    state["image_encoder.pos_embed"] = torch.zeros(1, 8, 8, 64)
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, path)
    with pytest.raises(FoBSAMError, match=r"iou_token.*missing.*pos_embed") as caught:
        registry.create(f"sam-vit-b:{path}", "cpu")
    assert caught.value.code == "weights_corrupt"


def test_a_checkpoint_cut_short(tmp_path, model):
    path = tmp_path / "short.pth"
    torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(FoBSAMError, match=r"short\.pth") as caught:
        registry.create(f"sam-vit-b:{path}", "cpu")
    assert caught.value.code == "weights_corrupt"


def test_slices_encoded_together_are_those_encoded_alone(model, image):
    segmenter = SamSegmenter(model)
    images = [image, image[::-1].copy(), image[:, ::-1].copy()]
    for together, one in zip(segmenter.embed_all(images), images, strict=True):
        alone = segmenter.embed(one)
        torch.testing.assert_close(together.features, alone.features, rtol=0, atol=1e-5)
        assert together.nbytes == alone.nbytes == 32 * 16 * 16 * 4


def test_queries_taken_in_turns(model, image, monkeypatch):
    whole = SamSegmenter(model).embed(image).features
    monkeypatch.setattr("FoBSAMLib.segmenters.sam_encoder.BIAS_BYTES", 3 * 2 * 256 * 16 * 4)
    torch.testing.assert_close(SamSegmenter(model).embed(image).features, whole, rtol=0, atol=1e-5)


def test_half_precision_keeps_the_mask(model, image):
    masks = reference(model, image)
    segmenter = SamSegmenter(model, dtype=torch.bfloat16)
    assert segmenter.precision == "bfloat16"
    embedding = segmenter.embed(image)
    assert embedding.nbytes == 32 * 16 * 16 * 2
    np.testing.assert_allclose(segmenter.segment(embedding, PROMPTS), masks[0], rtol=0, atol=0.02)
