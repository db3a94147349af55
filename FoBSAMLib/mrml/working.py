"""On which grid a run works: the volume's own voxels, or an oblique one through a drawn plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.mrml.masks import Patch, SegmentMask, parallel
from FoBSAMLib.mrml.naming import orientation

IJK: tuple[Axis, ...] = ("i", "j", "k")
#: Up to so many slices in a row are taken for slices even where the mask is as small across.
FEW = 3


@dataclass(frozen=True)
class WorkingGrid:
    """The slices along an axis of a grid of ``shape`` (K, J, I), in world."""

    axis: Axis
    ijk_to_world: np.ndarray
    shape: tuple[int, int, int]
    oblique: bool = False


def working_grid(volume: Volume, masks: Mapping[str, SegmentMask]) -> WorkingGrid:
    """The grid whose slices the masks, by structure name, are drawn on.

    Raises FoBSAMError where they are not drawn on slices, or on slices of different axes.
    """
    axes = {name: _axes(name, mask, volume) for name, mask in masks.items()}
    common = set(IJK).intersection(*axes.values())
    if len(common) > 1:
        words = [orientation(volume.ijk_to_ras, axis) for axis in sorted(common)]
        raise FoBSAMError(
            "bad_request",
            f"{next(iter(masks))} could be drawn on {' or '.join(words)} slices.",
            "Paint more of it, or choose the axis.",
        )
    if not common:
        raise different_axes({n: orientation(volume.ijk_to_ras, min(a)) for n, a in axes.items()})
    return WorkingGrid(common.pop(), volume.ijk_to_ras, volume.shape)


def different_axes(words: Mapping[str, str]) -> FoBSAMError:
    """The error for structures, by name, drawn on slices that these words name."""
    parts = [f"{name} is drawn on {word} slices" for name, word in words.items()]
    return FoBSAMError(
        "bad_request",
        ", ".join(parts) + ".",
        "Choose segments that are drawn in the same view, and run the others after them.",
    )


def _axes(name: str, mask: SegmentMask, volume: Volume) -> set[Axis]:
    """The volume's axes along which a mask may be drawn: one, or several for a dot or a line."""
    counts = {axis: mask.patch.count(axis) for axis in IJK}
    runs = {axis: (_longest_run(mask.patch, axis), counts[axis]) for axis in IJK}
    fewest = min(runs.values())
    likely = [axis for axis in IJK if runs[axis] == fewest]
    second = sorted(run for run, _ in runs.values())[1]
    if (len(likely) > 1 and fewest[0] > 1) or FEW < fewest[0] > second / 2:
        raise FoBSAMError(
            "bad_request",
            f"{name} is drawn neither on single slices nor in a plane: it is "
            f"{' × '.join(map(str, counts.values()))} voxels large.",
            "Keep the mask on single slices: paint in a slice view, without the sphere brush.",
        )
    to_volume = np.linalg.inv(volume.ijk_to_ras) @ mask.ijk_to_world
    shape = mask.patch.voxels.shape
    return {
        axis
        for n, axis in enumerate(IJK)
        if (own := parallel(to_volume, shape, n)) is not None and IJK[own] in likely
    }


def _longest_run(patch: Patch, axis: Axis) -> int:
    """How many slices in a row, at most, a mask touches along an axis."""
    touched = [index for index, _, _ in patch.slices(axis)]
    ends = np.flatnonzero(np.diff(touched, append=touched[-1] + 2) > 1)
    return int(np.diff(ends, prepend=-1).max())
