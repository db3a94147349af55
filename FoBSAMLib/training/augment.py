"""Augmentation of drawn episodes, on the device that trains: warps, intensities, ends."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.background import cell_centres
from FoBSAMLib.generator.ring import DISTANCE, POINTS
from FoBSAMLib.training.episodes import Episode


class Warp(NamedTuple):
    """How far sampling grids may stray: degrees, share of the slice, factor of size, shear, and
    the standard deviation of the elastic part."""

    degrees: float
    shift: float
    scale: float
    shear: float
    elastic: float


#: The same for all slices of a patient; what one slice differs from the next; and what one
#: patient differs from another where slices of one stand for several.
SHARED = Warp(10.0, 0.04, 1.15, 0.08, 0.02)
SLICE = Warp(3.0, 0.015, 1.04, 0.02, 0.012)
PATIENT = Warp(15.0, 0.08, 1.3, 0.12, 0.035)
#: How often left and right, top and bottom are exchanged.
MIRRORED = (0.5, 0.25)
GAMMA = (0.6, 1.6)
#: Directions in which a ring is looked for.
RAYS = 64
#: Knots of the random curve that other intensities are drawn from.
KNOTS = 6


class Shown(NamedTuple):
    """An episode as the model sees it.

    ``images`` [g, s, 1, 256, 256]; ``masks`` [g, m, s, 1, 256, 256] in {0, 1}; ``rings``
    [g, m, s, p, 2]; ``ringed`` [g, m, s], whether a ring is known; ``foreign`` as in `Episode`.
    """

    images: Tensor
    masks: Tensor
    rings: Tensor
    ringed: Tensor
    foreign: bool


def augment(episode: Episode) -> Shown:
    """Warp the slices of each group alike, and each a little by itself; change intensities."""
    groups, slices = episode.images.shape[:2]
    foreign, strong = bool(episode.foreign), bool(episode.strong)
    images, masks = episode.images.float(), episode.masks.float()
    ends = episode.ends[:, None, None]
    gone = torch.where(ends, masks[:, :, -1].amax(1), 0.0)
    images[:, -1] = end_structure(images[:, -1], gone, episode.fill.float())

    device = images.device
    grid = warp_grid(groups, SHARED, device).repeat_interleave(slices, 0)
    own = warp_grid(groups * slices, PATIENT if strong else SLICE, device)
    if not strong:  # one half is left as it is, slice to slice
        still = torch.rand(groups * slices, 1, 1, 1, device=device) < 0.5
        own = torch.where(still, identity(1, device), own)
    mirrored = torch.rand(groups, 2, device=device) < torch.tensor(MIRRORED, device=device)
    flip = torch.where(mirrored, -1.0, 1.0).repeat_interleave(slices, 0)[:, None, None]
    grid = compose(grid, own) * flip

    stacked = torch.cat([images[:, :, None], masks.transpose(1, 2)], 2).flatten(0, 1)
    stacked = F.grid_sample(stacked, grid, align_corners=False, padding_mode="border")
    stacked = stacked.unflatten(0, (groups, slices))
    masks = (stacked[:, :, 1:] > 0.5).float().transpose(1, 2)
    masks[:, :, -1] *= ~ends[:, None]
    images = change_intensities(stacked[:, :, 0], apart=foreign)
    rings, ringed = find_rings(masks.flatten(0, 2))
    shape = masks.shape[:3]
    return Shown(
        images[:, :, None],
        masks[:, :, :, None],
        rings.unflatten(0, shape),
        ringed.unflatten(0, shape),
        foreign,
    )


def _uniform(low: float, high: float, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(shape, device=device)


def identity(count: int, device: torch.device, size: int = 256) -> Tensor:
    """Sampling grids that change nothing, [count, size, size, 2]."""
    matrix = torch.eye(2, 3, device=device).expand(count, -1, -1)
    return F.affine_grid(matrix, [count, 1, size, size], align_corners=False)


def warp_grid(count: int, warp: Warp, device: torch.device, size: int = 256) -> Tensor:
    """Random sampling grids, [count, size, size, 2]: an affine and an elastic part."""
    angle = _uniform(-warp.degrees, warp.degrees, (count,), device) * math.pi / 180
    scale = torch.exp(_uniform(-1, 1, (count, 2), device) * math.log(warp.scale))
    shear = _uniform(-warp.shear, warp.shear, (count,), device)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([cos, -sin + shear, sin + shear, cos], 1).view(count, 2, 2)
    shift = _uniform(-2 * warp.shift, 2 * warp.shift, (count, 2, 1), device)
    matrix = torch.cat([matrix / scale[:, :, None], shift], 2)
    grid = F.affine_grid(matrix, [count, 1, size, size], align_corners=False)
    field = torch.randn((count, 2, 8, 8), device=device) * warp.elastic
    field = F.interpolate(field, (size, size), mode="bicubic", align_corners=False)
    return grid + field.permute(0, 2, 3, 1)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The sampling grid of sampling by ``outer`` first and of what came of it by ``inner``."""
    maps = outer.permute(0, 3, 1, 2)
    # Beyond its border the outer grid goes on as it does within: carried as a difference.
    size = outer.shape[1]
    still = identity(1, outer.device, size).permute(0, 3, 1, 2)
    moved = F.grid_sample(maps - still, inner, align_corners=False, padding_mode="border")
    return moved.permute(0, 2, 3, 1) + inner


def change_intensities(images: Tensor, *, apart: bool) -> Tensor:
    """Random gamma, or now and then a random curve of intensities, contrast and noise.

    ``images`` [g, s, h, w] are z-scored; ``apart``: each slice is another scan's.
    """
    groups, slices = images.shape[:2]
    one = (groups, slices if apart else 1, 1, 1)
    device = images.device
    low = images.amin((1, 2, 3), keepdim=True)
    span = (images.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-3)
    unit = ((images - low) / span).clamp(0, 1)
    power = torch.exp(_uniform(math.log(GAMMA[0]), math.log(GAMMA[1]), one, device))
    bent = torch.where(_chance(0.5, one, device), unit, unit**power)
    curved = torch.where(_chance(0.85, one, device), bent, _curve(unit, one))
    changed = curved * span + low
    contrast = _uniform(0.85, 1.2, one, device)
    changed = changed * contrast + _uniform(-0.2, 0.2, one, device)
    noise = _uniform(0, 0.15, one, device) * _chance(0.3, one, device)
    return changed + noise * torch.randn_like(changed)


def _chance(share: float, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.rand(shape, device=device) < share


def _curve(unit: Tensor, one: tuple[int, ...]) -> Tensor:
    """Intensities 0 to 1 by a random, not always rising, piecewise linear curve: other contrasts
    of the same body, as other sequences and modalities have."""
    heights = torch.rand((*one[:2], KNOTS), device=unit.device)
    heights = heights.expand(-1, unit.shape[1], -1)
    at = unit * (KNOTS - 1)
    left = at.floor().clamp_max(KNOTS - 2).long()
    share = at - left
    flat = left.flatten(2)
    lower, upper = heights.gather(2, flat), heights.gather(2, flat + 1)
    return lower.view_as(unit) * (1 - share) + upper.view_as(unit) * share


def end_structure(image: Tensor, mask: Tensor, other: Tensor) -> Tensor:
    """Slices just beyond structures: their places are filled, softly, from other slices.

    Args:
        image, other: [n, h, w]; mask: [n, h, w] in {0, 1}.
    """
    grown = F.max_pool2d(mask, 9, 1, 4)
    soft = F.avg_pool2d(F.avg_pool2d(grown, 9, 1, 4), 9, 1, 4)
    return image * (1 - soft) + other * soft


def find_rings(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Background points round masks [n, 256, 256] in {0, 1}, on the device.

    As `ring.sample_ring` finds them, but seen from the centre: what lies behind the outermost
    part of a winding structure gets no points. Returns normalised points [n, p, 2], and whether
    there is a ring that lies within the slice, [n].
    """
    count, device = len(masks), masks.device
    small = F.avg_pool2d(masks[:, None], 2)  # two pixels are exact enough
    size = small.shape[-1]
    reach = int(DISTANCE / 2)
    steps = torch.arange(-reach, reach + 1, device=device)
    disc = (steps[:, None] ** 2 + steps**2 <= reach**2).float()[None, None]
    grown = (F.conv2d((small >= 0.5).float(), disc, padding=reach) > 0.5).float()
    area = small.sum((2, 3)) + 1e-6
    centre = (small.flatten(2) @ cell_centres(size, device))[:, 0] / area
    angle = math.pi - torch.arange(RAYS, device=device) * (2 * math.pi / RAYS)
    rays = torch.stack([angle.cos(), angle.sin()], -1)
    lengths = (torch.arange(size, device=device) + 0.5) / size
    places = centre[:, None, None] + rays[:, None] * lengths[:, None]
    inside = F.grid_sample(grown, 2 * places - 1, mode="nearest", align_corners=False)[:, 0] > 0.5
    last = torch.where(inside, lengths, 0.0).amax(2)
    outline = centre[:, None] + rays * last[:, :, None]
    rings = _along(outline, POINTS)
    known = (masks.amax((1, 2)) > 0) & ((rings > 0) & (rings < 1)).flatten(1).all(1)
    return rings.clamp(0, 1).view(count, POINTS, 2), known


def _along(outline: Tensor, count: int) -> Tensor:
    """``count`` points evenly along closed polygons [n, corners, 2], from their first corner."""
    closed = torch.cat([outline, outline[:, :1]], 1)
    pieces = (closed[:, 1:] - closed[:, :-1]).norm(dim=2)
    ends = F.pad(pieces.cumsum(1), (1, 0))
    wanted = ends[:, -1:] * torch.arange(count, device=outline.device) / count
    at = torch.searchsorted(ends, wanted, right=True).clamp(1, pieces.shape[1])
    start = ends.gather(1, at - 1)
    share = (wanted - start) / pieces.gather(1, at - 1).clamp_min(1e-6)
    pick = at[..., None].expand(-1, -1, 2)
    low, high = closed.gather(1, pick - 1), closed.gather(1, pick)
    return low + share[..., None] * (high - low)
