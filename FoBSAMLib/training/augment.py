"""Augmentation of training slices: affine and elastic warps, gamma, and structures that end."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

DEGREES = 10.0
SHIFT = 0.04
SCALE = (0.9, 1.15)
SHEAR = 0.08
ELASTIC = 0.02
GAMMA = (0.6, 1.6)


def _uniform(low: float, high: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def warp_grid(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Random sampling grids for `warp`, [count, size, size, 2]: an affine and an elastic part."""
    angle = _uniform(-DEGREES, DEGREES, (count,), rng) * math.pi / 180
    scale = _uniform(*SCALE, (count,), rng)
    shear = _uniform(-SHEAR, SHEAR, (count,), rng)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    matrix = torch.stack([cos, -sin + shear, sin + shear, cos], 1).view(count, 2, 2)
    shift = _uniform(-2 * SHIFT, 2 * SHIFT, (count, 2, 1), rng)
    grid = F.affine_grid(torch.cat([matrix, shift], 2), [count, 1, size, size], align_corners=False)
    field = torch.randn((count, 2, 8, 8), generator=rng) * ELASTIC
    field = F.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    return grid + field.permute(0, 2, 3, 1)


def warp(maps: Tensor, grid: Tensor) -> Tensor:
    """Sample maps [n, c, h, w] by a grid; beyond the border its values go on."""
    return F.grid_sample(maps, grid, align_corners=False, padding_mode="border")


def gamma(images: Tensor, rng: torch.Generator) -> Tensor:
    """Random gamma, contrast and brightness for each of the z-scored images [n, 1, h, w]."""
    count = len(images)
    low = images.amin((1, 2, 3), keepdim=True)
    high = images.amax((1, 2, 3), keepdim=True)
    power = torch.exp(_uniform(math.log(GAMMA[0]), math.log(GAMMA[1]), (count, 1, 1, 1), rng))
    span = (high - low).clamp_min(1e-3)
    bent = ((images - low) / span).clamp(0, 1) ** power * span + low
    contrast = _uniform(0.85, 1.2, (count, 1, 1, 1), rng)
    return bent * contrast + _uniform(-0.2, 0.2, (count, 1, 1, 1), rng)


def end_structure(image: Tensor, mask: Tensor, other: Tensor) -> Tensor:
    """A slice just beyond the structure: its place is filled, softly, from another slice.

    Args:
        image, other: [1, h, w]; mask: [1, h, w] in {0, 1}.
    """
    grown = F.max_pool2d(mask, 9, 1, 4)
    soft = F.avg_pool2d(F.avg_pool2d(grown, 9, 1, 4), 9, 1, 4)
    return image * (1 - soft) + other * soft
