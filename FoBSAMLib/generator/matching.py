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
#: The first values of a cell are its 4×4 pixels of the mask.
PIXELS = 16
#: Queries are matched in blocks of this many cells squared: their windows overlap, so one small
#: matrix product serves the block, and its result stays in the processor's cache.
BLOCK = 8


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
    query: Tensor, key: Tensor, value: Tensor, sharpness: Tensor, cost: Tensor, pixels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax reading: query [..., q, c], key [..., c, m], value [..., m, v], cost [..., q, m];
    the first ``pixels`` values are the mask's."""
    cosine = query @ key
    read = (sharpness * cosine - cost).softmax(-1) @ value
    covered = (value[..., :pixels].mean(-1) >= 0.5).unsqueeze(-2)
    # The softmax trains the keys; the extremes are for information.
    cosine = cosine.detach().masked_fill(cost >= BLOCKED / 2, -1.0)
    inside = cosine.masked_fill(~covered, -1.0).amax(-1)
    outside = cosine.masked_fill(covered, -1.0).amax(-1)
    return read, inside, outside


def _windows(maps: Tensor, radius: int) -> Tensor:
    """[n, c, h, w] → [n, blocks, c, s²]: each block's cells with those ``radius`` round it."""
    side = BLOCK + 2 * radius
    padded = F.pad(maps, (radius,) * 4)
    windows = padded.unfold(2, side, BLOCK).unfold(3, side, BLOCK)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(4).flatten(1, 2)


def _window_cost(size: tuple[int, int], radius: int, locality: Tensor) -> Tensor:
    """Cost of each window cell for each of a block's queries, [blocks, BLOCK², s²]."""
    own = torch.arange(BLOCK, device=locality.device)
    step = torch.arange(BLOCK + 2 * radius, device=locality.device) - radius - own[:, None]
    square = (step**2)[:, None, :, None] + (step**2)[None, :, None, :]
    near = step.abs() <= radius
    reachable = near[:, None, :, None] & near[None, :, None, :]
    cost = torch.where(reachable, locality * square, BLOCKED).reshape(BLOCK**2, -1)
    exists = _windows(torch.ones(1, 1, *size, device=locality.device), radius)[0]
    return cost + (1 - exists) * BLOCKED


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
    n, t, _, h, w = keys.shape
    queries = query.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)
    queries = queries.permute(0, 2, 3, 4, 5, 1).flatten(3, 4).flatten(1, 2)
    key = _windows(keys.flatten(0, 1), radius).unflatten(0, (n, t))
    value = _windows(values.flatten(0, 1), radius).unflatten(0, (n, t))
    # Memory slices lie side by side: one softmax over all of them.
    key = key.permute(0, 2, 3, 1, 4).flatten(3)
    value = value.permute(0, 2, 1, 4, 3).flatten(2, 3)
    cost = _window_cost((h, w), radius, locality).repeat(1, 1, t)
    read, inside, outside = _weigh(queries, key, value, sharpness, cost, PIXELS)

    def to_map(blocks: Tensor) -> Tensor:
        """[n, blocks, BLOCK², v] → [n, v, h, w]."""
        blocks = blocks.unflatten(1, (h // BLOCK, w // BLOCK)).unflatten(3, (BLOCK, BLOCK))
        return blocks.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

    return Reading(to_map(read), to_map(inside[..., None]), to_map(outside[..., None]))


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
    read, inside, outside = _weigh(queries, key, value, sharpness, cost, 4 * PIXELS)
    read = F.pixel_shuffle(read.transpose(1, 2).unflatten(2, (h // 2, w // 2)), 2)
    best = torch.stack([inside, outside], 1).unflatten(2, (h // 2, w // 2))
    best = F.interpolate(best, (h, w), mode="bilinear", align_corners=False)
    return Reading(read, best[:, :1], best[:, 1:])
