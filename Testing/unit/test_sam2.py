"""SAM 2.1 tiny with random weights, under the names of the file that its authors publish."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry

ensure_torchvision()
pytest.importorskip("transformers")

from FoBSAMLib.segmenters import sam2  # noqa: E402

PROMPTS = Prompts(
    background=np.array([[10.0, 12.0], [120.0, 20.0]], np.float32),
    foreground=np.array([[60.0, 40.0], [70.0, 50.0], [65.0, 45.0]], np.float32),
)
POSITION = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
#: From the names of transformers to the published ones: the way back from `sam2.renamed`, written
#: out for the parts whose names differ by more than a word.
BACK = (
    ("vision_encoder.backbone.", "image_encoder.trunk."),
    (r"vision_encoder.neck.convs.(\d)", r"image_encoder.neck.convs.\1.conv"),
    ("no_memory_embedding", "no_mem_embed"),
    (
        "shared_image_embedding.pos.*",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    ("mask_embed.conv1", "mask_downscaling.0"),
    ("mask_embed.layer_norm1", "mask_downscaling.1"),
    ("mask_embed.conv2", "mask_downscaling.3"),
    ("mask_embed.layer_norm2", "mask_downscaling.4"),
    ("mask_embed.conv3", "mask_downscaling.6"),
    ("upscale_conv1", "output_upscaling.0"),
    ("upscale_layer_norm", "output_upscaling.1"),
    ("upscale_conv2", "output_upscaling.3"),
    (r"(head|mlps\.\d)\.layers\.0", r"\1.layers.1"),
    (r"(head|mlps\.\d)\.proj_out", r"\1.layers.2"),
    (r"proj_in", "layers.0"),
    (r"mlp\.proj_out", "mlp.layers.1"),
    ("patch_embed.projection", "patch_embed.proj"),
    ("layer_norm_final", "norm_final"),
    (r"layer_norm(\d)", r"norm\1"),
    ("o_proj", "out_proj"),
    ("^(prompt_encoder|mask_decoder)", r"sam_\1"),
)


def published(model) -> dict[str, torch.Tensor]:
    """The model's weights by the published names, with some that only videos need."""
    state = {
        "maskmem_tpos_enc": torch.zeros(7, 1, 1, 64),
        "memory_attention.norm.bias": torch.zeros(2),
    }
    for name, value in model.state_dict().items():
        if name == "prompt_encoder.shared_embedding.positional_embedding":
            continue
        if name == "prompt_encoder.point_embed.weight":
            for number, row in enumerate(value.split(1)):
                state[f"sam_prompt_encoder.point_embeddings.{number}.weight"] = row.clone()
            continue
        for pattern, replacement in BACK:
            name = re.sub(pattern, replacement, name)
        state[name] = value
    return state


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = sam2.Sam2Model(sam2.Sam2Config()).eval()
    shared = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.data.copy_(shared)
    return model


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": published(model)}, path)
    return path


def test_the_published_names(model):
    names = published(model)
    for name in (
        "image_encoder.trunk.blocks.3.attn.qkv.weight",
        "image_encoder.trunk.blocks.0.mlp.layers.1.bias",
        "image_encoder.neck.convs.0.conv.weight",
        "sam_prompt_encoder.no_mask_embed.weight",
        "sam_mask_decoder.transformer.layers.1.self_attn.out_proj.bias",
        "sam_mask_decoder.transformer.layers.0.mlp.layers.1.bias",
        "sam_mask_decoder.transformer.norm_final_attn.weight",
        "sam_mask_decoder.output_hypernetworks_mlps.3.layers.1.weight",
        "sam_mask_decoder.pred_obj_score_head.layers.2.bias",
        "sam_mask_decoder.obj_score_token.weight",
    ):
        assert name in names
    assert set(sam2.renamed(names)) == set(model.state_dict())


def test_a_checkpoint_gives_the_masks_of_the_model(checkpoint, model):
    image = np.random.default_rng(0).normal(size=(96, 140)).astype(np.float32)
    segmenter = registry.create(f"sam2.1-tiny:{checkpoint}", "cpu")
    assert segmenter.name == "sam2.1-tiny"
    embedding = segmenter.embed(image)
    probability = segmenter.segment(embedding, PROMPTS)
    assert (probability.dtype, probability.shape) == (np.float32, image.shape)
    whole = sam2.Sam2Segmenter(model)
    expected = whole.segment(whole.embed(image), PROMPTS)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(probability, expected, rtol=0, atol=5e-3)
    size = 2 if segmenter.precision == "bfloat16" else 4
    assert embedding.nbytes == size * (256 * 64**2 + 64 * 128**2 + 32 * 256**2)
    assert not segmenter.segment(embedding, Prompts(PROMPTS.background)).any()


def test_another_file_is_refused(tmp_path, model):
    state = published(model)
    torch.save(state, tmp_path / "bare.pt")
    del state["sam_mask_decoder.conv_s0.bias"]
    torch.save({"model": state}, tmp_path / "less.pt")
    for file, said in (("bare.pt", "'model'"), ("less.pt", r"conv_s0\.bias missing")):
        with pytest.raises(FoBSAMError, match=said) as caught:
            registry.create(f"sam2.1-tiny:{tmp_path / file}", "cpu")
        assert caught.value.code == "weights_corrupt"
