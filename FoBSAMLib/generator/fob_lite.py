"""The default generator: `FobLite` with its shipped weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.generator.lite import (
    CELL,
    RADIUS,
    SIZE,
    Features,
    FobLite,
    Memory,
    prompt_maps,
    seen,
)
from FoBSAMLib.generator.matching import BLOCK, Reading
from FoBSAMLib.generator.ring import sample_ring, spread_points
from FoBSAMLib.prompts import Prompts

#: Slices encoded at once.
BATCH = 8


class Pace(NamedTuple):
    """What is spent on a slice.

    ``side``: pixels to which it is brought, a multiple of 32; ``radius``: cells (4 pixels) in which
    it is matched; ``locating``: its background points are FoB's, else those of the ring round the
    mask that was found without them.
    """

    side: int = SIZE
    radius: int = RADIUS
    locating: bool = True


FULL = Pace()
#: Two thirds of the time. What else was tried is in Testing/benchmarks/speed.md.
FAST = Pace(224, 4, locating=False)


class FobLiteGenerator:
    """Runs `FobLite` slice by slice on the region round the remembered structure."""

    name = "fob-lite"

    def __init__(self, model: FobLite, device: torch.device, weights: str = "", pace: Pace = FULL):
        self.model = model.to(device).eval()
        self.model.encoder.fold()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        # On a CPU two together take as long as one after the other.
        self.ahead = BATCH if device.type == "cuda" else 1
        self.weights = weights
        self.pace = pace

    @torch.inference_mode()
    def encode(self, slices: np.ndarray) -> list[Features]:
        """See `Generator.encode`. Kept in half precision, 2 MB a slice."""
        encoded = []
        for part in self._shrunk(slices).split(BATCH):
            features = self.model.encode(part.contiguous(memory_format=torch.channels_last))
            halves = Features(*(f.half() for f in features))
            encoded += [halves.pick(slice(n, n + 1)) for n in range(len(part))]
        return encoded

    @torch.inference_mode()
    def propose(
        self, query: Features, memory: Sequence[Remembered], *, foreign: bool = False
    ) -> Proposal:
        """See `Generator.propose`."""
        masks = self._shrunk(np.stack([item.mask for item in memory]))
        box, region, reading = self._read(query, memory, masks, foreign)
        last, mask = _for_heads(memory[-1].features), masks[-1:]
        background = torch.zeros(1, 0, 2, device=self.device)
        ring = sample_ring(memory[-1].inside) if self.pace.locating else background[0]
        if len(ring):
            located = self.model.locate(
                _for_heads(query),
                last,
                mask,
                torch.from_numpy(ring + 0.5).to(self.device)[None] / SIZE,
                torch.tensor([0.0 if foreign else 1.0], device=self.device),
            )
            background, similarity = located.points, _crop(located.similarity, box)
        elif self.pace.locating:  # no room for a ring: the structure fills the slice
            similarity = torch.zeros_like(region.place[:, 0])
        else:
            similarity = self.model.compare(region, last, mask)
        maps = prompt_maps(background, background[:, :0], query.place.shape[-1])
        decoded = self.model.decode(
            region, reading, similarity, _crop(maps, box), seen(last, mask, foreign)
        )
        (probability,) = self._whole(decoded.logits[:, 0].sigmoid(), box)
        found = probability >= 0.5
        points = background[0].cpu().numpy() * SIZE - 0.5
        return Proposal(
            Prompts(points if self.pace.locating else sample_ring(found), spread_points(found)),
            probability,
            float(decoded.presence.sigmoid()),
            float(decoded.quality.sigmoid()),
        )

    @torch.inference_mode()
    def carry(
        self,
        query: Features,
        source: Features,
        masks: Sequence[np.ndarray],
        *,
        foreign: bool = False,
    ) -> list[np.ndarray]:
        """See `Generator.carry`: what matching alone carries over, for all masks at once."""
        known = self._shrunk(np.stack(masks))
        box = self._region(known, foreign)
        here, there = (_float(_region_of(side, box)) for side in (query, source))
        pixels = F.pixel_unshuffle(_crop(known, box, CELL), CELL).flatten(0, 1)
        memory = Memory(there.key[None], pixels[None, None], there.place[None])
        reading = self.model.match(here, memory, self.pace.radius, anywhere=foreign)
        return list(self._whole(F.pixel_shuffle(reading.values, CELL)[0], box) >= 0.5)

    def _read(
        self, query: Features, memory: Sequence[Remembered], masks: Tensor, foreign: bool
    ) -> tuple[Box, Features, Reading]:
        """Match the region round the remembered structure: its cells, features and reading."""
        box = self._region(masks, foreign)
        parts = zip(*(_region_of(item.features, box) for item in memory), strict=True)
        remembered = Features(*(torch.cat(part).float() for part in parts))
        values = self.model.remember(remembered, _crop(masks, box, CELL))
        region = _float(_region_of(query, box))
        known = Memory(remembered.key[None], values[None], remembered.place[None])
        reading = self.model.match(region, known, self.pace.radius, anywhere=foreign)
        return box, region, reading

    def _region(self, masks: Tensor, foreign: bool) -> Box:
        """Cells (top, bottom, left, right) round masks [n, 1, side, side], with the matching
        window, in whole blocks; all of them for another image's masks."""
        grid = self.pace.side // CELL
        if foreign:
            return 0, grid, 0, grid
        cells = F.max_pool2d(masks.amax((0, 1))[None], CELL)[0] > 0
        edges = []
        for axis in (1, 0):
            used = cells.any(axis).nonzero().flatten().tolist() or [grid // 2]
            low = max(used[0] - self.pace.radius - 2, 0) // BLOCK * BLOCK
            high = min(-(-(used[-1] + self.pace.radius + 3) // BLOCK) * BLOCK, grid)
            edges += [low, high]
        return edges[0], edges[1], edges[2], edges[3]

    def _shrunk(self, maps: np.ndarray) -> Tensor:
        """Slices or masks [n, 256, 256] as the network sees them, [n, 1, side, side]."""
        given, side = torch.from_numpy(maps).to(self.device)[:, None], self.pace.side
        if side == SIZE:
            return given
        return F.interpolate(given, (side, side), mode="bilinear", antialias=True)

    def _whole(self, region: Tensor, box: Box) -> np.ndarray:
        """A region's maps [n, h, w] on the whole slice, 0 elsewhere: float32 [n, 256, 256]."""
        side = self.pace.side
        top, bottom, left, right = (CELL * edge for edge in box)
        whole = F.pad(region.cpu(), (left, side - right, top, side - bottom))
        if side != SIZE:
            whole = F.interpolate(whole[:, None], (SIZE, SIZE), mode="bilinear")[:, 0]
        return whole.numpy()


#: Cells (top, bottom, left, right).
Box = tuple[int, int, int, int]


def _float(features: Features) -> Features:
    return Features(*(f.float() for f in features))


def _for_heads(features: Features) -> Features:
    """Only what the heads look at in whole slices is worth the time."""
    return features._replace(context=features.context.float(), place=features.place.float())


def _region_of(features: Features, box: Box) -> Features:
    # A cell of the fine features is half as wide.
    cells = features.place.shape[-1]
    return Features(*(_crop(f, box, f.shape[-1] // cells) for f in features))


def _crop(maps: Tensor, box: Box, scale: int = 1) -> Tensor:
    """The region of maps [..., h, w], of which so many pixels are a cell."""
    top, bottom, left, right = (scale * edge for edge in box)
    return maps[..., top:bottom, left:right]
