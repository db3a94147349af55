"""SAM's image encoder, computed faster from the same weights.

Against `ImageEncoderViT.forward` of segment_anything: slices in batches, the matrix products in
the precision that is fastest on the device while sums, norms and the residual stream stay in
float32, and fused attention to which the decomposed relative positions are an additive bias.

There is no torch.compile: within one volume it does not earn what compiling costs. `fobsam bench
sam --compile` tells after how many slices it would.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

#: Most bytes of a layer's bias at once; more queries are taken in turns. All 4096 tokens of a
#: ViT-H slice together would have 1.1 GB in float32.
BIAS_BYTES = 256 << 20


class SamEncoder(nn.Module):
    """An ``ImageEncoderViT``, which it takes over where it lies: on its device, with the weights of
    its products changed to ``dtype``."""

    def __init__(self, vit: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.vit = vit
        self.dtype = dtype
        for module in vit.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                module.to(dtype)
        side = vit.img_size // vit.patch_embed.proj.kernel_size[0]
        for block in vit.blocks:
            block.attn.tables = _tables(block.attn, block.window_size or side, dtype)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised slices, float32 [B, 3, S, S] → features [B, C, h, w] in ``dtype``."""
        vit: Any = self.vit
        tokens = vit.patch_embed(pixels.to(self.dtype)).float()
        if vit.pos_embed is not None:
            tokens = tokens + vit.pos_embed
        for block in vit.blocks:
            tokens = self._block(block, tokens)
        maps = tokens.permute(0, 3, 1, 2)
        first, first_norm, second, second_norm = vit.neck
        maps = first_norm(first(maps.to(self.dtype)).float())
        return second_norm(second(maps.to(self.dtype)).float()).to(self.dtype)

    def _block(self, block: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Float32 [B, H, W, C] → the same."""
        normed = block.norm1(tokens).to(self.dtype)
        tokens = tokens + _attended(block.attn, normed, block.window_size)
        normed = block.norm2(tokens)
        given = normed.to(self.dtype)
        tokens = tokens + block.mlp(given)
        if hasattr(block, "Adapter"):  # SAM-Med2D
            tokens = tokens + block.Adapter(normed, given)
        return tokens


def _tables(attention: Any, side: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """By a query's and a key's row, and by their columns, what the query is multiplied by:
    [side, side, C] each."""
    places = torch.arange(side, device=attention.rel_pos_h.device)
    between = places[:, None] - places[None, :] + side - 1
    rows, columns = (
        table.detach()[between].to(dtype) for table in (attention.rel_pos_h, attention.rel_pos_w)
    )
    return rows, columns


def _attended(attention: Any, tokens: torch.Tensor, window: int) -> torch.Tensor:
    """Attention within windows of ``window`` tokens' side, 0 for all: [B, H, W, C]."""
    if not window:
        return _attention(attention, tokens)
    batch, height, width, channels = tokens.shape
    down, across = -height % window, -width % window
    padded = F.pad(tokens, (0, 0, 0, across, 0, down))
    rows, columns = (height + down) // window, (width + across) // window
    windows = padded.view(batch, rows, window, columns, window, channels).transpose(2, 3)
    done = _attention(attention, windows.reshape(-1, window, window, channels))
    done = done.view(batch, rows, columns, window, window, channels).transpose(2, 3)
    return done.reshape(padded.shape)[:, :height, :width]


def _attention(attention: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Attention among all tokens of each [H, W] of [B, H, W, C], with relative positions."""
    batch, height, width, channels = tokens.shape
    count, heads = height * width, attention.num_heads
    query, key, value = (
        attention.qkv(tokens).view(batch, count, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
    )
    rows, columns = attention.tables
    grid = query.reshape(batch, heads, height, width, -1)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", grid, rows)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", grid, columns)
    step = max(1, BIAS_BYTES // (batch * heads * width * count * tokens.element_size()))
    parts = []
    for start in range(0, height, step):  # rows of queries
        part = slice(start, start + step)
        bias = by_row[:, :, part, :, :, None] + by_column[:, :, part, :, None, :]
        parts.append(
            F.scaled_dot_product_attention(
                grid[:, :, part].flatten(2, 3), key, value, bias.flatten(4).flatten(2, 3)
            )
        )
    done = torch.cat(parts, dim=2).transpose(1, 2)
    return attention.proj(done.reshape(batch, height, width, channels))
