"""Training of the paper's network, done right: its episodes, its losses, its initial weights.

An episode is a supervoxel as the structure, in one slice as the support and in the next as the
query, one of the two changed by gamma, an affine and an elastic warp.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from FoBSAMLib.generator.paper import PaperFoB
from FoBSAMLib.generator.ring import POINTS, sample_ring
from FoBSAMLib.models.checkpoints import load_checkpoint, load_into
from FoBSAMLib.training.episodes import AREA, SIZE, TRIES, TrainingVolume, nothing_to_draw
from FoBSAMLib.training.paper_losses import WEIGHTS, paper_losses
from FoBSAMLib.training.trainer import TrainingConfig

GAMMA = (0.5, 1.5)
DEGREES = 5.0
SHEAR_DEGREES = 5.0
#: Of half the slice, as a sampling grid has it: 5 of 128 pixels.
SHIFT = 5 / 128
SCALE = (0.9, 1.2)
#: Elastic warp: spread of the displacements of an 8×8 grid, of half the slice.
ELASTIC = 0.02
#: What the rate is multiplied by, and after how many steps each time.
DECAY, DECAY_STEPS = 0.95, 3000
#: Share of organs among the structures of a training with labels.
LABELLED = 0.5


class PaperEpisode(NamedTuple):
    """n pairs of a support and a query: ``images`` [n, 2, 1, 256, 256], ``masks`` [n, 2, 256, 256]
    in {0, 1}, not empty, and ``rings`` [n, 2, 10, 2], normalised background points."""

    images: Tensor
    masks: Tensor
    rings: Tensor


class PaperEpisodes(Dataset[PaperEpisode]):
    """Batches of episodes; the same seed and item give the same batch."""

    def __init__(
        self, volumes: Sequence[TrainingVolume], batches: int, size: int, seed: int, labels: bool
    ) -> None:
        self.volumes = volumes
        self.batches = batches
        self.size = size
        self.seed = seed
        self.labels = labels

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, item: int) -> PaperEpisode:
        rng = np.random.default_rng((self.seed, item))
        drawn: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(TRIES * self.size):
            volume = self.volumes[int(rng.integers(len(self.volumes)))]
            pair = _draw(volume, rng, self.labels)
            drawn += [pair] if pair is not None else []
            if len(drawn) == self.size:
                break
        else:
            raise nothing_to_draw("neighbouring slices")
        return PaperEpisode(*map(torch.stack, zip(*drawn, strict=True)))


class PaperRecipe:
    """How the paper's network is trained.

    A ResNet-101 that was trained before keeps the statistics of its batch normalisation. Of a
    support and its query alone they would be noise, and would let each slice's features depend on
    the other, which they do not when the network is used. The released encoder freezes nothing.
    From random weights the statistics are learned: without them that network is unusable.
    """

    name = "fob-paper"
    weights: Mapping[str, float] = WEIGHTS
    halved = False
    slices = 2

    def __init__(self, initial: Path | None = None) -> None:
        self._initial = initial
        self.notes: tuple[str, ...] = ()
        self.run: Mapping[str, str] = {}
        if initial is not None:
            self.run = {"initial": initial.name}
        else:
            self.notes = (
                "The network starts from random weights, the paper's from a trained ResNet-101: "
                "give one of torchvision with --initial FILE.",
            )

    def initial(self, seed: int) -> PaperFoB:
        """The network before training: random, its ResNet-101 from a file where one was given.

        Raises `FoBSAMError` for a file that holds no ResNet-101.
        """
        torch.manual_seed(seed)
        model = PaperFoB()
        if self._initial is not None:
            load_backbone(model, self._initial)
        return model

    def dataset(
        self, volumes: Sequence[TrainingVolume], config: TrainingConfig, batches: int
    ) -> PaperEpisodes:
        """Batches of episodes."""
        return PaperEpisodes(volumes, batches, config.batch, config.seed, config.labels)

    def optimiser(
        self, model: PaperFoB, config: TrainingConfig
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Adam, its rate cut a little every `DECAY_STEPS`."""
        optimiser = torch.optim.Adam(model.parameters(), config.rate)
        return optimiser, torch.optim.lr_scheduler.StepLR(optimiser, DECAY_STEPS, DECAY)

    def losses(self, model: PaperFoB, episode: PaperEpisode) -> dict[str, Tensor]:
        """The mean of each loss over a batch."""
        if self._initial is not None:
            model.encoder.backbone.eval()
        count = len(episode.images)
        images = episode.images.flatten(0, 1).expand(-1, 3, -1, -1)
        maps, thresholds = model.encoder(images)
        # The encoder is most of the work; what follows needs the precision.
        with torch.autocast(maps.device.type, enabled=False):
            maps, thresholds = maps.float().unflatten(0, (count, 2)), thresholds.float()[1::2]
            each = [
                paper_losses(
                    model.locate(query, threshold, support, masks[0], rings[0]),
                    query, masks[1], rings[1],
                )
                for (support, query), threshold, masks, rings in zip(
                    maps, thresholds, episode.masks, episode.rings, strict=True
                )
            ]  # fmt: skip
        return {name: torch.stack([one[name] for one in each]).mean() for name in self.weights}


def load_backbone(model: PaperFoB, path: Path) -> None:
    """Give the encoder the weights of a ResNet-101 of torchvision: a classifier's, or those of a
    network built on it (names beginning with ``backbone.``), which lack the last layer.

    Raises `FoBSAMError` (weights_missing, weights_corrupt).
    """
    backbone = model.encoder.backbone
    own = backbone.state_dict()
    given = {name.removeprefix("backbone."): value for name, value in load_checkpoint(path).items()}
    last = {name: value for name, value in own.items() if name.startswith("fc.")}
    load_into(backbone, last | {name: given[name] for name in own if name in given}, path)


def _draw(
    volume: TrainingVolume, rng: np.random.Generator, labels: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Images, masks and rings of one pair; None where the random choice does not give one."""
    at = _neighbours(volume, rng)
    if at is None:
        return None
    masks = _structure(volume, at, rng, labels)
    if masks is None:
        return None
    images = torch.from_numpy(volume.image[at].astype(np.float32))[:, None]
    changed = int(rng.integers(2))
    both = torch.cat([images[changed], masks[changed]])[None]
    both = F.grid_sample(both, _warp_grid(rng), align_corners=False, padding_mode="border")[0]
    images[changed], masks[changed] = _gamma(both[:1], rng), both[1:] > 0.5
    rings = [sample_ring(mask[0].numpy() > 0.5) for mask in masks]
    if any(len(ring) < POINTS for ring in rings):
        return None
    return images, masks[:, 0], (torch.from_numpy(np.stack(rings)) + 0.5) / SIZE


def _neighbours(volume: TrainingVolume, rng: np.random.Generator) -> list[int] | None:
    """A slice and the next on one side, both such as may be shown; a photograph twice."""
    if len(volume.image) == 1:
        return [0, 0]
    support = int(rng.integers(len(volume.image)))
    query = support + int(rng.choice([-1, 1]))
    if not 0 <= query < len(volume.image) or not volume.usable[[support, query]].all():
        return None
    return [support, query]


def _structure(
    volume: TrainingVolume, at: list[int], rng: np.random.Generator, labels: bool
) -> Tensor | None:
    """Mask of a random structure in two slices, [2, 1, 256, 256]; None where it is too small or
    too large to be one."""
    if labels and volume.organs and rng.random() < LABELLED:
        values = volume.labels[at]
    else:
        values = volume.supervoxels[rng.integers(len(volume.supervoxels))][at]
    # One pixel at random chooses large structures, which organs are, more often.
    rows, columns = np.nonzero(values[0])
    if not len(rows):
        return None
    one = rng.integers(len(rows))
    chosen = values == values[0, rows[one], columns[one]]
    areas = chosen.sum((1, 2)) * (SIZE // chosen.shape[-1]) ** 2
    if areas.min() < AREA[0] or areas.max() > AREA[1]:
        return None
    masks = torch.from_numpy(chosen.astype(np.float32))[:, None]
    masks = F.interpolate(masks, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return (F.avg_pool2d(masks, 5, 1, 2) > 0.5).float()


def _warp_grid(rng: np.random.Generator) -> Tensor:
    """A random sampling grid [1, 256, 256, 2]: an affine and an elastic part."""
    angle = math.radians(rng.uniform(-DEGREES, DEGREES))
    shear = math.tan(math.radians(rng.uniform(-SHEAR_DEGREES, SHEAR_DEGREES)))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]])
    matrix = np.c_[turn / rng.uniform(*SCALE), rng.uniform(-SHIFT, SHIFT, 2)]
    grid = F.affine_grid(
        torch.from_numpy(matrix).float()[None], [1, 1, SIZE, SIZE], align_corners=False
    )
    field = torch.from_numpy(rng.normal(0, ELASTIC, (1, 2, 8, 8))).float()
    field = F.interpolate(field, (SIZE, SIZE), mode="bicubic", align_corners=False)
    return grid + field.permute(0, 2, 3, 1)


def _gamma(image: Tensor, rng: np.random.Generator) -> Tensor:
    """An image with its range bent by a random power, its ends kept."""
    low, span = image.min(), (image.max() - image.min()).clamp_min(1e-3)
    return ((image - low) / span) ** rng.uniform(*GAMMA) * span + low
