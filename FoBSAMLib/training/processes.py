"""Several processes that train one model, as ``torchrun`` starts them.

Each draws episodes of its own, and what they learn is averaged at every step; the first one
writes. They share the run's folder: on several machines it must be the same one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from FoBSAMLib.errors import FoBSAMError

#: Longest wait for the first process to prepare the volumes.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Team:
    """This process among those that train together; alone by itself."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and shows how far the work is."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            distributed.barrier()


ALONE = Team()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """Join the other processes that torchrun has started, if it has.

    Yields:
        The team and this process's own device: with CUDA, one GPU each.

    Raises:
        FoBSAMError: bad_request where there are more processes than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE, device
        return
    backend = "gloo"
    if device.type == "cuda":
        own = int(os.environ["LOCAL_RANK"])
        if own >= torch.cuda.device_count():
            raise FoBSAMError(
                "bad_request",
                f"There are more processes than GPUs, which are {torch.cuda.device_count()}.",
                f"Start as many: torchrun --nproc-per-node {torch.cuda.device_count()}.",
            )
        device = torch.device("cuda", own)
        torch.cuda.set_device(device)
        backend = "nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), count), device
    finally:
        distributed.destroy_process_group()


class Step(nn.Module):
    """The losses of a batch as a module, which is what can be distributed."""

    def __init__(self, recipe: Any, model: nn.Module) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = model

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """See `trainer.Recipe.losses`."""
        return self.recipe.losses(self.model, batch)


def shared(step: Step, team: Team) -> nn.Module:
    """A step whose gradients are the mean over the team."""
    if team.count == 1:
        return step
    # Some parts are not reached by every batch, and a few by none.
    return DistributedDataParallel(step, find_unused_parameters=True)
