"""Volumes as training reads them: normalised, on the network's grid, with their supervoxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.io import read_volume
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.training.episodes import SIZE, TrainingVolume
from FoBSAMLib.training.supervoxels import supervoxels


def prepare(volume: Volume) -> TrainingVolume:
    """Normalise a volume, lay its axial slices on the network's grid and oversegment it."""
    image = normalise(volume)
    grid = NetworkGrid(image.shape[1:], volume.slice_spacing("k"), SIZE)
    slices = np.stack([grid.image_to_network(one) for one in image])
    half = F.avg_pool2d(torch.from_numpy(slices)[:, None], 2)[:, 0].numpy()
    pixel = max(n * mm for n, mm in zip(image.shape[1:], volume.slice_spacing("k"), strict=True))
    pixel *= 2 / SIZE
    levels = supervoxels(half, (volume.step("k"), pixel, pixel))
    return TrainingVolume(
        volume.name, slices.astype(np.float16), np.stack(levels), volume.step("k")
    )


def prepared(image: Path, cache: Path) -> TrainingVolume:
    """The prepared form of an image file, from the cache folder or made and kept there."""
    kept = cache / f"{image.parent.name}_{image.name.split('.')[0]}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part.npz")
        prepare(read_volume(image)).save(partial)
        partial.replace(kept)
    return TrainingVolume.load(kept)
