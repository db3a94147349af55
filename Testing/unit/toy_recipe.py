"""A network of a few weights that is trained in no time, to test what is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from FoBSAMLib.training.episodes import TrainingVolume
from FoBSAMLib.training.trainer import TrainingConfig


class Batch(NamedTuple):
    images: Tensor
    item: Tensor


class Batches(Dataset[Batch]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, item: int) -> Batch:
        if not 0 <= item < self.count:
            raise IndexError(item)
        rng = torch.Generator().manual_seed(item)
        return Batch(torch.randn(1, 1, 8, 8, generator=rng), torch.tensor(item))


class ToyRecipe:
    """``shown`` collects the items of the batches."""

    name = "toy"
    weights = {"large": 1.0, "rough": 0.1}  # noqa: RUF012
    slices = 1
    halved = True
    notes = ()
    run = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.shown: list[int] = []

    def initial(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 3))

    def dataset(
        self, volumes: Sequence[TrainingVolume], config: TrainingConfig, batches: int
    ) -> Batches:
        return Batches(batches)

    def optimiser(self, model: nn.Module, config: TrainingConfig):
        optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
        return optimiser, torch.optim.lr_scheduler.StepLR(optimiser, 2, 0.5)

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        self.shown.append(int(batch.item))
        maps = model(batch.images)
        return {"large": maps.square().mean(), "rough": maps.diff(dim=-1).abs().mean()}
