"""The dense one-shot head: what matching read, the features and the prompts → the mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from FoBSAMLib.generator.matching import Reading

#: The read mask is kept away from 0 and 1 by this much before its logit is taken.
FLOOR = 0.02


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()
    )


class Decoder(nn.Module):
    """Predicts the mask at full resolution as a correction of the one that matching carried over.

    The point prompts enter as heat maps, so that a moved prompt changes the mask; they are left
    out at random in training, so that none are needed.
    """

    def __init__(self, width: int = 96, fine: int = 16, hidden: int = 64):
        super().__init__()
        # read mask 16, best likeness in and out 2, coarse similarity 1, prompts 2
        self.coarse = nn.Sequential(_conv(width + 21, hidden), _conv(hidden, hidden))
        last = nn.Conv2d(32, 4, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.fine = nn.Sequential(nn.Conv2d(hidden + fine + 4, 32, 3, padding=1), nn.ReLU(), last)
        self.trust = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, features: Tensor, stride2: Tensor, reading: Reading, similarity: Tensor, maps: Tensor
    ) -> Tensor:
        """Logits of the structure, [n, 1, 4h, 4w].

        Args:
            features: [n, c, h, w]; stride2: the encoder's finest features, [n, 16, 2h, 2w].
            reading: with 16 values a cell, the 4×4 pixels of the remembered mask.
            similarity: logit of the coarse foreground probability, [n, h, w].
            maps: heat maps of the background and the foreground prompts, [n, 2, h, w].
        """
        values = reading.values.clamp(0, 1)
        x = torch.cat(
            [features, values, reading.inside, reading.outside, similarity[:, None], maps], 1
        )
        x = F.interpolate(self.coarse(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.fine(torch.cat([x, stride2, F.pixel_shuffle(values, 2)], 1))
        carried = torch.logit(F.pixel_shuffle(values, 4) * (1 - 2 * FLOOR) + FLOOR)
        return F.pixel_shuffle(x, 2) + self.trust * carried
