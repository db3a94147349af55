"""The paper's network (FoB, arXiv 2603.21287), compatible with the released weights.

Every step is as in the released code where the weights depend on it, faults included: the ring
of one component (``contour.py``), the unsorted points, foreground points in raster order, no
presence, coordinates mixed between two alignments, and a refinement that was never trained
(``spr.py``; left out unless asked for). Weights trained with a fault need it. ``paper.py`` is this
network with these put right, ``lite.py`` the same idea in small.

Kept apart from it, because no weights depend on them: a query without the structure gives points
rather than an exception, the support is encoded once, and any device does. `CompatibleFoB.speed_up`
makes it as fast as the device allows; `fobsam bench paper` compares that with the released way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.contour import POINTS, background_points, sort_about_leftmost
from FoBSAMLib.generator.paper_encoder import speed_up
from FoBSAMLib.generator.spr import Refinement
from FoBSAMLib.models.checkpoints import load_checkpoint, load_into
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts

#: Side of a slice, and of its feature map.
SIZE, CELLS = 256, 64
WIDTH = 512
#: Slices that a GPU computes together.
TOGETHER_ON_GPU = 8
#: Foreground points are taken where the coarse probability is above this.
FOREGROUND_PROBABILITY = 0.96

_SIGMA, _REACH = 4.0, 12
EPSILON = 1e-5
# A buffer of the released training loss, which no forward pass uses.
_LOSS_BUFFER = "nllloss.weight"


@dataclass(frozen=True)
class Features:
    """Encoded slices: ``maps`` [n, 512, 64, 64] and ``thresholds`` [n], on the model's device."""

    maps: Tensor
    thresholds: Tensor

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, which: slice) -> Features:
        return Features(self.maps[which], self.thresholds[which])


class Encoder(nn.Module):
    """ResNet-101 at stride 4 up to its third stage; the fourth gives a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ensure_torchvision().models.resnet101(
            weights=None, replace_stride_with_dilation=[True, True, False]
        )
        self.reduce1 = nn.Conv2d(1024, WIDTH, 1, bias=False)
        self.reduce2 = nn.Conv2d(2048, WIDTH, 1, bias=False)  # in the weights, never used
        self.reduce1d = nn.Linear(1000, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[n, 3, 256, 256] → features [n, 512, 64, 64], thresholds [n]."""
        net = self.backbone
        stem = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        third = net.layer3(net.layer2(net.layer1(stem)))
        pooled = net.avgpool(net.layer4(third)).flatten(1)
        return self.reduce1(third), self.reduce1d(net.fc(pooled))[:, 0]


class MatchingHead(nn.Module):
    """Proposals: likeness of every cell of the query to every background prototype."""

    def __init__(self) -> None:
        super().__init__()
        self.support_proj = nn.Linear(WIDTH, WIDTH)
        self.query_proj = nn.Linear(WIDTH, WIDTH)
        self.self_update_proj = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH)
        )

    def forward(self, tokens: Tensor, prototypes: Tensor) -> Tensor:
        """Tokens [..., t, c] and prototypes [p, c] → [..., p, t]."""
        keys = self.support_proj(prototypes)
        keys = (1 + torch.tanh(self.self_update_proj(keys))) * keys
        # Ten keys are carried to the tokens, not thousands of tokens to the keys.
        led = (keys @ self.query_proj.weight) @ tokens.mT
        return led + (keys @ self.query_proj.bias)[:, None]


class MaskedAttention(nn.Module):
    """Background-centric context: attention that prefers cells like the background prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.learnable_pos = nn.Parameter(torch.zeros(1, WIDTH, CELLS, CELLS))
        self.mha = nn.MultiheadAttention(WIDTH, 1)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.ffn = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.norm2 = nn.LayerNorm(WIDTH)
        self.matching_head = MatchingHead()
        self.conv = nn.Conv2d(POINTS, 1, 1)

    def forward(
        self, features: Tensor, likeness: Tensor, prototypes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Context of each query, and the proposals it was led by.

        Args:
            features: [n, c, h, w].
            likeness: [n, h, w], cosine of the features to the foreground prototype.
            prototypes: [10, c], of the support's background points.

        Returns:
            [n, c, h, w] and [n, 10, h, w].
        """
        suppressed = features * (1 - likeness[:, None])
        tokens = (suppressed + self.learnable_pos).flatten(2).mT
        proposals = self.matching_head(tokens, prototypes + positions(prototypes))
        proposals = proposals.unflatten(2, (CELLS, CELLS))
        # One row for all queries of the attention: the matrix of 4096² is never made.
        bias = functional.relu(self.conv(proposals)).flatten(2).expand(-1, CELLS**2, -1)
        by_token = tokens.transpose(0, 1)
        attended, _ = self.mha(by_token, by_token, by_token, attn_mask=bias, need_weights=False)
        tokens = self.norm1(tokens + attended.transpose(0, 1))
        tokens = self.norm2(tokens + self.ffn(tokens))
        return tokens.mT.unflatten(2, (CELLS, CELLS)), proposals


class Head(nn.Module):
    """Context → one heat map a background point."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 1),
            nn.InstanceNorm2d(WIDTH, affine=True),
            nn.ReLU(),
            nn.Conv2d(WIDTH, POINTS, 1),
        )

    def forward(self, context: Tensor) -> Tensor:
        """[n, c, h, w] → [n, 10, h, w]."""
        return self.head(context)


class CompatibleFoB(nn.Module):
    """The paper's prompt generator; made in evaluation mode, with random weights.

    The state dict has the names and shapes of the released checkpoints, less their
    ``nllloss.weight``, which is ignored on loading. Slices go through one at a time, in full
    float32, so that the prompts of a slice never depend on its company; after `speed_up` on a
    CUDA GPU several together, in TensorFloat-32.
    """

    #: Slices computed together, and whether products may be in TensorFloat-32.
    together, tf32 = 1, False

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = Head()
        self.masked_attention = MaskedAttention()
        self.refine = Refinement(WIDTH)
        self.register_load_state_dict_pre_hook(_drop_loss_buffer)
        self.eval()

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: torch.device | str = "cpu") -> CompatibleFoB:
        """The network with the weights of a file (``ckpt.pth`` as released, or safetensors).

        Raises ``FoBSAMError``: ``weights_missing``, ``weights_corrupt``.
        """
        model = cls()
        load_into(model, load_checkpoint(path), path, ignore=(_LOSS_BUFFER,))
        return model.to(device)

    def speed_up(self) -> None:
        """Make it fast on the device that it lies on; its encoder cannot be trained after that,
        nor its state dict loaded."""
        speed_up(self.encoder)
        if self.encoder.reduce1.weight.is_cuda:
            self.together, self.tf32 = TOGETHER_ON_GPU, True

    def prompts(
        self, support: np.ndarray, mask: np.ndarray, query: np.ndarray, refine: bool = False
    ) -> Prompts:
        """Prompts for the structure of ``mask`` in one query slice.

        Args:
            support: float32 [256, 256], z-scored over its volume.
            mask: [256, 256], 1 (or true) on the structure in ``support``.
            query: float32 [256, 256], z-scored over its volume.
            refine: refine the background points by SPR, verbatim.

        Returns:
            10 background and 1 to 10 foreground points. A background point whose heat map is
            nowhere positive is (0, 0).

        Raises:
            FoBSAMError: ``bad_geometry`` for another size, ``bad_request`` for an empty mask or
                values that are not finite.
        """
        _check_shape(support, "support slice", dimensions=2)
        _check_shape(query, "query slice", dimensions=2)
        mask = check_mask(mask)  # before the long part
        encoded = self.encode(np.stack([support, query]))
        return self.propose(encoded[:1], mask, encoded[1:], refine)[0]

    @torch.inference_mode()
    def encode(self, slices: np.ndarray) -> Features:
        """Encode slices, float32 [n, 256, 256], z-scored over their volume.

        Raises ``FoBSAMError`` as ``prompts`` does.
        """
        device = self.encoder.reduce1.weight.device
        images = torch.from_numpy(_check_slices(slices))[:, None].to(device)
        with arithmetic(self.tf32):
            parts = images.expand(-1, 3, -1, -1).split(self.together)
            encoded = [self.encoder(part) for part in parts]
        maps, thresholds = zip(*encoded, strict=True)
        return Features(torch.cat(maps), torch.cat(thresholds))

    @torch.inference_mode()
    def propose(
        self, support: Features, mask: np.ndarray, query: Features, refine: bool = False
    ) -> list[Prompts]:
        """Prompts for the structure of ``mask`` in each of the encoded query slices.

        Args:
            support: the one encoded slice that ``mask`` [256, 256] belongs to.
            mask: as in ``prompts``.
            query: encoded slices.
            refine: as in ``prompts``.

        Raises ``FoBSAMError`` as ``prompts`` does.
        """
        check_support(support)
        mask = check_mask(mask)
        features = support.maps[0]
        prompts: list[Prompts] = []
        with arithmetic(self.tf32):
            inside = torch.from_numpy(mask[None]).to(features)
            foreground = prototypes_under(features, inside)[0]
            background = prototypes_under(features, heat_maps(background_points(mask)))
            for start in range(0, len(query), self.together):
                some = query[start : start + self.together]
                prompts += self._propose_some(some, foreground, background, refine)
        return prompts

    def _propose_some(
        self, query: Features, foreground: Tensor, background: Tensor, refine: bool
    ) -> list[Prompts]:
        """Prompts of several queries from a support's prototypes [c] and [10, c]."""
        likeness = functional.cosine_similarity(query.maps, foreground[:, None, None], dim=1)
        logits = 0.5 * (-20 * likeness - query.thresholds[:, None, None])
        context, _ = self.masked_attention(query.maps, likeness, background)
        points = peaks(self.head(context))
        if refine:
            points = np.stack(
                [self._refined(*one, background) for one in zip(points, query.maps, strict=True)]
            )
        inside = foreground_points(1 - torch.sigmoid(logits))
        return [Prompts(*both) for both in zip(points, inside, strict=True)]

    def _refined(self, points: np.ndarray, features: Tensor, background: Tensor) -> np.ndarray:
        # As released: the prototypes are those of the sorted points, the points unsorted.
        own = prototypes_under(features, heat_maps(sort_about_leftmost(points)))
        start = torch.from_numpy(points).to(features)
        return np.asarray(self.refine(start, own, background, features).cpu().numpy())


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """Within it, products of float32 are in TensorFloat-32 where a GPU has it, or surely not:
    PyTorch itself takes it for convolutions alone. It moves points that are not clear by pixels."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        matmul.allow_tf32 = before


def _drop_loss_buffer(module: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    state_dict.pop(prefix + _LOSS_BUFFER, None)


def _check_shape(array: np.ndarray, what: str, dimensions: int) -> None:
    shape = np.shape(array)
    if len(shape) != dimensions or shape[-2:] != (SIZE, SIZE) or not shape[0]:
        raise FoBSAMError(
            "bad_geometry",
            f"The {what} has the shape {'×'.join(map(str, shape))}; the paper's network takes "
            f"{SIZE}×{SIZE} pixels.",
            "Resample it first (NetworkGrid).",
        )


def _check_slices(slices: np.ndarray) -> np.ndarray:
    _check_shape(slices, "stack of slices", dimensions=3)
    slices = np.ascontiguousarray(slices, np.float32)
    if not np.isfinite(slices).all():
        raise FoBSAMError(
            "bad_request",
            "A slice holds values that are not finite.",
            "Replace NaN and infinite voxels first.",
        )
    return slices


def check_support(support: Features) -> None:
    """Raises `FoBSAMError` unless there is one support slice."""
    if len(support) != 1:
        raise FoBSAMError(
            "bad_request",
            f"The paper's network takes one support slice, not {len(support)}.",
            "Give one encoded slice as the support.",
        )


def check_mask(mask: np.ndarray) -> np.ndarray:
    """The mask as bool [256, 256]; raises `FoBSAMError` for another shape and an empty one."""
    _check_shape(mask, "mask", dimensions=2)
    mask = np.asarray(mask) > 0
    if not mask.any():
        raise FoBSAMError(
            "bad_request",
            "The support's mask is empty.",
            "Give a slice on which the structure is drawn.",
        )
    return mask


def heat_maps(points: np.ndarray) -> Tensor:
    """Gaussians about points [n, 2], in a 25×25 window, peak 1: float32 [n, 256, 256]."""
    centres = torch.from_numpy(np.trunc(points + 0.5)).double()
    away = torch.arange(SIZE) - centres[..., None]  # [n, (x, y), 256]
    x, y = (torch.exp(-(away**2) / (2 * _SIGMA**2)) * (away.abs() <= _REACH)).unbind(1)
    return (y[:, :, None] * x[:, None, :]).float()


def prototypes_under(features: Tensor, weights: Tensor) -> Tensor:
    """Means of upsampled features [c, h, w] under weight maps [n, 256, 256] → [n, c].

    Instead of 512 feature maps upsampled, the few weight maps are carried down by the same linear
    map: the same sums in a hundredth of the time.
    """
    weights = weights.to(features)
    cells = torch.eye(CELLS).to(features)[:, None]
    upsampling = functional.interpolate(cells, size=SIZE, mode="linear")[:, 0]  # [64, 256]
    sums = (upsampling @ weights @ upsampling.T).flatten(1) @ features.flatten(1).T
    return sums / (weights.sum((1, 2)) + EPSILON)[:, None]


def positions(prototypes: Tensor) -> Tensor:
    """Sinusoidal positions [n, c]: even channels sine, odd ones cosine, base 10⁴."""
    count, width = prototypes.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(prototypes)


def peaks(heat: Tensor) -> np.ndarray:
    """Points (x, y) of the largest value of each map, [n, p, h, w] → float32 [n, p, 2]: of equal
    values the first in raster order, (0, 0) where none is positive."""
    full = functional.interpolate(heat, size=(SIZE, SIZE), mode="bilinear").flatten(2)
    most = full.amax(-1, keepdim=True)
    # Not argmax: on a GPU it may give any of equal values.
    places = torch.arange(SIZE**2, dtype=torch.int32, device=heat.device)
    first = torch.where(full == most, places, SIZE**2 - 1).amin(-1) * (most[..., 0] > 0)
    return _on_slice(first.cpu().numpy())


def foreground_points(probability: Tensor) -> list[np.ndarray]:
    """Of each map [n, h, w] at most ten of the pixels above the threshold, evenly in raster
    order; else the peak."""
    full = functional.interpolate(
        probability[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=True
    ).flatten(1)
    above = (full > FOREGROUND_PROBABILITY).cpu().numpy()
    most = full.argmax(1).cpu().numpy()
    return [
        _on_slice(_evenly(np.flatnonzero(one)) if one.any() else peak)
        for one, peak in zip(above, most[:, None], strict=True)
    ]


def _evenly(places: np.ndarray) -> np.ndarray:
    if len(places) <= POINTS:
        return places
    return places[np.linspace(0, len(places) - 1, POINTS).astype(int)]


def _on_slice(places: np.ndarray) -> np.ndarray:
    """Raster places → float32 [..., 2] (x, y)."""
    return np.stack([places % SIZE, places // SIZE], axis=-1).astype(np.float32)
