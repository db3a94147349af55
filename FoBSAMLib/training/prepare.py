"""Volumes as training reads them: normalised, on the network's grid, with their supervoxels."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from FoBSAMLib.evaluation import dataset_files
from FoBSAMLib.evaluation.datasets import Dataset
from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.training.episodes import SIZE, TrainingVolume
from FoBSAMLib.training.supervoxels import supervoxels

#: To be raised with every change of what `prepare` makes: files kept from before are made anew.
FORMAT = 2


def prepare(volume: Volume, labels: np.ndarray | None = None, dataset: str = "") -> TrainingVolume:
    """Normalise a volume, lay its axial slices on the network's grid and oversegment it.

    ``labels`` are the organs' values in the data set ``dataset``, uint8 [K, J, I].
    """
    image = normalise(volume)
    grid = NetworkGrid(image.shape[1:], volume.slice_spacing("k"), SIZE)
    slices = np.stack([grid.image_to_network(one) for one in image])
    half = F.avg_pool2d(torch.from_numpy(slices)[:, None], 2)[:, 0].numpy()
    pixel = max(n * mm for n, mm in zip(image.shape[1:], volume.slice_spacing("k"), strict=True))
    pixel *= 2 / SIZE
    levels = supervoxels(half, (volume.step("k"), pixel, pixel))
    laid = np.zeros(slices.shape, np.uint8)
    present = np.zeros((len(slices), 256), bool)
    for at, plane in enumerate(labels if labels is not None else ()):
        for value in np.unique(plane[plane > 0]):
            present[at, value] = True
            laid[at][grid.mask_to_network(plane == value) >= 0.5] = value
    return TrainingVolume(
        name=volume.name,
        image=slices.astype(np.float16),
        supervoxels=np.stack(levels),
        step=volume.step("k"),
        labels=laid,
        dataset=dataset,
        present=present,
        usable=np.ones(len(slices), bool),
    )


def prepared(dataset: Dataset, subject: int, cache: Path) -> TrainingVolume:
    """The prepared form of a subject, from the cache folder or made and kept there.

    A kept file that is damaged, or older than the image or its labels, is made anew. Raises
    `FoBSAMError` for an unreadable image and an unwritable cache.
    """
    files = dataset.as_files(subject, cache)
    read = dataset_files.read if dataset.layout.raw else dataset.layout.read
    kept = cache / f"{dataset.name}_{subject}.npz"
    source = _source(files)
    # A damaged file makes numpy raise nearly anything; whatever it is, the file is of no use.
    with contextlib.suppress(Exception):
        return TrainingVolume.load(kept, source)
    volume = prepare(*read(*files), dataset.name)
    with contextlib.suppress(OSError):  # atomic_path says what is wrong with the folder
        cache.mkdir(parents=True, exist_ok=True)
    with atomic_path(kept) as partial:
        volume.save(partial, source)
    return volume


def _source(files: tuple[Path, Path]) -> tuple[int, ...]:
    """Numbers that change with the files and with `FORMAT`."""
    stats = [file.stat() for file in files]
    return (FORMAT, *(n for stat in stats for n in (stat.st_size, stat.st_mtime_ns)))
