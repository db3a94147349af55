"""Pseudo-organs for self-supervised training: supervoxels of one volume at several sizes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import graph, segmentation

#: Mean volume of the finest supervoxels, in mm³, and its bounds in number.
FINEST = 8_000.0
COUNT = (300, 3000)
#: Neighbouring supervoxels whose mean intensities (z-scores) differ by less are merged.
MERGE_BELOW = (0.12, 0.25)


def supervoxels(image: np.ndarray, spacing: tuple[float, float, float]) -> list[np.ndarray]:
    """Oversegment a volume; coarser levels merge neighbours of like intensity, as organs do.

    Args:
        image: z-scored, float32 [K, H, W].
        spacing: mm along (K, H, W).

    Returns:
        One label map a level, uint16 [K, H, W], finest first; 0 is background (air).
    """
    smooth = ndimage.gaussian_filter(image, [0.0, 1.0, 1.0])
    body = _body(smooth)
    volume = body.sum() * float(np.prod(spacing))
    count = int(np.clip(volume / FINEST, *COUNT))
    finest = segmentation.slic(
        smooth,
        n_segments=count,
        compactness=0.05,
        spacing=spacing,
        mask=body,
        channel_axis=None,
        enforce_connectivity=True,
        max_num_iter=5,
    )
    levels = [finest]
    for threshold in MERGE_BELOW:
        neighbours = graph.rag_mean_color(smooth[..., None].repeat(3, -1), finest)
        if neighbours.has_node(0):
            neighbours.remove_node(0)
        merged = graph.cut_threshold(finest, neighbours, threshold * np.sqrt(3), in_place=False)
        levels.append(np.where(finest > 0, merged + 1, 0))
    return [level.astype(np.uint16) for level in levels]


def _body(image: np.ndarray) -> np.ndarray:
    """Where the patient is: all but the air around."""
    dark, bright = np.percentile(image, (1, 95))
    return np.asarray(image > dark + 0.1 * (bright - dark))
