"""The paper's network as a generator of this project; its weights are the user's to bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from FoBSAMLib.generator.base import Proposal, Remembered
from FoBSAMLib.generator.compatible import CompatibleFoB, Features
from FoBSAMLib.generator.paper import PaperFoB
from FoBSAMLib.models.checkpoints import training_record
from FoBSAMLib.models.published import about_refinement


class FobPaperGenerator:
    """Prompts of `CompatibleFoB`, from the last remembered slice that has a mask; points alone.

    The model is made fast (`CompatibleFoB.speed_up`), and can no longer be trained.
    """

    name = "fob-paper"

    def __init__(self, model: CompatibleFoB, weights: str = "", notes: Sequence[str] = ()):
        """``notes``: what a user should know of the weights, a sentence each."""
        self.notes = list(notes)
        model.speed_up()
        self.model = model
        self.weights = weights
        self.ahead = model.together

    @classmethod
    def from_checkpoint(cls, path: Path, device: str, weights: str) -> FobPaperGenerator:
        """With released weights as they were released; with those of `fobsam train`, which say so
        in their record, done right."""
        record = training_record(path)
        kind = CompatibleFoB if record is None else PaperFoB
        model = kind.from_checkpoint(path, device)
        notes = [] if record else [about_refinement(model.state_dict())]
        return cls(model, weights, notes)

    def encode(self, slices: np.ndarray) -> list[Features]:
        """See `Generator.encode`."""
        features = self.model.encode(slices)
        return [features[n : n + 1] for n in range(len(slices))]

    def propose(
        self, query: Features, memory: Sequence[Remembered], *, foreign: bool = False
    ) -> Proposal:
        """See `Generator.propose`."""
        last = next((one for one in reversed(memory) if one.inside.any()), memory[-1])
        mask = last.inside.astype(np.float32)
        return Proposal(self.model.propose(last.features, mask, query)[0])

    def carry(
        self,
        query: Features,
        source: Features,
        masks: Sequence[np.ndarray],
        *,
        foreign: bool = False,
    ) -> None:
        """See `Generator.carry`."""
        return None
