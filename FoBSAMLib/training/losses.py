"""Losses of fob-lite: L = L_mask + L_read + L_judge + L_heat + L_coor + L_fore + L_rac.

Each is a mean over queries, weighted where not all count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.background import Located, gaussians
from FoBSAMLib.generator.decoder import Decoded

#: Temperature of the contrastive loss (paper section 3.4).
TEMPERATURE = 0.1


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """The mean of values [n] by weights [n], 0 where none counts."""
    return (values * weight).sum() / weight.sum().clamp_min(1e-3)


def mask_loss(
    logits: Tensor, mask: Tensor, present: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Cross-entropy by the structure's size, so that small ones count alike, plus Dice.

    Args:
        logits, mask: [n, c, h, w]; present, weight: [n].
    """
    size = mask.flatten(1).sum(1)
    pixels = mask.shape[1:].numel()
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none").flatten(1).sum(1)
    entropy = entropy / (2 * size + 0.005 * pixels)
    p = logits.sigmoid().flatten(1)
    dice = 1 - (2 * (p * mask.flatten(1)).sum(1) + 1) / (p.sum(1) + size + 1)
    losses = entropy + dice * present
    return losses.mean() if weight is None else weighted_mean(losses, weight)


def judgement_loss(decoded: Decoded, mask: Tensor, present: Tensor) -> Tensor:
    """Whether the structure is there, and, where it is, the Dice its mask reached."""
    found = (decoded.logits > 0).float().flatten(1)
    true = mask.flatten(1)
    reached = 2 * (found * true).sum(1) / (found.sum(1) + true.sum(1)).clamp_min(1)
    there = F.binary_cross_entropy_with_logits(decoded.presence.float(), present)
    quality = F.binary_cross_entropy_with_logits(decoded.quality.float(), reached, reduction="none")
    return there + weighted_mean(quality, present)


def nearest_order(points: Tensor, ring: Tensor) -> Tensor:
    """The ring [n, p, 2] turned so that its points lie nearest to the predicted ones: where a
    contour starts is arbitrary, so only the order counts."""
    count = ring.shape[1]
    turns = torch.stack([ring.roll(shift, 1) for shift in range(count)], 1)
    distance = (turns - points.detach()[:, None]).abs().sum((2, 3))
    return turns[torch.arange(len(ring), device=ring.device), distance.argmin(1)]


def ring_losses(located: Located, ring: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Losses of heat maps (as distributions) and of coordinates, where the ring is known [n]."""
    size = located.heat.shape[-1]
    target = nearest_order(located.coarse, ring)
    wanted = gaussians(target, size, 1.0).flatten(2)
    wanted = wanted / wanted.sum(-1, keepdim=True).clamp_min(1e-6)
    heat, proposed = (
        weighted_mean(-(wanted * maps.flatten(2).log_softmax(-1)).sum(-1).mean(1), known)
        for maps in (located.heat, located.proposals)
    )
    coarse, fine = (
        weighted_mean(
            F.smooth_l1_loss(points * size, target * size, reduction="none").mean((1, 2)), known
        )
        for points in (located.coarse, located.points)
    )
    return {"heat": heat + 0.3 * proposed, "coor": coarse + fine}


def contrast(located: Located, own: Tensor, present: Tensor) -> Tensor:
    """InfoNCE: the support's foreground prototype is near the query's own [n, c] and far from the
    background prototypes."""
    anchor = F.normalize(located.foreground, dim=-1)
    near = (anchor * F.normalize(own, dim=-1)).sum(-1, keepdim=True)
    far = torch.einsum("nc,npc->np", anchor, F.normalize(located.prototypes, dim=-1))
    logits = torch.cat([near, far], 1) / TEMPERATURE
    target = logits.new_zeros(len(logits), dtype=torch.long)
    return weighted_mean(F.cross_entropy(logits, target, reduction="none"), present)


def foreground_loss(similarity: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy of the coarse foreground probability, background pixels counting a tenth."""
    weight = 0.1 + 0.9 * coverage
    return F.binary_cross_entropy_with_logits(similarity, coverage, weight=weight)
