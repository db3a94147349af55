"""The dense one-shot head: what matching read, the features and the prompts → the mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from FoBSAMLib.generator.matching import PIXELS, Reading

if TYPE_CHECKING:
    from FoBSAMLib.generator.lite import Features

#: The read mask is kept away from 0 and 1 by this much before its logit is taken.
FLOOR = 0.02


class Seen(NamedTuple):
    """What is known of the remembered structure of n queries.

    ``centre`` [n, 2]: where in the body it lies; ``area`` [n]: how many cells it covers;
    ``foreign`` [n]: 1 where the memory is another patient's, else 0.
    """

    centre: Tensor
    area: Tensor
    foreign: Tensor


class Decoded(NamedTuple):
    """``logits`` [n, 1, 4h, 4w] of the mask; ``presence`` [n], logit of the structure being in
    the region at all; ``quality`` [n], logit of the Dice that the mask is expected to have."""

    logits: Tensor
    presence: Tensor
    quality: Tensor


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()
    )


class Decoder(nn.Module):
    """Predicts the mask at full resolution as a correction of the one that matching carried over.

    The point prompts enter as heat maps, so that a moved prompt changes the mask; they are left
    out at random in training, so that none are needed.
    """

    def __init__(self, width: int = 96, notes: int = 32, fine: int = 16, hidden: int = 64):
        super().__init__()
        # best likeness in and out 2, coarse similarity 1, prompts 2, place 2, foreign 1
        self.enter = _conv(width + PIXELS + notes + 8, hidden)
        self.around = nn.Sequential(_conv(hidden, 96), _conv(96, 96), nn.Conv2d(96, hidden, 1))
        self.leave = _conv(hidden, hidden)
        last = nn.Conv2d(32, 4, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.fine = nn.Sequential(nn.Conv2d(hidden + fine + 4, 32, 3, padding=1), nn.ReLU(), last)
        self.trust = nn.Parameter(torch.tensor(1.0))
        self.judge = nn.Sequential(nn.Linear(2 * hidden + 3, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(
        self, query: Features, reading: Reading, similarity: Tensor, maps: Tensor, seen: Seen
    ) -> Decoded:
        """The structure in n queries.

        Args:
            query: features of the region that was matched, h × w cells, both even.
            reading: of that region.
            similarity: logit of the coarse foreground probability, [n, h, w].
            maps: heat maps of the background and the foreground prompts, [n, 2, h, w].
        """
        pixels = reading.values[:, :PIXELS].clamp(0, 1)
        away = query.place - seen.centre[:, :, None, None]
        foreign = seen.foreign[:, None, None, None].expand_as(reading.inside)
        known = [reading.values[:, PIXELS:], reading.inside, reading.outside, similarity[:, None]]
        coarse = self.enter(joined([query.context, pixels, *known, maps, away, foreign]))
        around = self.around(F.avg_pool2d(coarse, 2))
        coarse = self.leave(coarse + _doubled(around))
        x = joined([_doubled(coarse), query.fine, F.pixel_shuffle(pixels, 2)])
        carried = torch.logit(F.pixel_shuffle(pixels, 4) * (1 - 2 * FLOOR) + FLOOR)
        logits = F.pixel_shuffle(self.fine(x), 2) + self.trust * carried
        return Decoded(logits, *self._judge(coarse, reading, logits, seen))

    def _judge(
        self, coarse: Tensor, reading: Reading, logits: Tensor, seen: Seen
    ) -> tuple[Tensor, Tensor]:
        """Presence and quality, from the features in the mask found and in the whole region."""
        mask = F.avg_pool2d(logits.detach().float().sigmoid(), 4)
        area = mask.sum((1, 2, 3))
        weight = mask / (area[:, None, None, None] + 1e-3)
        inside = (coarse * weight).sum((2, 3))
        growth = torch.log((area + 1) / (seen.area + 1))
        likeness = (reading.inside * weight).sum((1, 2, 3))
        known = torch.stack([growth, likeness, seen.foreign], 1)
        judged = self.judge(torch.cat([inside, coarse.mean((2, 3)), known], 1))
        return judged[:, 0], judged[:, 1]


def joined(maps: Sequence[Tensor]) -> Tensor:
    """All channels of maps [n, c, h, w]; in memory, channels lie side by side where those of the
    first do: left to itself, torch would move all of them twice where one lies otherwise."""
    if maps[0].stride(1) != 1:
        return torch.cat(list(maps), 1)
    return torch.cat([one.movedim(1, -1) for one in maps], -1).movedim(-1, 1)


def _doubled(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
