"""fob-lite: the ideas of FoB on a compact encoder, with a memory of annotated slices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from FoBSAMLib.generator.background import BackgroundHead, Located, cell_centres, gaussians
from FoBSAMLib.generator.decoder import Decoded, Decoder, Seen, joined
from FoBSAMLib.generator.encoder import Encoder, Pyramid
from FoBSAMLib.generator.matching import Reading, read_anywhere, read_nearby

SIZE = 256
GRID = 64
CELL = SIZE // GRID
WIDTH = 96
#: Values a cell of the memory holds beside its pixels of the mask.
NOTES = 32
#: Half the matching window in cells (24 pixels of 256), inside one volume.
RADIUS = 6
#: The patient is where a slice is brighter than this share of the way from its darkest to its
#: bright (95th percentile) pixels, in rows and columns of which at least that share is so bright.
BODY_LEVEL, BODY_SHARE = 0.15, 0.05


class Features(NamedTuple):
    """A batch of encoded slices: ``key`` [n, 96, 64, 64] of unit length for matching, ``context``
    [n, 96, 64, 64] for the heads, ``fine`` [n, 16, 128, 128] for the mask's edge, ``place``
    [n, 2, 64, 64], where in the patient's body a cell lies: (x, y), 0 to 1 from side to side."""

    key: Tensor
    context: Tensor
    fine: Tensor
    place: Tensor

    def pick(self, index: int | slice | Tensor) -> Features:
        """Some of the batch."""
        return Features(*(part[index] for part in self))


class Memory(NamedTuple):
    """Slices with their masks that queries are matched against: n queries, t slices each.

    ``key`` [n, t, 96, h, w]; ``values`` [n, t, 48, h, w], a cell's 4×4 pixels of the structure's
    coverage and what `FobLite.remember` noted beside; ``place`` [n, t, 2, h, w].
    """

    key: Tensor
    values: Tensor
    place: Tensor


def prompt_maps(background: Tensor, foreground: Tensor, grid: int = GRID) -> Tensor:
    """Point prompts (normalised, [n, p, 2] each; p may be 0) as the decoder's maps [n, 2, h, w] of
    a grid's cells."""
    maps = []
    for points in (background, foreground):
        if points.shape[1]:
            maps.append(gaussians(points, grid, 1.0).amax(1))
        else:
            maps.append(points.new_zeros(len(points), grid, grid))
    return torch.stack(maps, 1)


def body_places(slices: Tensor) -> Tensor:
    """Where in the body each cell of slices [n, 1, 256, 256] lies, see `Features.place`."""
    small = F.avg_pool2d(slices.float(), CELL)[:, 0]
    low = small.amin((1, 2), keepdim=True)
    high = small.flatten(1).quantile(0.95, dim=1)[:, None, None]
    body = (small > low + BODY_LEVEL * (high - low)).float()
    grid = small.shape[-1]
    centres = cell_centres(grid, slices.device).view(1, grid, grid, 2)
    places = []
    for axis, across in ((0, 1), (1, 2)):  # x of the columns, y of the rows
        used = body.mean(across) > BODY_SHARE
        steps = torch.arange(grid, device=slices.device)
        first = torch.where(used, steps, grid).amin(1).clamp_max(grid - 1) / grid
        last = (torch.where(used, steps, -1).amax(1).clamp_min(0) + 1) / grid
        # A slice without contrast has no body: the whole of it counts.
        nothing = ~used.any(1)
        first, last = first.masked_fill(nothing, 0.0), last.masked_fill(nothing, 1.0)
        span = (last - first)[:, None, None]
        places.append((centres[..., axis] - first[:, None, None]) / span)
    return torch.stack(places, 1)


class FobLite(nn.Module):
    """Encoder, matching, background points and dense head; 4.1 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        channels = (24, 40, 112, 320)
        self.key = nn.Conv2d(sum(channels[:3]), WIDTH, 1, bias=False)
        nn.init.orthogonal_(self.key.weight.data.view(WIDTH, -1))
        self.key_context = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)
        nn.init.zeros_(self.key_context.weight)
        self.laterals = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels)
        self.merge = _smooth(WIDTH)
        self.smooth = _smooth(WIDTH)
        self.notes = nn.Sequential(
            nn.Conv2d(WIDTH + CELL**2, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, NOTES, 1)
        )
        self.sharpness = nn.Parameter(torch.tensor(40.0).log())
        self.locality = nn.Parameter(torch.tensor(0.08).log())
        #: The same for another patient: cost of the squared distance in body widths.
        self.body_locality = nn.Parameter(torch.tensor(20.0).log())
        self.background = BackgroundHead(WIDTH, GRID)
        self.decoder = Decoder(WIDTH, NOTES)

    def encode(self, slices: Tensor) -> Features:
        """Encode z-scored slices, float32 [n, 1, 256, 256]; each independent of the others."""
        pyramid: Pyramid = self.encoder(slices)
        stride4, stride8, stride16, stride32 = (
            lateral(level) for lateral, level in zip(self.laterals, pyramid[1:], strict=True)
        )
        coarse = self.merge(stride8 + _resized(stride16, stride8) + _resized(stride32, stride8))
        context = self.smooth(stride4 + _resized(coarse, stride4))
        # Each level counts alike, whatever the size of its activations.
        alike = [
            F.normalize(_resized(level, pyramid.stride4), dim=1)
            for level in (pyramid.stride4, pyramid.stride8, pyramid.stride16)
        ]
        key = self.key(torch.cat(alike, 1)) + self.key_context(context)
        return Features(F.normalize(key, dim=1), context, pyramid.stride2, body_places(slices))

    def remember(self, features: Features, mask: Tensor) -> Tensor:
        """What a memory slice tells those that match it, [n, 48, h, w], of features of a region
        and its coverage by the structure [n, 1, 4h, 4w]."""
        pixels = F.pixel_unshuffle(mask, CELL)
        notes = self.notes(joined([features.context, pixels]))
        return torch.cat([pixels.to(notes.dtype), notes], 1)

    def match(
        self, query: Features, memory: Memory, radius: int = RADIUS, *, anywhere: bool = False
    ) -> Reading:
        """Carry what is remembered over to the queries.

        ``anywhere`` matches the whole slice (another patient), else a window of so many cells round
        each place.
        """
        sharpness = self.sharpness.exp()
        if anywhere:
            cost, places = self.body_locality.exp(), (query.place, memory.place)
            return read_anywhere(query.key, memory.key, memory.values, sharpness, cost, places)
        locality = self.locality.exp()
        return read_nearby(query.key, memory.key, memory.values, sharpness, locality, radius)

    def locate(
        self, query: Features, support: Features, mask: Tensor, ring: Tensor, prior: Tensor
    ) -> Located:
        """Background points in the queries; arguments as in `BackgroundHead`, but ``mask`` is
        [n, 1, 256, 256]."""
        coverage = F.avg_pool2d(mask, CELL)
        return self.background(query.context, support.context, coverage, ring, prior)

    def compare(self, query: Features, support: Features, mask: Tensor) -> Tensor:
        """The likeness that `locate` gives beside the points, without them: [n, h, w]."""
        coverage = F.avg_pool2d(mask, CELL)
        _, cosine = self.background.compare(query.context, support.context, coverage)
        return self.background.likeness(cosine)

    def decode(
        self, query: Features, reading: Reading, similarity: Tensor, maps: Tensor, seen: Seen
    ) -> Decoded:
        """The structure in the queries' region."""
        return self.decoder(query, reading, similarity, maps, seen)


def seen(support: Features, mask: Tensor, foreign: bool) -> Seen:
    """What the decoder is told of the structure in the support, its coverage [n, 1, 256, 256]."""
    coverage = F.avg_pool2d(mask, CELL)[:, 0]
    area = coverage.sum((1, 2))
    centre = (support.place * coverage[:, None]).sum((2, 3)) / (area[:, None] + 1e-3)
    return Seen(centre, area, torch.full_like(area, float(foreign)))


def _smooth(width: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(8, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)
