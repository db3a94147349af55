"""The paper's network (FoB, arXiv 2603.21287), compatible with the released weights.

Every step is as in the released code where the weights depend on it, faults included: the ring
of one component (``contour.py``), the unsorted points, foreground points in raster order, no
presence, coordinates mixed between two alignments, and a refinement that was never trained
(``spr.py``; left out unless asked for). Weights trained with a fault need it. ``paper.py`` is this
network with these put right, ``lite.py`` the same idea in small.

Kept apart from it, because no weights depend on them: a query without the structure gives points
rather than an exception, the support is encoded once, and any device does.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator.contour import POINTS, background_points, sort_about_leftmost
from FoBSAMLib.generator.spr import Refinement
from FoBSAMLib.models.checkpoints import load_checkpoint, load_into
from FoBSAMLib.models.torchvision_ops import ensure_torchvision
from FoBSAMLib.prompts import Prompts

#: Side of a slice, and of its feature map.
SIZE, CELLS = 256, 64
WIDTH = 512
#: Foreground points are taken where the coarse probability is above this.
FOREGROUND_PROBABILITY = 0.96

_SIGMA, _REACH = 4.0, 12
_EPSILON = 1e-5
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
        """Tokens [t, c] and prototypes [n, c] → [n, t]."""
        keys = self.support_proj(prototypes)
        keys = (1 + torch.tanh(self.self_update_proj(keys))) * keys
        return keys @ self.query_proj(tokens).T


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
        """Context of one query, and the proposals it was led by.

        Args:
            features: [c, h, w].
            likeness: [h, w], cosine of the features to the foreground prototype.
            prototypes: [10, c], of the support's background points.

        Returns:
            [c, h, w] and [10, h, w].
        """
        suppressed = features * (1 - likeness)
        tokens = (suppressed + self.learnable_pos[0]).flatten(1).T
        proposals = self.matching_head(tokens, prototypes + _positions(prototypes))
        proposals = proposals.view(POINTS, CELLS, CELLS)
        bias = functional.relu(self.conv(proposals)).flatten()
        attended, _ = self.mha(
            tokens, tokens, tokens, attn_mask=bias.expand(len(tokens), -1), need_weights=False
        )
        tokens = self.norm1(tokens + attended)
        tokens = self.norm2(tokens + self.ffn(tokens))
        return tokens.T.view_as(features), proposals


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
    float32, so that the prompts of a slice never depend on its company.
    """

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
        images = torch.from_numpy(_check_slices(slices)).to(device)
        with full_float32():
            encoded = [self.encoder(image.expand(1, 3, SIZE, SIZE)) for image in images]
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
        foreground = prototypes_under(features, torch.from_numpy(mask[None]).to(features))[0]
        background = prototypes_under(features, _heat_maps(background_points(mask)).to(features))
        with full_float32():
            return [
                self._propose_one(features, threshold, foreground, background, refine)
                for features, threshold in zip(query.maps, query.thresholds, strict=True)
            ]

    def _propose_one(
        self,
        features: Tensor,
        threshold: Tensor,
        foreground: Tensor,
        background: Tensor,
        refine: bool,
    ) -> Prompts:
        likeness = functional.cosine_similarity(features, foreground[:, None, None], dim=0)
        probability = 1 - torch.sigmoid(0.5 * (-20 * likeness - threshold))
        context, _ = self.masked_attention(features, likeness, background)
        points = _peaks(self.head(context[None])[0])
        if refine:
            # As released: the prototypes are those of the sorted points, the points unsorted.
            own = prototypes_under(features, _heat_maps(sort_about_leftmost(points)).to(features))
            start = torch.from_numpy(points).to(features)
            points = self.refine(start, own, background, features).cpu().numpy()
        return Prompts(background=points, foreground=_foreground_points(probability))


def full_float32() -> AbstractContextManager[None]:
    """A context without TensorFloat-32, which would move points by pixels on recent GPUs."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


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


def _heat_maps(points: np.ndarray) -> Tensor:
    """Gaussians about points [n, 2], in a 25×25 window, peak 1: float32 [n, 256, 256]."""
    centres = torch.from_numpy(np.trunc(points + 0.5)).double()
    away = torch.arange(SIZE) - centres[..., None]  # [n, (x, y), 256]
    x, y = away[:, 0, None, :], away[:, 1, :, None]
    inside = (x.abs() <= _REACH) & (y.abs() <= _REACH)
    return (torch.exp(-(x**2 + y**2) / (2 * _SIGMA**2)) * inside).float()


def prototypes_under(features: Tensor, weights: Tensor) -> Tensor:
    """Means of upsampled features [c, h, w] under weight maps [n, 256, 256] → [n, c].

    Instead of 512 feature maps upsampled, the few weight maps are carried down by the same linear
    map: the same sums in a hundredth of the time.
    """
    cells = torch.eye(CELLS).to(features)[:, None]
    upsampling = functional.interpolate(cells, size=SIZE, mode="linear")[:, 0]  # [64, 256]
    sums = (upsampling @ weights @ upsampling.T).flatten(1) @ features.flatten(1).T
    return sums / (weights.sum((1, 2)) + _EPSILON)[:, None]


def _positions(prototypes: Tensor) -> Tensor:
    """Sinusoidal positions [n, c]: even channels sine, odd ones cosine, base 10⁴."""
    count, width = prototypes.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(1e4) / width))
    angles = torch.arange(count)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).to(prototypes)


def _peaks(heat: Tensor) -> np.ndarray:
    """Points [n, 2] (x, y) of the largest value of each map; (0, 0) where none is positive.

    On the CPU, where the first of equal values is chosen whatever the network ran on.
    """
    full = functional.interpolate(heat.cpu()[None], size=(SIZE, SIZE), mode="bilinear")[0]
    maps = full.flatten(1).numpy()
    at = maps.argmax(1)
    points = np.stack([at % SIZE, at // SIZE], axis=1).astype(np.float32)
    points[maps.max(1) <= 0] = 0
    return points


def _foreground_points(probability: Tensor) -> np.ndarray:
    """At most ten of the pixels above the threshold, evenly in raster order; else the peak."""
    full = functional.interpolate(
        probability.cpu()[None, None], size=(SIZE, SIZE), mode="bilinear", align_corners=True
    )[0, 0].numpy()
    above = np.flatnonzero(full > FOREGROUND_PROBABILITY)
    if len(above) > POINTS:
        above = above[np.linspace(0, len(above) - 1, POINTS).astype(int)]
    elif not len(above):
        above = np.array([full.argmax()])
    return np.stack([above % SIZE, above // SIZE], axis=1).astype(np.float32)
