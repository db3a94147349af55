"""Reading a memory of annotated slices: nearest-neighbour matching of features.

Every query cell looks at cells of the remembered slices, weighs them by how alike their keys are,
and takes over what is known there (the mask, at full resolution). Within one volume it looks at a
window round its own place; in another patient's volume, everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: Stands for infinity in masked logits: finite, so that half precision stays clean.
BLOCKED = 1e4
#: A weight of the softmax is at least e to the minus this.
FLOOR = 80.0
#: The first values of a cell are its 4×4 pixels of the mask.
PIXELS = 16
#: Queries are matched in blocks of this many cells squared: their windows overlap, so one small
#: matrix product serves the block, and its result stays in the processor's cache.
BLOCK = 8
#: Blocks weighed at once.
TOGETHER = 4


class Reading(NamedTuple):
    """What matching found for n queries on a grid of h × w cells.

    ``values`` [n, v, h, w]: the remembered values, averaged by likeness, the first 16 of them the
    cell's 4×4 pixels of the mask;
    ``inside`` and ``outside`` [n, 1, h, w]: the best cosine to a remembered cell of the structure
    and of its surroundings, -1 where there is none in reach.
    """

    values: Tensor
    inside: Tensor
    outside: Tensor


def _weigh(
    cosine: Tensor, value: Tensor, sharpness: Tensor, cost: Tensor, barred: Tensor, pixels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax reading [..., q, v] and the best cosines [..., q, 1] to structure and surroundings.

    ``cosine`` [..., q, m], times the sharpness; value [..., m, v]; cost and barred [..., q, m]:
    ``barred`` is at least twice the sharpness where a cell is out of reach, so that no cosine is
    left there, else 0. The first ``pixels`` values are the mask's.
    """
    # Numbers too small for a normal float, as the softmax would have them of less, are many times
    # slower to compute with; to what is read they add nothing.
    least = torch.minimum(sharpness - FLOOR, -sharpness)
    read = (cosine - cost).clamp_min(least).softmax(-1) @ value
    covered = (value[..., :pixels].mean(-1) >= 0.5).to(cosine.dtype)[..., None, :]
    # The softmax trains the keys; the extremes are for information.
    reached, away = cosine.detach() - barred, 2 * sharpness.detach()
    best = (
        (reached - away * other).amax(-1, keepdim=True) / sharpness.detach()
        for other in (1 - covered, covered)
    )
    inside, outside = (one.clamp_min(-1) for one in best)
    return read, inside, outside


def _padded(maps: Tensor, radius: int, value: float = 0.0) -> Tensor:
    """[n, t, c, h, w] → [n, t, h + 2 radius, w + 2 radius, c] with cells of one value all round."""
    return F.pad(maps.movedim(2, -1), (0, 0, *(radius,) * 4), value=value)


def _windows(padded: Tensor, row: int, radius: int) -> Tensor:
    """Each block's cells of a row of blocks with those ``radius`` round it: [n, blocks, t·s², c]
    of `_padded` maps. Memory slices lie side by side."""
    side = BLOCK + 2 * radius
    windows = padded[:, :, row : row + side].unfold(3, side, BLOCK)
    return windows.permute(0, 3, 1, 2, 5, 4).flatten(2, 4)


def _window_cost(radius: int, locality: Tensor) -> tuple[Tensor, Tensor]:
    """Cost of each window cell for each of a block's queries, and which cells are out of reach:
    [BLOCK², s²] each."""
    own = torch.arange(BLOCK, device=locality.device)
    step = torch.arange(BLOCK + 2 * radius, device=locality.device) - radius - own[:, None]
    square = (step**2)[:, None, :, None] + (step**2)[None, :, None, :]
    far = step.abs() > radius
    barred = (far[:, None, :, None] | far[None, :, None, :]).flatten(2).flatten(0, 1)
    cost = (locality * square).flatten(2).flatten(0, 1)
    return cost + BLOCKED * barred, barred.to(cost.dtype)


def read_nearby(
    query: Tensor, keys: Tensor, values: Tensor, sharpness: Tensor, locality: Tensor, radius: int
) -> Reading:
    """Match each query cell with the cells within ``radius`` of its place.

    Args:
        query: keys of the queries, unit length, [n, c, h, w]; h and w multiples of `BLOCK`.
        keys: keys of the memory, unit length, [n, t, c, h, w].
        values: what is known in the memory, [n, t, v, h, w]; the mean of the first 16 is the
            share of the cell that the structure covers.
        sharpness: factor of the cosine in the softmax.
        locality: cost of a step of one cell; grows with the squared distance.
        radius: in cells.
    """
    t, h, w = keys.shape[1], *keys.shape[3:]
    cost, barred = (part.repeat(1, t) for part in _window_cost(radius, locality))
    barred = 2 * sharpness.detach() * barred
    # One more channel bars, by the product that gives the cosines, cells beyond the slice.
    queries = F.pad((sharpness * query).movedim(1, -1), (0, 1), value=-BLOCKED)
    exists = keys.new_zeros(1, 1, 1, h, w).expand(*keys.shape[:2], -1, -1, -1)
    keys = torch.cat([_padded(keys, radius), _padded(exists, radius, 1.0)], -1)
    values = _padded(values, radius)
    rows = []
    for row in range(0, h, BLOCK):
        own = queries[:, row : row + BLOCK].unfold(2, BLOCK, BLOCK)
        own = own.permute(0, 2, 1, 4, 3).flatten(2, 3)
        key, value = _windows(keys, row, radius), _windows(values, row, radius)
        # So few at a time that what is computed on the way stays in the processor's cache.
        parts = []
        for some in (slice(at, at + TOGETHER) for at in range(0, w // BLOCK, TOGETHER)):
            cosine = own[:, some] @ key[:, some].transpose(-1, -2)
            parts.append(_weigh(cosine, value[:, some], sharpness, cost, barred, PIXELS))
        rows.append([_to_row(torch.cat(blocks, 1)) for blocks in zip(*parts, strict=True)])
    return Reading(*(torch.cat(row, 1).movedim(-1, 1) for row in zip(*rows, strict=True)))


def _to_row(blocks: Tensor) -> Tensor:
    """[n, blocks, BLOCK², v] → [n, BLOCK, w, v]."""
    return blocks.unflatten(2, (BLOCK, BLOCK)).transpose(1, 2).flatten(2, 3)


def read_anywhere(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    sharpness: Tensor,
    locality: Tensor,
    places: tuple[Tensor, Tensor],
) -> Reading:
    """Match each query cell with all cells of the memory; shapes as in `read_nearby`.

    On a grid of half the size: 16 times cheaper. ``places`` say where in their bodies the cells
    of query [n, 2, h, w] and memory [n, t, 2, h, w] lie; ``locality`` is the cost of the squared
    distance there.
    """
    n, t, _, h, w = keys.shape
    queries = F.normalize(F.avg_pool2d(query, 2), dim=1).flatten(2).transpose(1, 2)
    key = F.normalize(F.avg_pool2d(keys.flatten(0, 1), 2), dim=1).unflatten(0, (n, t))
    value = F.pixel_unshuffle(values.flatten(0, 1), 2).unflatten(0, (n, t))
    key = key.transpose(1, 2).flatten(2)
    value = value.transpose(1, 2).flatten(2).transpose(1, 2)
    here = F.avg_pool2d(places[0], 2).flatten(2).transpose(1, 2)
    there = F.avg_pool2d(places[1].flatten(0, 1), 2).unflatten(0, (n, t))
    there = there.transpose(1, 2).flatten(2).transpose(1, 2)
    cost = locality * torch.cdist(here.float(), there.float()).square()
    reachable = torch.zeros((), device=key.device)
    cosine = (sharpness * queries) @ key
    read, inside, outside = _weigh(cosine, value, sharpness, cost, reachable, 4 * PIXELS)
    read = F.pixel_shuffle(read.transpose(1, 2).unflatten(2, (h // 2, w // 2)), 2)
    best = torch.cat([inside, outside], 2).transpose(1, 2).unflatten(2, (h // 2, w // 2))
    best = F.interpolate(best, (h, w), mode="bilinear", align_corners=False)
    return Reading(read, best[:, :1], best[:, 1:])
