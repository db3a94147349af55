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
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sharpness: Tensor,
    cost: Tensor,
    barred: Tensor,
    pixels: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax reading [..., q, v] and the best cosines [..., q, 1] to structure and surroundings.

    query [..., q, c], key [..., c, m], value [..., v, m], cost and barred [..., q, m]; ``barred``
    is 2 where a cell is out of reach, so that no cosine is left there, else 0. The first
    ``pixels`` values are the mask's.
    """
    cosine = query @ key
    read = (sharpness * cosine - cost).softmax(-1) @ value.transpose(-1, -2)
    covered = (value[..., :pixels, :].mean(-2, keepdim=True) >= 0.5).to(cosine.dtype)
    # The softmax trains the keys; the extremes are for information.
    reached = cosine.detach() - barred
    inside = (reached - 2 * (1 - covered)).amax(-1, keepdim=True).clamp_min(-1)
    outside = (reached - 2 * covered).amax(-1, keepdim=True).clamp_min(-1)
    return read, inside, outside


def _padded(maps: Tensor, radius: int) -> Tensor:
    """[n, t, c, h, w] with ``radius`` cells of zeros round every map."""
    return F.pad(maps.flatten(0, 1), (radius,) * 4).unflatten(0, maps.shape[:2])


def _windows(padded: Tensor, row: int, radius: int) -> Tensor:
    """Each block's cells of a row of blocks with those ``radius`` round it: [n, blocks, c, t·s²]
    of padded maps [n, t, c, h + 2 radius, w + 2 radius]. Memory slices lie side by side."""
    side = BLOCK + 2 * radius
    windows = padded[..., row : row + side, :].unfold(-1, side, BLOCK)
    return windows.permute(0, 4, 2, 1, 3, 5).flatten(3)


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
    exists = _padded(torch.ones(1, 1, 1, h, w, device=keys.device), radius).expand(
        -1, t, -1, -1, -1
    )
    keys, values = _padded(keys, radius), _padded(values, radius)
    rows = []
    for row in range(0, h, BLOCK):
        queries = query[:, :, row : row + BLOCK].unfold(3, BLOCK, BLOCK)
        queries = queries.permute(0, 3, 2, 4, 1).flatten(2, 3)
        key, value = _windows(keys, row, radius), _windows(values, row, radius)
        missing = 1 - _windows(exists, row, radius)
        # So few at a time that what is computed on the way stays in the processor's cache.
        parts = [
            _weigh(
                queries[:, some],
                key[:, some],
                value[:, some],
                sharpness,
                cost + BLOCKED * missing[:, some],
                2 * (barred + missing[:, some]),
                PIXELS,
            )
            for some in (slice(at, at + TOGETHER) for at in range(0, w // BLOCK, TOGETHER))
        ]
        rows.append([_to_row(torch.cat(blocks, 1)) for blocks in zip(*parts, strict=True)])
    return Reading(*(torch.cat(row, 2) for row in zip(*rows, strict=True)))


def _to_row(blocks: Tensor) -> Tensor:
    """[n, blocks, BLOCK², v] → [n, v, BLOCK, w]."""
    return blocks.unflatten(2, (BLOCK, BLOCK)).permute(0, 4, 2, 1, 3).flatten(3)


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
    value = value.transpose(1, 2).flatten(2)
    here = F.avg_pool2d(places[0], 2).flatten(2).transpose(1, 2)
    there = F.avg_pool2d(places[1].flatten(0, 1), 2).unflatten(0, (n, t))
    there = there.transpose(1, 2).flatten(2).transpose(1, 2)
    cost = locality * torch.cdist(here.float(), there.float()).square()
    reachable = torch.zeros((), device=key.device)
    read, inside, outside = _weigh(queries, key, value, sharpness, cost, reachable, 4 * PIXELS)
    read = F.pixel_shuffle(read.transpose(1, 2).unflatten(2, (h // 2, w // 2)), 2)
    best = torch.cat([inside, outside], 2).transpose(1, 2).unflatten(2, (h // 2, w // 2))
    best = F.interpolate(best, (h, w), mode="bilinear", align_corners=False)
    return Reading(read, best[:, :1], best[:, 1:])
