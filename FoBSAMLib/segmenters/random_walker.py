"""Segmenters without weights: Grady's random walker (IEEE TPAMI 2006), two ways of seeding."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import random_walker

from FoBSAMLib.prompts import Prompts

# Seed values as scikit-image takes them.
_OUTSIDE, _UNKNOWN, _FOREGROUND, _BACKGROUND = -1, 0, 1, 2
_BETA = 100.0


class RandomWalkerSegmenter:
    """Random walker seeded by the prompts alone, in their bounding box.

    The box's border counts as background, except where the box ends with the slice.
    """

    name = "random-walker"

    def embed(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(image, np.float32)

    def segment(
        self, embedding: np.ndarray, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """See ``Segmenter.segment``; ``prior`` is not used. No foreground point: all zero."""
        shape = embedding.shape[:2]
        probability = np.zeros(shape, np.float32)
        foreground = _pixels(prompts.foreground, shape)
        background = _pixels(prompts.background, shape)
        if not len(foreground):
            return probability
        box = _box(np.concatenate([foreground, background]), shape, has_ring=len(background) > 0)
        seeds = np.full(shape, _UNKNOWN, np.int8)
        _mark_border(seeds, box)
        _mark(seeds, foreground, background)
        probability[box] = _solve(embedding[box], seeds[box])
        return probability


class CompactSegmenter:
    """The generator's dense probability, with the random walker where it is unsure.

    Pixels whose prior has a logit of ``sure`` or more in size are kept as seeds; points given
    beside a prior (a user's correction) are further seeds. Without a prior this is
    ``RandomWalkerSegmenter``.
    """

    name = "compact"

    def __init__(self, sure: float = 2.0) -> None:
        self._lowest = 1.0 / (1.0 + np.exp(sure))
        self._from_prompts = RandomWalkerSegmenter()

    def embed(self, image: np.ndarray) -> np.ndarray:
        return self._from_prompts.embed(image)

    def segment(
        self, embedding: np.ndarray, prompts: Prompts, prior: np.ndarray | None = None
    ) -> np.ndarray:
        """See ``Segmenter.segment``; 0 or 1 where the prior is sure."""
        if prior is None:
            return self._from_prompts.segment(embedding, prompts)
        shape = embedding.shape[:2]
        seeds = np.full(shape, _UNKNOWN, np.int8)
        seeds[prior <= self._lowest] = _BACKGROUND
        seeds[prior >= 1.0 - self._lowest] = _FOREGROUND
        _mark(seeds, _pixels(prompts.foreground, shape), _pixels(prompts.background, shape))
        unknown = seeds == _UNKNOWN
        if unknown.all():
            return np.asarray(prior, np.float32)
        probability = (seeds == _FOREGROUND).astype(np.float32)
        if unknown.any():
            # Only seeds that touch the band bear on it; leaving out the rest is exact.
            band = ndimage.binary_dilation(unknown)
            box = ndimage.find_objects(band.astype(np.int8))[0]
            seeds[~band] = _OUTSIDE
            probability[box][unknown[box]] = _solve(embedding[box], seeds[box])[unknown[box]]
        return probability


def _pixels(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(x, y) points as (row, column) of the pixels they lie in; those outside are left out."""
    points = np.asarray(points, np.float64).reshape(-1, 2)
    pixels = np.rint(points[np.isfinite(points).all(axis=1)])[:, ::-1]
    return pixels[((pixels >= 0) & (pixels < shape)).all(axis=1)].astype(int)


def _box(pixels: np.ndarray, shape: tuple[int, ...], *, has_ring: bool) -> tuple[slice, slice]:
    """The pixels' bounding box with a margin: wide where no background points enclose it."""
    low, high = pixels.min(axis=0), pixels.max(axis=0) + 1
    margin = np.full(2, 2) if has_ring else np.maximum(8, (high - low) // 2)
    rows, columns = np.transpose([np.maximum(low - margin, 0), np.minimum(high + margin, shape)])
    return slice(*rows), slice(*columns)


def _mark_border(seeds: np.ndarray, box: tuple[slice, slice]) -> None:
    """Mark the box's border as background on the sides that lie within the slice."""
    (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
    height, width = seeds.shape
    inside = seeds[box]
    if top > 0:
        inside[0] = _BACKGROUND
    if bottom < height:
        inside[-1] = _BACKGROUND
    if left > 0:
        inside[:, 0] = _BACKGROUND
    if right < width:
        inside[:, -1] = _BACKGROUND


def _mark(seeds: np.ndarray, foreground: np.ndarray, background: np.ndarray) -> None:
    seeds[tuple(background.T)] = _BACKGROUND
    seeds[tuple(foreground.T)] = _FOREGROUND


def _solve(image: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The probability of foreground in a crop, image [h, w] or [h, w, 3], seeds [h, w]."""
    foreground = seeds == _FOREGROUND
    one_class = not (foreground.any() and (seeds == _BACKGROUND).any())
    if one_class or not (seeds == _UNKNOWN).any():
        return np.full(seeds.shape, foreground.any()) if one_class else foreground
    probabilities = random_walker(
        _scaled(image),
        seeds,
        beta=_BETA,
        mode="cg_j",
        return_full_prob=True,
        prob_tol=np.inf,
        channel_axis=-1 if image.ndim == 3 else None,
    )
    return np.clip(probabilities[0], 0.0, 1.0)


def _scaled(image: np.ndarray) -> np.ndarray:
    """The crop at unit spread, so that beta means the same whatever the image's units."""
    image = image.astype(np.float64)
    spread = image.std()
    if spread > 1e-6 * max(1.0, float(np.abs(image).max())):
        return image / spread
    # scikit-image divides by the spread: a constant crop gets a slope too faint to matter.
    ramp = np.arange(image.size, dtype=np.float64).reshape(image.shape)
    return 1e-9 * ramp
