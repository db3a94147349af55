"""SAM-Med2D (Cheng et al. 2023): SAM's ViT-B for 256×256 pixels, adapted to medical images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.checkpoints import load_into
from FoBSAMLib.models.device import fast_dtype
from FoBSAMLib.segmenters import sam_family
from FoBSAMLib.segmenters.sam import SamEmbedding, SamSegmenter  # before segment_anything

from segment_anything.modeling import (  # isort: skip
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

_SIZE, _PATCH, _FEATURES = 256, 16, 256


class Adapter(nn.Module):
    """Beside the MLP of a block: what the adapted model adds to SAM's own; names as in its file."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.channel = nn.Sequential(
            nn.Linear(channels, channels // 4, bias=False),
            nn.ReLU(),
            nn.Linear(channels // 4, channels, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, normed: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Float32 [B, H, W, C] of the block's second norm; ``given`` is the same in the precision
        of the products."""
        gated = self.channel(given.mean(dim=(1, 2), keepdim=True)) * given
        spatial = self.spatial(gated.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(normed + spatial)


def build(depth: int = 12, channels: int = 768, heads: int = 12) -> Sam:
    """The model with random weights; the default is the published ViT-B. Blocks attend to all
    tokens in every third."""
    encoder = ImageEncoderViT(
        depth=depth,
        embed_dim=channels,
        img_size=_SIZE,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=heads,
        patch_size=_PATCH,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=range(2, depth, 3),
        window_size=14,
        out_chans=_FEATURES,
    )
    for block in encoder.blocks:
        block.Adapter = Adapter(channels)  # as the file has it
    side = _SIZE // _PATCH
    return Sam(
        encoder,
        PromptEncoder(_FEATURES, (side, side), (_SIZE, _SIZE), mask_in_chans=16),
        MaskDecoder(
            transformer_dim=_FEATURES,
            transformer=TwoWayTransformer(2, _FEATURES, num_heads=8, mlp_dim=2048),
        ),
    )


class SamMed2DSegmenter(SamSegmenter):
    """SAM-Med2D: of its three masks the one of which it is surest, as its own predictor does.

    No published checksum is known and the file has no address of its own: it is given or imported.
    """

    @classmethod
    def from_checkpoint(  # type: ignore[override]  # there is one architecture
        cls, path: str | Path, device: torch.device | str = "cpu", sha256: str | None = None
    ) -> SamMed2DSegmenter:
        """Read a checkpoint, whose entry ``model`` holds the weights.

        Raises ``FoBSAMError``: ``weights_missing``, or ``weights_corrupt`` when the file is
        damaged, does not fit, or has another checksum than ``sha256``.
        """
        content, found = sam_family.load_published(path, sha256)
        state_dict = content.get("model")
        if not isinstance(state_dict, dict):
            raise FoBSAMError(
                "weights_corrupt",
                f"The weights file {path} has no entry 'model'.",
                "Check that it is SAM-Med2D's.",
            )
        model = build()
        load_into(model, state_dict, path)
        return cls(model, device, "sam-med2d", found, fast_dtype(device))

    def _normalised(self, images: list[np.ndarray]) -> torch.Tensor:
        """Normalised at the slices' own size, then the nearest pixels of a square."""
        pixels = sam_family.stack(images, None, self._device)
        model = self._model
        normed = (pixels - model.pixel_mean) / model.pixel_std
        return F.interpolate(normed, (_SIZE, _SIZE), mode="nearest")

    def _scaled(self, points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return points * (np.float32(_SIZE) / np.array(shape[::-1], np.float32))

    def _chosen(self, embedding: SamEmbedding, quality: torch.Tensor) -> int:
        return int(quality[0].argmax())

    def _on_slice(self, logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        for size in ((_SIZE, _SIZE), shape):
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return logits
