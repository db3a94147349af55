"""Episodes of training: a structure in a few slices of one volume, or of two patients'.

Self-supervised episodes follow a supervoxel; where organ labels may be used, others follow an
organ, with its true ends, also from one patient to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from FoBSAMLib.errors import FoBSAMError

SIZE = 256
#: Slices of an episode: the annotated one and those it is followed through.
SLICES = 4
#: Pixels of the 256×256 grid in one of the supervoxels' maps.
PART_PIXEL = 4
#: Structures followed in the same slices, which are encoded once for all of them.
STRUCTURES = 2
#: Area of a supervoxel in every slice, in pixels of the 256×256 grid.
AREA = (150, 14_000)
#: Least area of an organ in the annotated slice.
LEAST_ORGAN = 40
#: Least share of its bounding box that a supervoxel fills.
COMPACT = 0.35
#: Longest step between the slices of an episode, in mm; the next slice is always near enough.
STEP = 9.0
#: Draws tried for each episode before there is held to be none: most succeed within three.
TRIES = 500
#: Share of supervoxel episodes in which the structure ends before the last slice.
ENDS = 0.25
#: How often each kind is drawn without and with organ labels.
KINDS = ("parts", "foreign parts", "organs", "foreign organs")
SHARES = {False: (0.7, 0.3, 0.0, 0.0), True: (0.35, 0.1, 0.25, 0.3)}


@dataclass(frozen=True)
class TrainingVolume:
    """A prepared volume: z-scored ``image`` float16 [K, 256, 256]; the supervoxels, uint16
    [levels, K, 128, 128]; ``step`` mm between slices; organ ``labels`` uint8 [K, 256, 256] of
    the data set ``dataset``, all 0 where there are none; ``present`` bool [K, 256], whether a
    slice holds a label value, be it in one voxel; ``usable`` bool [K], the slices that may be
    shown."""

    name: str
    image: np.ndarray
    supervoxels: np.ndarray
    step: float
    labels: np.ndarray
    dataset: str
    present: np.ndarray
    usable: np.ndarray

    def without(self, values: Sequence[int]) -> TrainingVolume:
        """The volume without the slices that hold one of these label values (Setting II)."""
        left = self.usable & ~self.present[:, list(values)].any(1)
        return replace(self, usable=left)

    @cached_property
    def organs(self) -> dict[int, np.ndarray]:
        """The slices in which an organ is large enough to be annotated, by its label value."""
        areas = np.stack([np.bincount(plane.ravel(), minlength=256) for plane in self.labels])
        large = (areas >= LEAST_ORGAN) & self.usable[:, None]
        return {o: np.flatnonzero(large[:, o]) for o in range(1, 256) if large[:, o].any()}

    @cached_property
    def part_areas(self) -> np.ndarray:
        """Area of each supervoxel in each slice, int32 [levels, K, labels], in pixels of the
        256×256 grid; 0 for the background."""
        most = int(self.supervoxels.max()) + 1
        counts = [
            [np.bincount(plane.ravel(), minlength=most) for plane in level]
            for level in self.supervoxels
        ]
        areas = np.array(counts, np.int32) * PART_PIXEL
        areas[..., 0] = 0
        return areas

    @classmethod
    def load(cls, path: Path, source: tuple[int, ...]) -> TrainingVolume:
        """Read what `save` wrote; raises ValueError where it was made from another source."""
        with np.load(path) as data:
            if tuple(data["source"]) != source:
                raise ValueError(f"{path} was made from another image")
            return cls(
                path.stem,
                data["image"],
                data["supervoxels"],
                float(data["step"]),
                data["labels"],
                str(data["dataset"]),
                data["present"],
                data["usable"],
            )

    def save(self, path: Path, source: tuple[int, ...]) -> None:
        """Write an ``.npz``; the numbers in ``source`` tell what the volume was made from."""
        np.savez(
            path,
            image=self.image,
            supervoxels=self.supervoxels,
            step=self.step,
            labels=self.labels,
            dataset=self.dataset,
            present=self.present,
            usable=self.usable,
            source=source,
        )


class Episode(NamedTuple):
    """g groups of `SLICES` slices with m structures in each, as drawn: not augmented yet.

    ``images`` [g, s, 256, 256] float16, the annotated slice first; ``masks`` [g, m, s, 256, 256]
    bool; ``ends`` [g] bool, whether the structures are to be taken out of the last slice; ``fill``
    [g, 256, 256] float16, the slice that takes their place; ``foreign``: every slice is its own
    patient's, seen from the annotated one; ``strong``: the slices are one patient's and are to
    be made to look like several.
    """

    images: Tensor
    masks: Tensor
    ends: Tensor
    fill: Tensor
    foreign: Tensor
    strong: Tensor


class Drawn(NamedTuple):
    """One group: ``images`` [s, 256, 256] and ``masks`` [m, s, 256, 256]."""

    images: np.ndarray
    masks: np.ndarray
    fill: np.ndarray
    ends: bool


class EpisodeDataset(Dataset[Episode]):
    """Batches of episodes, one an item; the same seed and item give the same batch, so training
    goes on after an interruption as if nothing had happened."""

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        batches: int,
        size: int,
        seed: int,
        *,
        labels: bool = False,
    ):
        self.volumes = volumes
        self.batches = batches
        self.size = size
        self.seed = seed
        self.shares = _shares(volumes, labels)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, item: int) -> Episode:
        sampler = EpisodeSampler(self.volumes, np.random.default_rng((self.seed, item)))
        kind = sampler.rng.choice(KINDS, p=self.shares)
        return sampler.batch(str(kind), self.size)


def nothing_to_draw(kind: str) -> FoBSAMError:
    """The error of volumes that give no episode of a kind."""
    return FoBSAMError(
        "bad_request",
        f"These images give no episode of {kind}: nothing in them goes on through enough slices.",
        "Train on more subjects, or leave fewer slices out.",
    )


def _shares(volumes: Sequence[TrainingVolume], labels: bool) -> np.ndarray:
    """How often each of the `KINDS` is drawn; never what these volumes cannot give."""
    shares = np.array(SHARES[labels])
    organs = [(v.dataset, organ) for v in volumes for organ in v.organs] if labels else []
    shares[KINDS.index("organs")] *= bool(organs)
    shares[KINDS.index("foreign organs")] *= len(set(organs)) < len(organs)
    return shares / shares.sum()


class EpisodeSampler:
    """Draws episodes from volumes at random."""

    def __init__(self, volumes: Sequence[TrainingVolume], rng: np.random.Generator):
        self.volumes = volumes
        self.rng = rng

    def batch(self, kind: str, count: int) -> Episode:
        """``count`` episodes of one of the `KINDS`."""
        draw = {
            "parts": self._parts,
            "foreign parts": self._parts,
            "organs": self._organs,
            "foreign organs": self._foreign_organs,
        }[kind]
        drawn: list[Drawn] = []
        for _ in range(TRIES * count):
            group = draw()
            drawn += [group] if group is not None else []
            if len(drawn) == count:
                break
        else:
            raise nothing_to_draw(kind)
        foreign = kind.startswith("foreign")
        return Episode(
            torch.from_numpy(np.stack([d.images for d in drawn])),
            torch.from_numpy(np.stack([d.masks for d in drawn])),
            torch.tensor([d.ends and not foreign for d in drawn]),
            torch.from_numpy(np.stack([d.fill for d in drawn])),
            torch.tensor(foreign),
            torch.tensor(kind == "foreign parts"),
        )

    def _parts(self) -> Drawn | None:
        """Supervoxels followed through one volume."""
        volume = self._one(self.volumes)
        slices = self._run(volume, int(self.rng.integers(len(volume.image))))
        if slices is None:
            return None
        found: list[np.ndarray] = []
        for _ in range(4 * STRUCTURES):
            part = self._part(volume, slices)
            found += [part] if part is not None else []
            if len(found) == STRUCTURES:
                break
        else:
            return None
        ends = bool(self.rng.random() < ENDS)
        return self._drawn(volume, slices, found, ends)

    def _organs(self) -> Drawn | None:
        """Organs followed through one volume, at times beyond their ends."""
        volume = self._one([v for v in self.volumes if v.organs])
        organ = self._one(list(volume.organs))
        held = volume.organs[organ]
        if self.rng.random() < 0.4:  # near an end, so that ends are seen often enough
            held = held[[int(end * (len(held) - 1)) for end in (0, 0.15, 0.85, 1)]]
        slices = self._run(volume, int(self._one(held)))
        if slices is None:
            return None
        masks = [volume.labels[slices] == organ, self._second(volume, slices, organ)]
        return self._drawn(volume, slices, masks, ends=False)

    def _second(self, volume: TrainingVolume, slices: list[int], organ: int) -> np.ndarray:
        """Another organ of the annotated slice, or a supervoxel, or the organ once more."""
        others = [o for o, held in volume.organs.items() if slices[0] in held and o != organ]
        if others:
            return np.asarray(volume.labels[slices] == self._one(others))
        part = self._part(volume, slices)
        return part if part is not None else np.asarray(volume.labels[slices] == organ)

    def _foreign_organs(self) -> Drawn | None:
        """Organs annotated in one patient, to be found in slices of another one."""
        volume = self._one([v for v in self.volumes if v.organs])
        others = [v for v in self.volumes if v.dataset == volume.dataset and v is not volume]
        if not others:
            return None
        other = self._one(others)
        shared = [o for o in volume.organs if o in other.organs]
        if not shared:
            return None
        organ = self._one(shared)
        held, there = volume.organs[organ], other.organs[organ]
        at = int(self._one(held))
        # Mostly at a like height of the organ, at times beyond it.
        height = (at - held[0]) / max(1, held[-1] - held[0])
        spread = np.array([0.15, 0.3, 0.6]) * self.rng.standard_normal(3)
        wanted = there[0] + (height + spread) * (there[-1] - there[0] + 1)
        queries = np.clip(np.rint(wanted), 0, len(other.image) - 1).astype(int)
        if not other.usable[queries].all():
            return None
        also = [o for o in shared if at in volume.organs[o] and o != organ] or [organ]
        pair = (organ, self._one(also))
        images = np.concatenate([volume.image[at : at + 1], other.image[queries]])
        labels = np.concatenate([volume.labels[at : at + 1], other.labels[queries]])
        return Drawn(images, np.stack([labels == o for o in pair]), images[0], False)

    def _drawn(
        self, volume: TrainingVolume, slices: list[int], masks: list[np.ndarray], ends: bool
    ) -> Drawn:
        fill = volume.image[self._one(np.flatnonzero(volume.usable))]
        return Drawn(volume.image[slices], np.stack(masks), fill, ends)

    def _run(self, volume: TrainingVolume, first: int) -> list[int] | None:
        """Slices outward from one, at random steps; None where the volume ends before."""
        most = max(1, int(STEP / volume.step))
        steps = self.rng.integers(1, most + 1, SLICES - 1)
        slices = first + self.rng.choice([-1, 1]) * np.r_[0, np.cumsum(steps)]
        if slices.min() < 0 or slices.max() >= len(volume.image):
            return None
        if not volume.usable[slices].all():
            return None
        return [int(index) for index in slices]

    def _part(self, volume: TrainingVolume, slices: list[int]) -> np.ndarray | None:
        """A random supervoxel, or two neighbours, in slices: bool [s, 256, 256]."""
        level = int(self.rng.integers(len(volume.supervoxels)))
        areas = volume.part_areas[level][slices]
        # Only what can be followed is a candidate; large ones, as organs are, are drawn more often.
        weight = areas[0] * ((areas.min(0) >= AREA[0]) & (areas[0] <= AREA[1]))
        if not weight.any():
            return None
        labels = volume.supervoxels[level][slices]
        chosen = labels == self.rng.choice(len(weight), p=weight / weight.sum())
        if self.rng.random() < 0.3:
            edge = np.zeros_like(chosen)
            edge[:, 1:] |= chosen[:, :-1]
            edge[:, :, 1:] |= chosen[:, :, :-1]
            beside = np.setdiff1d(np.unique(labels[edge & ~chosen]), [0])
            if len(beside):
                chosen |= labels == self.rng.choice(beside)
        # Merged supervoxels may wind through the whole body: follow one compact part.
        parts, _ = ndimage.label(chosen)
        pixels = np.flatnonzero(chosen[0])
        chosen = parts == parts[0].ravel()[self._one(pixels)]
        where = np.nonzero(chosen[0])
        if chosen[0].sum() < COMPACT * np.prod([np.ptp(w) + 1 for w in where]):
            return None
        sizes = chosen.sum((1, 2)) * PART_PIXEL
        if sizes.min() < AREA[0] or sizes.max() > AREA[1]:
            return None
        maps = torch.from_numpy(chosen.astype(np.float32))[:, None]
        maps = F.avg_pool2d(maps, 3, 1, 1)
        maps = F.interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)
        return np.asarray(maps[:, 0] > 0.5)

    def _one(self, choices):
        return choices[int(self.rng.integers(len(choices)))]
