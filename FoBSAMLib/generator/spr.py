"""Structure-guided prompt refinement (SPR), verbatim: points in pixels, used as if in [0, 1].

The released training never reached these weights (the points were taken out of the graph), and
pixel coordinates lie outside the feature map, so every sampled feature is zero and the points
move by about half a pixel. It is kept for comparison with the released code; `CompatibleFoB`
leaves it out unless asked. ``paper.py`` gives it points that lie on the map, and trains it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_ITERATIONS = 3
_SAMPLES = 8


class RingGraph(nn.Module):
    """Graph convolution over the ring's points; the names are those of the released weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.W_theta = nn.Linear(width, width)
        self.W_phi = nn.Linear(width, width)
        self.W = nn.Linear(width, width, bias=False)
        self.mlp_mod = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid()
        )

    def forward(self, query: Tensor, support: Tensor) -> Tensor:
        """Messages [n, c] between the query's prototypes [n, c], linked as the support's are."""
        likeness = self.W_theta(support) @ self.W_phi(support).T / math.sqrt(support.shape[1])
        identity = torch.eye(len(support)).to(support)
        ring = identity.roll(1, 0) + identity.roll(-1, 0)
        alpha = self.alpha.clamp(0, 1)
        links = alpha * likeness.softmax(-1) + (1 - alpha) * ring
        links = links / links.sum(-1, keepdim=True)
        return functional.relu(links @ (self.mlp_mod(query) * self.W(query)))


class DeformableSampling(nn.Module):
    """Moves each point to the weighted mean of ``_SAMPLES`` positions about it."""

    def __init__(self, width: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.offset_pred = nn.Linear(2 * width, 2 * _SAMPLES)
        self.scale_mod = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1), nn.Sigmoid()
        )
        self.attn_weight = nn.Linear(width, _SAMPLES)

    def forward(
        self, points: Tensor, query: Tensor, messages: Tensor, support: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moved points [n, 2] and what was sampled there [n, c] from features [c, h, w]."""
        offsets = self.offset_pred(torch.cat([query, messages], -1)).view(-1, _SAMPLES, 2)
        reach = 2 * self.scale_mod(torch.cat([query, support], -1))
        positions = points[:, None] + reach[:, None] * offsets
        weights = self.attn_weight(query).softmax(-1)
        sampled = functional.grid_sample(
            features[None], 2 * positions[None] - 1, align_corners=self.align_corners
        )[0]
        return (
            torch.einsum("ns,nsd->nd", weights, positions),
            torch.einsum("ns,cns->nc", weights, sampled),
        )


class Refinement(nn.Module):
    """SPR: messages along the ring, attention among its points, then three small moves.

    ``align_corners`` says whether 0 and 1 are the centres of the outer cells, as released, or
    the edges of the slice, as everywhere else in this project.
    """

    def __init__(self, width: int, align_corners: bool = True) -> None:
        super().__init__()
        self.gcn = RingGraph(width)
        self.self_attn = nn.MultiheadAttention(width, 1)
        self.deform_attn = DeformableSampling(width, align_corners)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, points: Tensor, query: Tensor, support: Tensor, features: Tensor) -> Tensor:
        """Refined points.

        Args:
            points: [n, 2], (x, y); in pixels as released, or in [0, 1].
            query: [n, c], the query's prototypes (of the *sorted* points, as released).
            support: [n, c], the support's prototypes.
            features: [c, h, w] of the query.

        Returns:
            [n, 2], (x, y) as given.
        """
        messages = self.gcn(query, support)
        query = self.norm1(query + messages)
        attended, _ = self.self_attn(query, query, query, need_weights=False)
        query = self.norm2(query + attended)
        for _ in range(_ITERATIONS):
            points, sampled = self.deform_attn(points, query, messages, support, features)
            query = self.norm3(query + sampled)
        return points
