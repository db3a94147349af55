"""fob-lite: the ideas of FoB on a compact encoder, with a memory of annotated slices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from FoBSAMLib.generator.background import BackgroundHead, Located, gaussians
from FoBSAMLib.generator.decoder import Decoder
from FoBSAMLib.generator.encoder import Encoder, Pyramid
from FoBSAMLib.generator.matching import Reading, read_anywhere, read_nearby

SIZE = 256
GRID = 64
WIDTH = 96
#: Half the matching window in cells (24 pixels of 256), inside one volume.
RADIUS = 6


class Features(NamedTuple):
    """A batch of encoded slices: ``key`` [n, 96, 64, 64] of unit length for matching, ``context``
    [n, 96, 64, 64] for the heads, ``fine`` [n, 16, 128, 128] for the mask's edge."""

    key: Tensor
    context: Tensor
    fine: Tensor

    def pick(self, index: int | slice | Tensor) -> Features:
        """Some of the batch."""
        return Features(self.key[index], self.context[index], self.fine[index])


class Memory(NamedTuple):
    """Slices with their masks that queries are matched against: n queries, t slices each.

    ``key`` [n, t, 96, 64, 64]; ``mask`` [n, t, 1, 256, 256], the structure's coverage.
    """

    key: Tensor
    mask: Tensor


class Proposal(NamedTuple):
    """What fob-lite says of n queries: mask logits [n, 1, 256, 256] and what led there."""

    logits: Tensor
    reading: Reading
    located: Located


def prompt_maps(background: Tensor, foreground: Tensor) -> Tensor:
    """Point prompts (normalised, [n, p, 2] each; p may be 0) as the decoder's maps [n, 2, h, w]."""
    maps = []
    for points in (background, foreground):
        if points.shape[1]:
            maps.append(gaussians(points, GRID, 1.0).amax(1))
        else:
            maps.append(points.new_zeros(len(points), GRID, GRID))
    return torch.stack(maps, 1)


class FobLite(nn.Module):
    """Encoder, matching, background points and dense head; 1.54 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        channels = (24, 40, 112)
        self.key = nn.Conv2d(sum(channels), WIDTH, 1, bias=False)
        nn.init.orthogonal_(self.key.weight.data.view(WIDTH, -1))
        self.laterals = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels)
        self.smooth = nn.Sequential(
            nn.GroupNorm(8, WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        )
        self.sharpness = nn.Parameter(torch.tensor(40.0).log())
        self.locality = nn.Parameter(torch.tensor(0.08).log())
        self.background = BackgroundHead(WIDTH, GRID)
        self.decoder = Decoder(WIDTH)

    def encode(self, slices: Tensor) -> Features:
        """Encode z-scored slices, float32 [n, 1, 256, 256]; each independent of the others."""
        pyramid: Pyramid = self.encoder(slices)
        levels = [
            F.interpolate(level, (GRID, GRID), mode="bilinear", align_corners=False)
            for level in (pyramid.stride4, pyramid.stride8, pyramid.stride16)
        ]
        # Each level counts alike, whatever the size of its activations.
        alike = torch.cat([F.normalize(level, dim=1) for level in levels], 1)
        key = F.normalize(self.key(alike), dim=1)
        context = self.smooth(sum(f(x) for f, x in zip(self.laterals, levels, strict=True)))
        return Features(key, context, pyramid.stride2)

    def match(self, query: Features, memory: Memory, *, anywhere: bool = False) -> Reading:
        """Carry the remembered masks over to the queries; 16 values a cell, its 4×4 pixels.

        ``anywhere`` matches the whole slice (another patient), else a window round each place.
        """
        values = F.pixel_unshuffle(memory.mask.flatten(0, 1), SIZE // GRID)
        values = values.unflatten(0, memory.key.shape[:2])
        sharpness = self.sharpness.exp()
        if anywhere:
            return read_anywhere(query.key, memory.key, values, sharpness)
        locality = self.locality.exp()
        return read_nearby(query.key, memory.key, values, sharpness, locality, RADIUS)

    def locate(
        self, query: Features, support: Features, mask: Tensor, ring: Tensor, prior: Tensor
    ) -> Located:
        """Background points in the queries; arguments as in `BackgroundHead`, but ``mask`` is
        [n, 1, 256, 256]."""
        coverage = F.avg_pool2d(mask, SIZE // GRID)
        return self.background(query.context, support.context, coverage, ring, prior)

    def decode(self, query: Features, reading: Reading, similarity: Tensor, maps: Tensor) -> Tensor:
        """Mask logits [n, 1, 256, 256]."""
        return self.decoder(query.context, query.fine, reading, similarity, maps)
