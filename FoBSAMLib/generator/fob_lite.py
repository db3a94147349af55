"""The default generator: `FobLite` with its shipped weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.generator.lite import (
    CELL,
    GRID,
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


class FobLiteGenerator:
    """Runs `FobLite` slice by slice on the region round the remembered structure."""

    name = "fob-lite"

    def __init__(self, model: FobLite, device: torch.device, weights: str = ""):
        self.model = model.to(device).eval()
        self.model.encoder.fold()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        # On a CPU two together take as long as one after the other.
        self.ahead = BATCH if device.type == "cuda" else 1
        self.weights = weights

    @torch.inference_mode()
    def encode(self, slices: np.ndarray) -> list[Features]:
        """See `Generator.encode`. Kept in half precision, 2 MB a slice."""
        batch = torch.from_numpy(slices).to(self.device)[:, None]
        encoded = []
        for part in batch.split(BATCH):
            features = self.model.encode(part.contiguous(memory_format=torch.channels_last))
            halves = Features(*(f.half() for f in features))
            encoded += [halves.pick(slice(n, n + 1)) for n in range(len(part))]
        return encoded

    @torch.inference_mode()
    def propose(
        self, query: Features, memory: Sequence[Remembered], *, foreign: bool = False
    ) -> Proposal:
        """See `Generator.propose`."""
        features = _float(query)
        box, region, reading = self._read(features, memory, foreign)
        last = _float(memory[-1].features)
        mask = torch.from_numpy(memory[-1].mask).to(self.device)[None, None]
        ring = sample_ring(memory[-1].inside)
        background = torch.zeros(1, 0, 2, device=self.device)
        if len(ring):
            located = self.model.locate(
                features,
                last,
                mask,
                torch.from_numpy(ring + 0.5).to(self.device)[None] / SIZE,
                torch.tensor([0.0 if foreign else 1.0], device=self.device),
            )
            background, similarity = located.points, located.similarity
        else:  # no room for a ring: the structure fills the slice
            similarity = torch.zeros(1, GRID, GRID, device=self.device)
        maps = prompt_maps(background, background[:, :0])
        decoded = self.model.decode(
            region, reading, _crop(similarity, box), _crop(maps, box), seen(last, mask, foreign)
        )
        probability = _place(decoded.logits[0, 0].sigmoid(), box)
        prompts = Prompts(
            background[0].cpu().numpy() * SIZE - 0.5, spread_points(probability >= 0.5)
        )
        return Proposal(
            prompts,
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
        known = torch.from_numpy(np.stack(masks)).to(self.device)
        box = _region(known.amax(0), foreign)
        here, there = (Features(*(_crop(f.float(), box) for f in side)) for side in (query, source))
        pixels = F.pixel_unshuffle(_crop(known, box)[:, None], CELL).flatten(0, 1)
        memory = Memory(there.key[None], pixels[None, None], there.place[None])
        reading = self.model.match(here, memory, anywhere=foreign)
        carried = F.pixel_shuffle(reading.values, CELL)[0]
        return [_place(one, box) >= 0.5 for one in carried]

    def _read(
        self, query: Features, memory: Sequence[Remembered], foreign: bool
    ) -> tuple[Box, Features, Reading]:
        """Match the region round the remembered structure: its cells, features and reading."""
        masks = torch.stack([torch.from_numpy(item.mask) for item in memory]).to(self.device)
        box = _region(masks.amax(0), foreign)
        stacked = zip(*(item.features for item in memory), strict=True)
        remembered = Features(*(torch.cat([_crop(f, box) for f in p]).float() for p in stacked))
        values = self.model.remember(remembered, _crop(masks, box)[:, None])
        region = Features(*(_crop(f, box) for f in query))
        known = Memory(remembered.key[None], values[None], remembered.place[None])
        return box, region, self.model.match(region, known, anywhere=foreign)


def _float(features: Features) -> Features:
    return Features(*(f.float() for f in features))


#: Cells (top, bottom, left, right).
Box = tuple[int, int, int, int]


def _place(region: Tensor, box: Box) -> np.ndarray:
    """A region's map [h, w] on the whole slice, 0 elsewhere: float32 [256, 256]."""
    top, bottom, left, right = (CELL * edge for edge in box)
    whole = np.zeros((SIZE, SIZE), np.float32)
    whole[top:bottom, left:right] = region.cpu().numpy()
    return whole


def _region(mask: Tensor, foreign: bool) -> Box:
    """Cells (top, bottom, left, right) round a mask, with the matching window, in whole blocks; all
    of them for another image's mask."""
    if foreign:
        return 0, GRID, 0, GRID
    cells = F.max_pool2d(mask[None, None], CELL)[0, 0] > 0
    edges = []
    for axis in (1, 0):
        used = cells.any(axis).nonzero().flatten().tolist() or [GRID // 2]
        low = max(used[0] - RADIUS - 2, 0) // BLOCK * BLOCK
        high = min(-(-(used[-1] + RADIUS + 3) // BLOCK) * BLOCK, GRID)
        edges += [low, high]
    return edges[0], edges[1], edges[2], edges[3]


def _crop(maps: Tensor, box: Box) -> Tensor:
    """The region of maps [..., h, w] of any resolution."""
    scale = maps.shape[-1] // GRID
    top, bottom, left, right = (scale * edge for edge in box)
    return maps[..., top:bottom, left:right]
