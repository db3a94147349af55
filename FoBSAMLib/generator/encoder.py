"""The image encoder of fob-lite: EfficientNet-Lite0 without its classifier.

The architecture is the published one (Tan and Le 2019; the *lite* variant has no
squeeze-and-excitation and uses ReLU6), so ImageNet weights in the common naming load as they are.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

#: (kernel, stride, expansion, output channels) of the blocks of EfficientNet-Lite0.
BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (5, 1, 6, 192),
    (3, 1, 6, 320),
)
#: Blocks (and the stem) that are never trained: their filters are general, and their
#: activations are the largest, so leaving them out makes a training step several times cheaper.
FROZEN_BLOCKS = 3


class Pyramid(NamedTuple):
    """Features of a batch of slices: [n, 16, H/2, W/2], [n, 24, H/4, W/4], [n, 40, H/8, W/8],
    [n, 112, H/16, W/16], [n, 320, H/32, W/32]."""

    stride2: Tensor
    stride4: Tensor
    stride8: Tensor
    stride16: Tensor
    stride32: Tensor


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the ImageNet weights were trained with."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(x, self.weight, self.bias, 1, kernel // 2, 1, self.groups)
        pads = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(size // -stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    """Inverted residual block: expand, depthwise, project."""

    def __init__(self, inputs: int, kernel: int, stride: int, expansion: int, outputs: int):
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.expands = expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y

    def fold(self) -> None:
        """Put each batch normalisation into the convolution before it."""
        names = ["_depthwise_conv", "_project_conv"]
        if self.expands:
            names = ["_expand_conv", *names]
        for conv, norm in zip(names, ("_bn0", "_bn1", "_bn2")[-len(names) :], strict=True):
            _fold(self, conv, norm)


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    into, n = getattr(module, conv), getattr(module, norm)
    mean, var = n.running_mean, n.running_var
    # Not fuse_conv_bn_eval, which copies the convolution first.
    into.weight, into.bias = fuse_conv_bn_weights(
        into.weight, into.bias, mean, var, n.eps, n.weight, n.bias
    )
    setattr(module, norm, nn.Identity())


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier; batch normalisation always uses its stored
    statistics, so a slice's features do not depend on the batch it came in."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _norm(32)
        channels = [32, *(block[3] for block in BLOCKS)]
        self._blocks = nn.ModuleList(
            MBConv(inputs, *block) for inputs, block in zip(channels, BLOCKS, strict=False)
        )
        frozen = [self._conv_stem, self._bn0, *self._blocks[:FROZEN_BLOCKS]]
        for module in frozen:
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, slices: Tensor) -> Pyramid:
        """Features of z-scored slices, float32 [n, 1, H, W], H and W multiples of 32."""
        x = slices.expand(-1, 3, -1, -1)
        with torch.no_grad():
            x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
            stride2 = self._blocks[0](x)
            stride4 = self._blocks[2](self._blocks[1](stride2))
        stride8 = self._blocks[4](self._blocks[3](stride4))
        stride16 = stride8
        for block in self._blocks[5:11]:
            stride16 = block(stride16)
        stride32 = stride16
        for block in self._blocks[11:]:
            stride32 = block(stride32)
        return Pyramid(stride2, stride4, stride8, stride16, stride32)

    def fold(self) -> None:
        """For inference: a fifth faster, and the state dict is another one from then on."""
        _fold(self, "_conv_stem", "_bn0")
        for block in self._blocks:
            cast(MBConv, block).fold()

    def load_imagenet(self, state: dict[str, Tensor]) -> None:
        """Take the trunk's tensors out of a whole EfficientNet-Lite0 state dict."""
        own = self.state_dict()
        self.load_state_dict({name: state[name] for name in own})
