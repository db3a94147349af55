"""Localising background points: the idea of FoB (paper section 3), with every part trained.

Coordinates are normalised, c = (pixel + 0.5) / size, in one convention (align_corners=False).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REFINEMENTS = 3
SAMPLES = 8
#: Cells either side of a heat map's peak that the soft-argmax averages over.
PEAK_RADIUS = 3


class Located(NamedTuple):
    """Background points of n queries, p points each.

    ``heat`` [n, p, h, w]: logits of the heat maps; ``proposals`` [n, p, h, w]: those of the
    matching step alone; ``coarse`` [n, p, 2]: points before refinement; ``points`` [n, p, 2]:
    after it; ``prototypes`` [n, p, c] of the support's points; ``foreground`` [n, c], its
    foreground prototype; ``similarity`` [n, h, w]: logit of the coarse foreground probability.
    """

    heat: Tensor
    proposals: Tensor
    coarse: Tensor
    points: Tensor
    prototypes: Tensor
    foreground: Tensor
    similarity: Tensor


def cell_centres(size: int, device: torch.device) -> Tensor:
    """Normalised centres (x, y) of a grid's cells, [size · size, 2]."""
    centre = (torch.arange(size, device=device) + 0.5) / size
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


def gaussians(points: Tensor, size: int, sigma: float) -> Tensor:
    """Heat maps [n, p, size, size] of normalised points [n, p, 2]; ``sigma`` in cells, peak 1."""
    steps = points[:, :, None] - cell_centres(size, points.device)
    square = (steps * size).square().sum(-1)
    # Less would be too small for a normal float, and many times slower to compute with.
    return torch.exp((-square / (2 * sigma**2)).clamp_min(-60)).unflatten(-1, (size, size))


def soft_argmax(heat: Tensor) -> Tensor:
    """Sub-cell position of each heat map's peak, [n, p, h, w] → normalised [n, p, 2].

    Averaged in a window round the peak, so that a second, distant mode does not pull it.
    """
    size = heat.shape[-1]
    flat = heat.flatten(2)
    centres = cell_centres(size, heat.device)
    peak = centres[flat.argmax(-1)]
    near = (centres - peak[:, :, None]).abs().amax(-1) * size <= PEAK_RADIUS + 0.5
    weights = flat.masked_fill(~near, -torch.inf).softmax(-1)
    return weights @ centres


def sample_at(features: Tensor, points: Tensor) -> Tensor:
    """Features [n, c, h, w] at normalised points [n, p, 2] → [n, p, c], bilinear."""
    grid = 2 * points[:, :, None] - 1
    sampled = F.grid_sample(features, grid, align_corners=False, padding_mode="border")
    return sampled[..., 0].transpose(1, 2)


def sinusoid(count: int, width: int, device: torch.device) -> Tensor:
    """Positional encoding of the points' order on the ring, [count, width]."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(1e4) / width))
    angles = torch.arange(count, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class ContextMatching(nn.Module):
    """Background-centric context and matching (paper eqs. 3–7): support points → heat maps."""

    def __init__(self, width: int, grid: int, points: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.to_query = nn.Conv2d(width, width, 1)
        self.to_key = nn.Linear(width, width)
        self.modulation = _mlp(width, width, width)
        self.key_bias = nn.Conv2d(points, 1, 1)
        self.qkv = nn.Linear(width, 3 * width)
        self.attended = nn.LayerNorm(width)
        self.feed = _mlp(width, width, width)
        self.fed = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, points, 1),
        )
        self.prior_weight = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, query: Tensor, similarity: Tensor, prototypes: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Heat map logits and proposals, [n, p, h, w] each.

        ``prior`` [n, p, h, w] is the logit of each point's place known from a neighbouring slice
        (zeros where nothing is known).
        """
        context = query * (1 - similarity)[:, None] + self.position
        width, points = context.shape[1], prototypes.shape[1]
        support = prototypes + sinusoid(points, width, query.device)
        key = self.to_key(support)
        key = (1 + torch.tanh(self.modulation(key))) * key
        proposals = torch.einsum("nchw,npc->nphw", self.to_query(context), key) / math.sqrt(width)

        tokens = F.avg_pool2d(context, 2).flatten(2).transpose(1, 2)
        bias = F.relu(self.key_bias(F.avg_pool2d(proposals, 2))).flatten(2)
        # One head, told by a dimension: without it, the attention on a CPU is not the fused one.
        q, k, v = self.qkv(tokens)[:, None].chunk(3, -1)
        bias = bias[:, None].expand(-1, -1, tokens.shape[1], -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)[:, 0]
        tokens = self.attended(tokens + mixed)
        tokens = self.fed(tokens + self.feed(tokens))
        half = query.shape[-1] // 2
        coarse = tokens.transpose(1, 2).unflatten(-1, (half, half))
        mixed = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        heat = self.head(mixed + query) + proposals + F.softplus(self.prior_weight) * prior
        return heat, proposals


class Refinement(nn.Module):
    """Structure-guided refinement of the points as a ring (paper section 3.3)."""

    def __init__(self, width: int, points: int):
        super().__init__()
        self.theta = nn.Linear(width, width, bias=False)
        self.phi = nn.Linear(width, width, bias=False)
        self.alpha = nn.Parameter(torch.tensor(0.5))
        self.gate = _mlp(width, width, width)
        self.message = nn.Linear(width, width, bias=False)
        self.attention = nn.MultiheadAttention(width, 1, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.offsets = nn.Linear(2 * width, 2 * SAMPLES)
        nn.init.zeros_(self.offsets.weight)
        # Sampling places start on a small circle, so that they differ before any training.
        angle = torch.arange(SAMPLES) * (2 * math.pi / SAMPLES)
        circle = torch.stack([angle.cos(), angle.sin()], -1) * 0.01
        self.offsets.bias.data.copy_(circle.flatten())
        self.scale = _mlp(2 * width, width, 1)
        self.weights = nn.Linear(width, SAMPLES)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        neighbours = torch.zeros(points, points)
        for i in range(points):
            neighbours[i, (i + 1) % points] = neighbours[i, (i - 1) % points] = 0.5
        self.neighbours: Tensor
        self.register_buffer("neighbours", neighbours, persistent=False)

    def forward(self, features: Tensor, points: Tensor, support: Tensor) -> Tensor:
        """Refined points [n, p, 2] from query features [n, c, h, w], points [n, p, 2] and the
        support's prototypes [n, p, c]."""
        width = support.shape[-1]
        q = sample_at(features, points)
        likeness = self.theta(support) @ self.phi(support).transpose(1, 2) / math.sqrt(width)
        alpha = self.alpha.clamp(0, 1)
        graph = alpha * likeness.softmax(-1) + (1 - alpha) * self.neighbours
        g = F.relu(graph @ (self.gate(q).sigmoid() * self.message(q)))
        q = self.norms[0](q + g)
        q = self.norms[1](q + self.attention(q, q, q, need_weights=False)[0])
        for _ in range(REFINEMENTS):
            offsets = self.offsets(torch.cat([q, g], -1)).unflatten(-1, (SAMPLES, 2))
            scale = 2 * self.scale(torch.cat([q, support], -1)).sigmoid()
            places = points[:, :, None] + scale[..., None] * offsets
            found = sample_at(features, places.flatten(1, 2)).unflatten(1, (-1, SAMPLES))
            weights = self.weights(q).softmax(-1)[..., None]
            points = (weights * places).sum(2)
            q = self.norms[2](q + (weights * found).sum(2))
        return points


class BackgroundHead(nn.Module):
    """From a remembered slice with its ring to the ring's points in a query slice."""

    def __init__(self, width: int = 96, grid: int = 64, points: int = 10):
        super().__init__()
        self.matching = ContextMatching(width, grid, points)
        self.refinement = Refinement(width, points)
        self.sharpness = nn.Parameter(torch.tensor(2.3))
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(
        self, query: Tensor, support: Tensor, coverage: Tensor, ring: Tensor, prior: Tensor
    ) -> Located:
        """Locate the ring in n queries.

        Args:
            query, support: features [n, c, h, w].
            coverage: the structure in the support's cells, [n, 1, h, w].
            ring: the support's background points, normalised [n, p, 2].
            prior: how far a point's place in the support tells its place in the query, [n] in
                [0, 1]: 1 for the neighbouring slice, 0 for another patient.
        """
        size = query.shape[-1]
        foreground, cosine = self.compare(query, support, coverage)
        heat = gaussians(ring, size, sigma=1.0)
        heat = heat / (heat.sum((2, 3), keepdim=True) + 1e-5)
        prototypes = torch.einsum("nchw,nphw->npc", support, heat)

        place = -(prior[:, None, None, None] * _square_distance(ring, size)) / (2 * 3.0**2)
        heat, proposals = self.matching(query, cosine, prototypes, place)
        coarse = soft_argmax(heat)
        points = self.refinement(query, coarse, prototypes)
        likeness = self.likeness(cosine)
        return Located(
            heat, proposals, coarse, points.clamp(0, 1), prototypes, foreground, likeness
        )

    def compare(self, query: Tensor, support: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor]:
        """The structure's prototype [n, c], its cosine to each cell of the queries [n, h, w]."""
        weight = coverage / (coverage.sum((2, 3), keepdim=True) + 1e-5)
        foreground = (support * weight).sum((2, 3))
        return foreground, torch.einsum(
            "nchw,nc->nhw", F.normalize(query, dim=1), F.normalize(foreground, dim=1)
        )

    def likeness(self, cosine: Tensor) -> Tensor:
        """Logit of the coarse foreground probability."""
        return self.sharpness.exp() * (cosine - self.threshold)


def _square_distance(points: Tensor, size: int) -> Tensor:
    """Squared distance in cells from every cell to each point, [n, p, size, size]."""
    steps = points[:, :, None] - cell_centres(size, points.device)
    return (steps * size).square().sum(-1).unflatten(-1, (size, size))
