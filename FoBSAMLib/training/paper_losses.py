"""Losses of the paper's network: L = L_rac + 10³ L_heat + 10⁻⁴ L_coor + L_fore (section 3.4).

Where a ring begins is arbitrary: L_heat and L_coor are held to the query's ring turned so that
its points lie nearest to the predicted ones, the minimum over all cyclic shifts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from FoBSAMLib.generator.background import Located, gaussians
from FoBSAMLib.generator.compatible import SIZE, prototypes_under
from FoBSAMLib.generator.paper import SIGMA
from FoBSAMLib.training.losses import TEMPERATURE, nearest_order

WEIGHTS = {"rac": 1.0, "heat": 1e3, "coor": 1e-4, "fore": 1.0}
#: What a background pixel counts in the foreground loss, beside a foreground pixel.
BACKGROUND_WEIGHT = 0.1


def paper_losses(located: Located, query: Tensor, mask: Tensor, ring: Tensor) -> dict[str, Tensor]:
    """All losses of one query.

    Args:
        located: what the network found (n = 1).
        query: features of the query [512, 64, 64].
        mask: of the structure in the query, [256, 256] in {0, 1}, not empty.
        ring: background points round it, normalised [10, 2].
    """
    target = nearest_order(located.coarse, ring[None])[0]
    own = prototypes_under(query, mask[None])
    return {
        "rac": contrast(located.foreground, own, located.prototypes[0]),
        "heat": heat_loss(located.heat[0], target) + heat_loss(located.proposals[0], target),
        "coor": (SIZE * (located.points[0] - target)).square().mean(),
        "fore": foreground_loss(located.similarity[0], mask),
    }


def heat_loss(heat: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of heat maps [p, h, w] to Gaussians about points [p, 2], at full size."""
    full = F.interpolate(heat[None], (SIZE, SIZE), mode="bilinear", align_corners=False)
    return F.mse_loss(full, gaussians(target[None], SIZE, SIGMA))


def contrast(support: Tensor, query: Tensor, background: Tensor) -> Tensor:
    """InfoNCE: a structure's prototype in the support [1, c] is near that in the query [1, c], and
    far from those of the background points [p, c]."""
    others = torch.cat([query, background])
    logits = F.cosine_similarity(support, others) / TEMPERATURE
    return F.cross_entropy(logits[None], torch.zeros(1, dtype=torch.long, device=logits.device))


def foreground_loss(similarity: Tensor, mask: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the coarse foreground, logits [h, w], to a mask at full
    size."""
    full = F.interpolate(similarity[None, None], mask.shape, mode="bilinear", align_corners=False)[
        0, 0
    ]
    weight = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * mask
    entropy = F.binary_cross_entropy_with_logits(full, mask, weight=weight, reduction="sum")
    return entropy / weight.sum()
