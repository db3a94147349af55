"""Losses of fob-lite: L = L_mask + L_read + L_heat + L_coor + L_fore + L_rac."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.background import Located, gaussians

#: Temperature of the contrastive loss (paper section 3.4).
TEMPERATURE = 0.1


def mask_loss(logits: Tensor, mask: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy by the structure's size, so that small ones count alike, plus Dice.

    Args:
        logits, mask: [n, c, h, w]; present: [n].
    """
    size = mask.flatten(1).sum(1)
    pixels = mask.shape[1:].numel()
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").flatten(1).sum(1)
    entropy = entropy / (2 * size + 0.005 * pixels)
    p = logits.sigmoid().flatten(1)
    dice = 1 - (2 * (p * mask.flatten(1)).sum(1) + 1) / (p.sum(1) + size + 1)
    return (entropy + dice * present).mean()


def nearest_order(points: Tensor, ring: Tensor) -> Tensor:
    """The ring [n, p, 2] turned so that its points lie nearest to the predicted ones: where a
    contour starts is arbitrary, so only the order counts."""
    count = ring.shape[1]
    turns = torch.stack([ring.roll(shift, 1) for shift in range(count)], 1)
    distance = (turns - points.detach()[:, None]).abs().sum((2, 3))
    return turns[torch.arange(len(ring), device=ring.device), distance.argmin(1)]


def ring_losses(located: Located, ring: Tensor) -> dict[str, Tensor]:
    """Losses of heat maps (as distributions) and of coordinates, for queries with the structure."""
    size = located.heat.shape[-1]
    target = nearest_order(located.coarse, ring)
    wanted = gaussians(target, size, 1.0).flatten(2)
    wanted = wanted / wanted.sum(-1, keepdim=True)
    heat = -(wanted * located.heat.flatten(2).log_softmax(-1)).sum(-1).mean()
    proposed = -(wanted * located.proposals.flatten(2).log_softmax(-1)).sum(-1).mean()
    coarse, fine = (
        F.smooth_l1_loss(points * size, target * size)
        for points in (located.coarse, located.points)
    )
    return {"heat": heat + 0.3 * proposed, "coor": coarse + fine}


def contrast(located: Located, own: Tensor) -> Tensor:
    """InfoNCE: the support's foreground prototype is near the query's own [n, c] and far from the
    background prototypes."""
    anchor = F.normalize(located.foreground, dim=-1)
    near = (anchor * F.normalize(own, dim=-1)).sum(-1, keepdim=True)
    far = torch.einsum("nc,npc->np", anchor, F.normalize(located.prototypes, dim=-1))
    logits = torch.cat([near, far], 1) / TEMPERATURE
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def foreground_loss(similarity: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy of the coarse foreground probability, background pixels counting a tenth."""
    weight = 0.1 + 0.9 * coverage
    return F.binary_cross_entropy_with_logits(similarity, coverage, weight=weight)
