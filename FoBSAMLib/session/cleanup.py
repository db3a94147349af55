"""Clean-up of found masks; what the user drew is never touched."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Parts smaller than this share of the mask are dropped, holes smaller than it are filled.
SMALL = 0.05


def clean(mask: np.ndarray) -> np.ndarray:
    """A found mask, bool [H, W], without specks and pinholes."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    limit = SMALL * sizes[1:].sum()
    keep = sizes >= limit
    keep[0] = False
    kept = keep[labels]
    holes, _ = ndimage.label(~kept)
    sizes = np.bincount(holes.ravel())
    outside = np.unique(np.r_[holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    fill = sizes < limit
    fill[outside] = False
    fill[0] = False
    return np.asarray(kept | fill[holes])
