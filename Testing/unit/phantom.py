"""A made-up scan on disk: two bright ellipsoids in a noisy body, on an oblique grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (12, 64, 64)
#: Slice on which both structures are drawn.
DRAWN = 6
BALL, EGG = 1, 2


def labels(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Where the structures are, uint8 [K, J, I]."""
    k, j, i = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(shape, _AXES, strict=True))
    result = np.zeros(shape, np.uint8)
    result[(k / 0.7) ** 2 + ((j + 0.3) / 0.3) ** 2 + ((i + 0.3) / 0.25) ** 2 < 1] = BALL
    result[(k / 0.5) ** 2 + ((j - 0.3) / 0.2) ** 2 + ((i - 0.3) / 0.35) ** 2 < 1] = EGG
    return result


def voxels(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> np.ndarray:
    """Intensities as of an MR, int16 [K, J, I]."""
    _, j, i = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(shape, _AXES, strict=True))
    clean = 100.0 * (j**2 + i**2 < 0.8) + 150.0 * (labels(shape) == BALL)
    clean = clean + 250.0 * (labels(shape) == EGG)
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return np.clip(clean + noise, 0, None).astype(np.int16)


def drawn(index: int = DRAWN) -> np.ndarray:
    """The structures on one slice only."""
    result = np.zeros(SHAPE, np.uint8)
    result[index] = labels()[index]
    return result


def save(path: Path, array: np.ndarray) -> Path:
    """Write voxels [K, J, I] on the phantom's grid (or a grid of their own size)."""
    image = sitk.GetImageFromArray(array)
    if image.GetDimension() == 3:
        image.SetSpacing((1.5, 1.5, 4.0))
        image.SetOrigin((-40.0, 12.5, 300.0))
        turn = np.deg2rad(20)
        c, s = np.cos(turn), np.sin(turn)
        image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return path


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
