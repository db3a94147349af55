"""Episodes of self-supervised training: a supervoxel as the structure, in slices of one volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from FoBSAMLib.generator.ring import POINTS, sample_ring
from FoBSAMLib.training.augment import end_structure, gamma, warp, warp_grid

SIZE = 256
#: Area of a structure in its support slice, in pixels of the 256×256 grid.
AREA = (150, 14_000)
#: Least share of its bounding box that a structure fills.
COMPACT = 0.35
#: Farthest support, in mm; always at least the next slice but one.
REACH = 16.0
#: Share of episodes whose query lies beyond the structure's end.
ABSENT = 0.15
#: Structures followed in the same slices, which are encoded once for all of them.
STRUCTURES = 2


@dataclass(frozen=True)
class TrainingVolume:
    """A prepared volume: z-scored ``image`` float16 [K, 256, 256] and the supervoxels, uint16
    [levels, K, 128, 128]; ``step`` mm between slices."""

    name: str
    image: np.ndarray
    supervoxels: np.ndarray
    step: float

    @classmethod
    def load(cls, path: Path, source: tuple[int, ...]) -> TrainingVolume:
        """Read what `save` wrote; raises ValueError where it was made from another source."""
        with np.load(path) as data:
            if tuple(data["source"]) != source:
                raise ValueError(f"{path} was made from another image")
            return cls(path.stem, data["image"], data["supervoxels"], float(data["step"]))

    def save(self, path: Path, source: tuple[int, ...]) -> None:
        """Write an ``.npz``; the numbers in ``source`` tell what the volume was made from."""
        np.savez(
            path, image=self.image, supervoxels=self.supervoxels, step=self.step, source=source
        )


class Episode(NamedTuple):
    """g groups of t remembered slices and one query, with m structures followed in each.

    ``images`` [g, t + 1, 1, 256, 256], the query last; ``masks`` [g, m, t + 1, 1, 256, 256], true
    in the query and possibly imperfect in the memory; ``rings`` [g, m, 2, p, 2], normalised
    background points of the nearest remembered slice and the query; ``present`` [g, m], whether
    the query holds the structure. In ``foreign`` episodes the support stands for another
    patient's: nothing may be taken from where things lie.
    """

    images: Tensor
    masks: Tensor
    rings: Tensor
    present: Tensor
    foreign: Tensor


class EpisodeDataset(Dataset[Episode]):
    """Batches of episodes, one an item; the same seed and item give the same batch, so training
    goes on after an interruption as if nothing had happened."""

    def __init__(self, volumes: list[TrainingVolume], batches: int, size: int, seed: int):
        self.volumes = volumes
        self.batches = batches
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, item: int) -> Episode:
        return EpisodeSampler(self.volumes, (self.seed, item)).batch(self.size)


class EpisodeSampler:
    """Draws episodes from volumes at random."""

    def __init__(self, volumes: list[TrainingVolume], seed: tuple[int, ...]):
        self.volumes = volumes
        self.numpy = np.random.default_rng(seed)
        self.torch = torch.Generator().manual_seed(int(self.numpy.integers(2**62)))

    def batch(self, count: int) -> Episode:
        """``count`` episodes that remember one slice each, or two, or one of another patient's."""
        kind = self.numpy.choice(["near", "two", "foreign"], p=[0.35, 0.4, 0.25])
        drawn: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        while len(drawn) < count:
            episode = self._draw(2 if kind == "two" else 1)
            if episode is not None:
                drawn.append(episode)
        images, masks, rings, present = map(torch.stack, zip(*drawn, strict=True))
        return Episode(images, masks, rings, present, torch.tensor(kind == "foreign"))

    def _draw(self, memory: int) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        volume = self.volumes[self.numpy.integers(len(self.volumes))]
        slices = self._pick_slices(volume, memory)
        masks = self._structures(volume, slices)
        if masks is None:
            return None
        images = torch.from_numpy(volume.image[slices].astype(np.float32))[:, None]
        present = float(self.numpy.random() >= ABSENT)
        if not present:
            other = volume.image[self.numpy.integers(len(volume.image))].astype(np.float32)
            gone = masks[:, -1].amax(0)
            images[-1] = end_structure(images[-1], gone, torch.from_numpy(other)[None])
        images, masks = self._augment(images, masks)
        masks[:, :-1] = torch.stack([self._imperfect(mask[:-1]) for mask in masks])
        rings = self._rings(masks)
        if rings is None:
            return None
        masks[:, -1] *= present
        return images, masks, rings, torch.full((len(masks),), present)

    def _rings(self, masks: Tensor) -> Tensor | None:
        rings = [[sample_ring(mask[at, 0].numpy() > 0.5) for at in (-2, -1)] for mask in masks]
        if any(len(ring) < POINTS for pair in rings for ring in pair):
            return None
        return (torch.from_numpy(np.stack([np.stack(pair) for pair in rings])) + 0.5) / SIZE

    def _pick_slices(self, volume: TrainingVolume, memory: int) -> list[int]:
        """The remembered slices, farthest first, then the query, all on one side."""
        farthest = max(2, round(REACH / volume.step))
        far, near = int(self.numpy.integers(1, farthest + 1)), int(self.numpy.integers(1, 3))
        away = [max(far, near + 1), near] if memory == 2 else [far]
        side = self.numpy.choice([-1, 1])
        count = len(volume.image)
        query = int(self.numpy.integers(0, count))
        return [int(np.clip(query + side * a, 0, count - 1)) for a in away] + [query]

    def _structures(self, volume: TrainingVolume, slices: list[int]) -> Tensor | None:
        """Masks of `STRUCTURES` random supervoxels in all of the slices, [m, t + 1, 1, h, w]."""
        found: list[Tensor] = []
        for _ in range(4 * STRUCTURES):
            level = volume.supervoxels[self.numpy.integers(len(volume.supervoxels))]
            mask = self._structure(level[slices])
            if mask is not None:
                found.append(mask)
            if len(found) == STRUCTURES:
                return torch.stack(found)
        return None

    def _structure(self, labels: np.ndarray) -> Tensor | None:
        """Mask of a random supervoxel, or of two neighbours, [t + 1, 1, h, w]."""
        # One pixel at random chooses large supervoxels, which organs are, more often.
        rows, columns = np.nonzero(labels[-1])
        if not len(rows):
            return None
        at = self.numpy.integers(len(rows))
        label = labels[-1, rows[at], columns[at]]
        chosen = labels == label
        if self.numpy.random() < 0.3:
            edge = np.zeros_like(chosen)
            edge[:, 1:] |= chosen[:, :-1]
            edge[:, :, 1:] |= chosen[:, :, :-1]
            beside = np.setdiff1d(np.unique(labels[edge]), [0, label])
            if len(beside):
                chosen |= labels == self.numpy.choice(beside)
        # Merged supervoxels may wind through the whole body: follow one compact part.
        parts, _ = ndimage.label(chosen)
        chosen = parts == parts[-1, rows[at], columns[at]]
        where = np.nonzero(chosen[-1])
        if chosen[-1].sum() < COMPACT * np.prod([np.ptp(w) + 1 for w in where]):
            return None
        areas = chosen.sum((1, 2)) * (SIZE // labels.shape[-1]) ** 2
        if areas.min() < AREA[0] or areas.max() > AREA[1]:
            return None
        masks = torch.from_numpy(chosen.astype(np.float32))[:, None]
        masks = F.interpolate(masks, (SIZE, SIZE), mode="bilinear", align_corners=False)
        masks = (F.avg_pool2d(masks, 5, 1, 2) > 0.5).float()
        return masks

    def _augment(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """One warp for all slices, at times a further one for the query, and gamma for each."""
        count = len(images)
        stacked = torch.cat([images, masks[:, :, 0].transpose(0, 1)], 1)
        stacked = warp(stacked, warp_grid(1, SIZE, self.torch).expand(count, -1, -1, -1))
        if self.numpy.random() < 0.5:
            stacked[-1:] = warp(stacked[-1:], warp_grid(1, SIZE, self.torch))
        if self.numpy.random() < 0.5:
            stacked = stacked.flip(-1)
        images, masks = stacked[:, :1], (stacked[:, 1:] > 0.5).float()
        if self.numpy.random() < 0.5:
            images = gamma(images, self.torch)
        return images, masks.transpose(0, 1).unsqueeze(2).contiguous()

    def _imperfect(self, masks: Tensor) -> Tensor:
        """Remembered masks as propagation leaves them: warped, grown or shrunk at the edge."""
        if self.numpy.random() < 0.4:
            return masks
        field = torch.randn((len(masks), 2, 12, 12), generator=self.torch) * 0.012
        field = F.interpolate(field, (SIZE, SIZE), mode="bicubic", align_corners=False)
        identity = torch.eye(2, 3)[None].expand(len(masks), -1, -1)
        grid = F.affine_grid(identity, [len(masks), 1, SIZE, SIZE], align_corners=False)
        moved = F.avg_pool2d(warp(masks, grid + field.permute(0, 2, 3, 1)), 5, 1, 2)
        threshold = 0.3 + 0.4 * float(self.numpy.random())
        return (moved > threshold).float()
