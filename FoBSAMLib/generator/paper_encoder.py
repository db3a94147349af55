"""The paper's encoder made fast where it lies, for computing only.

Against the modules as they are trained: batch normalisations become part of the convolutions
before them, and channels lie last. On the CPU, where the multiplications count, 3×3 convolutions
are done Winograd's way: a quarter of them, and features that differ by 1e-5 of their spread.

There is no bfloat16: it moves a third of the points, some across the slice, and float16 does not
hold what untrained weights give. On a GPU TensorFloat-32 serves instead (`CompatibleFoB`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from FoBSAMLib.generator.compatible import Encoder

#: Side of the squares that Winograd's convolution computes at once, and of what each needs.
TILE, PATCH = 4, 6

# Winograd's F(4×4, 3×3) as Lavin and Gray (arXiv 1509.09308) give it, for one of both dimensions:
# what patches, kernels and products are multiplied by.
_PATCHES = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNELS = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_PRODUCTS = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class WinogradConv(nn.Module):
    """A 3×3 convolution with a bias, of stride 1 and padded by its dilation d, of maps whose sides
    are multiples of 4 d: [n, c, h, w] → the same size, channels last."""

    patches: Tensor
    products: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        (self.dilation, _) = conv.dilation
        assert conv.bias is not None
        self.bias = conv.bias
        patches, products = (
            torch.tensor(one, dtype=torch.float32) for one in (_PATCHES, _PRODUCTS)
        )
        self.register_buffer("patches", torch.kron(patches, patches))
        self.register_buffer("products", torch.kron(products, products))
        kernels = torch.tensor(_KERNELS, dtype=torch.float64)
        kernels = torch.kron(kernels, kernels).float()
        weight = kernels @ conv.weight.detach().permute(2, 3, 1, 0).flatten(2).flatten(0, 1)
        self.weight = nn.Parameter(weight.unflatten(1, conv.weight.shape[1::-1]), False)

    def forward(self, maps: Tensor) -> Tensor:
        d = self.dilation
        padded = functional.pad(maps.permute(0, 2, 3, 1), (0, 0, d, d, d, d))
        # Every d-th pixel: a dilated convolution is d² plain ones.
        phases = padded.unflatten(1, (-1, d)).unflatten(3, (-1, d))  # [n, h/d, d, w/d, d, c]
        tiles = phases.unfold(1, PATCH, TILE).unfold(3, PATCH, TILE).permute(6, 7, 0, 1, 2, 3, 4, 5)
        given = self.patches @ tiles.reshape(PATCH**2, -1)
        products = torch.bmm(given.view(PATCH**2, -1, maps.shape[1]), self.weight)
        done = (self.products @ products.flatten(1)).view(TILE, TILE, *tiles.shape[2:-1], -1)
        # [row, column, n, h/4d, d, w/4d, d, c]
        done = done.permute(2, 3, 0, 4, 5, 1, 6, 7).flatten(1, 3).flatten(2, 4)
        return (done + self.bias).permute(0, 3, 1, 2)


def speed_up(encoder: Encoder) -> None:
    """Make an encoder in evaluation mode fast; it can no longer be trained or take a state dict.

    It must lie on its device already. A second time changes nothing.
    """
    for module in list(encoder.modules()):
        _fuse(module)
    if encoder.reduce1.weight.device.type == "cpu":
        for module in list(encoder.modules()):
            for name, conv in list(module.named_children()):
                if isinstance(conv, nn.Conv2d) and _is_plain(conv):
                    setattr(module, name, WinogradConv(conv))
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fuse(module: nn.Module) -> None:
    """Make normalisations part of the convolutions just before them."""
    for (name, conv), (after, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(module, after, nn.Identity())


def _is_plain(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == conv.dilation
