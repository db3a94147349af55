"""The paper's network with the faults of the released code put right, for weights trained here.

The parts, their names and shapes are those of ``compatible.py``. What differs: one convention of
coordinates, c = (pixel + 0.5) / size; a ring that is closed, shared among all parts of the
structure and cut at the slice's border (``ring.py``); points by a soft-argmax, so that a loss on
coordinates reaches the head and, with points that lie on the feature map, the whole refinement;
neighbours in the list that are neighbours on the ring; foreground points spread over the largest
part. Released weights were not trained for this: they belong to `CompatibleFoB`.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from FoBSAMLib.generator.background import Located, gaussians, soft_argmax
from FoBSAMLib.generator.compatible import (
    FOREGROUND_PROBABILITY,
    SIZE,
    WIDTH,
    CompatibleFoB,
    Features,
    arithmetic,
    check_mask,
    check_support,
    prototypes_under,
)
from FoBSAMLib.generator.ring import sample_ring, spread_points
from FoBSAMLib.generator.spr import Refinement
from FoBSAMLib.prompts import Prompts

#: Width of a point's Gaussian, in pixels.
SIGMA = 4.0
#: Heat maps have peaks of 1 on 0: at this temperature the rest of the window has no say.
TEMPERATURE = 0.1


class PaperFoB(CompatibleFoB):
    """`CompatibleFoB` done right: the same weights by name and shape, another forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.refine = Refinement(WIDTH, align_corners=False)
        # Untrained offsets would throw the points across the slice.
        nn.init.zeros_(self.refine.deform_attn.offset_pred.weight)
        nn.init.zeros_(self.refine.deform_attn.offset_pred.bias)
        self.eval()

    def locate(
        self, query: Tensor, threshold: Tensor, support: Tensor, mask: Tensor, ring: Tensor
    ) -> Located:
        """Find the support's ring in one query; every step can be differentiated.

        Args:
            query, support: features [512, 64, 64].
            threshold: the query's own, a scalar.
            mask: of the structure in the support, [256, 256] in [0, 1].
            ring: the support's background points in the order of the ring, normalised [10, 2].

        Returns:
            One query's `Located` (n = 1); ``heat`` and ``proposals`` are heat maps with peaks
            of 1, not logits.
        """
        foreground, likeness, similarity = _compare(query, threshold, support, mask)
        background = prototypes_under(support, gaussians(ring[None], SIZE, SIGMA)[0])
        context, proposals = self.masked_attention(query[None], likeness[None], background)
        heat = self.head(context)
        coarse = soft_argmax(heat.float() / TEMPERATURE)
        own = prototypes_under(query, gaussians(coarse, SIZE, SIGMA)[0])
        points = self.refine(coarse[0], own, background, query)
        one = (points, background, foreground, similarity)
        points, background, foreground, similarity = (part[None] for part in one)
        return Located(heat, proposals, coarse, points, background, foreground, similarity)

    @torch.inference_mode()
    def propose(
        self, support: Features, mask: np.ndarray, query: Features, refine: bool = True
    ) -> list[Prompts]:
        """See `CompatibleFoB.propose`; no background points where a ring has no room.

        ``refine`` False leaves the refinement out, to tell what it is worth.
        """
        check_support(support)
        mask = check_mask(mask)
        features = support.maps[0]
        inside = torch.from_numpy(mask.astype(np.float32)).to(features)
        ring = torch.from_numpy(sample_ring(mask) + 0.5).to(features) / SIZE
        prompts = []
        with arithmetic(self.tf32):
            for one, threshold in zip(query.maps, query.thresholds, strict=True):
                if len(ring):
                    located = self.locate(one, threshold, features, inside, ring)
                    points = (located.points if refine else located.coarse)[0]
                    similarity = located.similarity[0]
                else:
                    points = ring
                    _, _, similarity = _compare(one, threshold, features, inside)
                pixels = (points * SIZE - 0.5).clamp(0, SIZE - 1).cpu().numpy()
                prompts.append(Prompts(pixels, _foreground_points(similarity)))
        return prompts


def _compare(
    query: Tensor, threshold: Tensor, support: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The support's foreground prototype [c]; the query's likeness to it, and the logit of being
    foreground, [64, 64] each."""
    foreground = prototypes_under(support, mask[None])[0]
    likeness = F.cosine_similarity(query, foreground[:, None, None], dim=0)
    return foreground, likeness, 0.5 * (20 * likeness + threshold)


def _foreground_points(similarity: Tensor) -> np.ndarray:
    """At most ten points spread over the largest part of what is surely foreground; else the peak.

    ``similarity`` [64, 64] is a logit.
    """
    probability = F.interpolate(
        similarity[None, None].sigmoid(), (SIZE, SIZE), mode="bilinear", align_corners=False
    )[0, 0].cpu()
    labels, count = ndimage.label(probability.numpy() > FOREGROUND_PROBABILITY)
    if not count:
        at = int(probability.argmax())
        return np.array([[at % SIZE, at // SIZE]], np.float32)
    return spread_points(labels == 1 + int(np.argmax(np.bincount(labels.flat)[1:])))
