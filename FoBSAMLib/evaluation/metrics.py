"""How well a mask agrees with the truth: overlap, and distances of the surfaces in millimetres.

Empty masks: where both masks are empty they agree perfectly (Dice and surface Dice 1, distance
0). Where only one is empty nothing agrees (Dice and surface Dice 0), and the distance is the
diagonal of the volume: a finite worst case, so that a missed structure pulls a mean down
instead of dropping out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from FoBSAMLib.errors import FoBSAMError

try:
    import surface_distance
except ImportError as error:
    raise FoBSAMError(
        "bad_request",
        f"Nothing can be evaluated here ({error}).",
        "Install it: pip install surface-distance.",
    ) from error

#: Surfaces closer than this agree, in mm.
TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class SurfaceAgreement:
    """95th percentile of the surface distance, and the share of surface within tolerance."""

    hd95_mm: float
    surface_dice: float


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of ``count`` values (deviation 0 for one value)."""

    mean: float
    std: float
    count: int


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Dice overlap of two bool masks of one shape, 0 to 1."""
    voxels = int(np.count_nonzero(truth)) + int(np.count_nonzero(found))
    return 2.0 * int(np.count_nonzero(truth & found)) / voxels if voxels else 1.0


def surface_agreement(
    truth: np.ndarray, found: np.ndarray, spacing: Sequence[float]
) -> SurfaceAgreement:
    """Surface distances of two bool masks [K, J, I] with ``spacing`` in mm along (i, j, k).

    Distances are weighted by the area of the surface they belong to (Nikolov et al. 2018).
    HD95 is the larger of the two directed 95th percentiles.
    """
    sizes = tuple(spacing)[::-1]
    if not truth.any() and not found.any():
        return SurfaceAgreement(0.0, 1.0)
    if not truth.any() or not found.any():
        return SurfaceAgreement(float(np.linalg.norm(np.multiply(truth.shape, sizes))), 0.0)
    distances = surface_distance.compute_surface_distances(truth, found, sizes)
    return SurfaceAgreement(
        float(surface_distance.compute_robust_hausdorff(distances, 95)),
        float(surface_distance.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)),
    )


def summarise(values: Iterable[float]) -> Summary:
    """Mean and spread of at least one value."""
    array = np.fromiter(values, float)
    return Summary(float(array.mean()), float(array.std(ddof=min(1, array.size - 1))), array.size)
