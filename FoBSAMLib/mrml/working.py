"""On which grid a run works: the volume's own voxels, or an oblique one through a drawn plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.oblique import plane_grid
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume
from FoBSAMLib.mrml.masks import Patch, SegmentMask, parallel, place
from FoBSAMLib.mrml.naming import orientation, slice_normal
from FoBSAMLib.mrml.sheets import Sheets, find_sheets, sections, sheets_along

IJK: tuple[Axis, ...] = ("i", "j", "k")
#: Up to so many slices in a row are taken for slices even where the mask is as small across.
FEW = 3
#: A slice view is oblique when its normal is farther off every index axis, in degrees.
ALIGNED = 0.5


@dataclass(frozen=True)
class WorkingGrid:
    """The slices along an axis of a grid of ``shape`` (K, J, I), in world.

    ``sheets`` are the planes that segments, by ID, were found to consist of in an oblique grid.
    """

    axis: Axis
    ijk_to_world: np.ndarray
    shape: tuple[int, int, int]
    oblique: bool = False
    sheets: Mapping[str, Sheets] = field(default_factory=dict)

    def slices(
        self, segment_id: str, mask: SegmentMask
    ) -> dict[int, tuple[np.ndarray, tuple[int, int]]]:
        """A segment's slices: masks cut out of them, each with its first pixel (row, column)."""
        if segment_id in self.sheets:
            whole = sections(mask, self.sheets[segment_id], self.ijk_to_world, self.shape)
            return {index: (section, (0, 0)) for index, section in whole.items() if section.any()}
        patch = place(mask, self.ijk_to_world, self.shape, self.axis)
        return {index: (part, origin) for index, part, origin in patch.slices(self.axis)}

    def same(self, other: WorkingGrid) -> bool:
        """Whether an index stands for the same slice in both, within 0.1 voxel."""
        this = Volume(np.broadcast_to(np.uint8(0), self.shape), self.ijk_to_world)
        return self.axis == other.axis and this.same_grid(other.shape, other.ijk_to_world)

    def word(self) -> str:
        """What its slices are called."""
        return "oblique" if self.oblique else orientation(self.ijk_to_world, self.axis)


#: How a mask is drawn: along one of these axes, in these planes, or as known from a run.
Look = set[Axis] | Sheets | WorkingGrid


def oblique_grid(volume: Volume, point: np.ndarray, normal: np.ndarray) -> WorkingGrid:
    """The working grid with one slice in a plane."""
    matrix, shape = plane_grid(volume.ijk_to_ras, volume.shape, point, normal)
    return WorkingGrid("k", matrix, shape, oblique=True)


def working_grid(
    volume: Volume,
    masks: Mapping[str, SegmentMask],
    names: Mapping[str, str],
    known: Mapping[str, WorkingGrid],
    normals: Sequence[np.ndarray] = (),
) -> WorkingGrid:
    """The grid whose slices masks, by segment ID, are drawn on.

    Args:
        names: of the structures, for people.
        known: the grids of an earlier run, which a mask filled by it does not show any more.
        normals: of the slice views, in world.

    Raises:
        FoBSAMError: not drawn on slices, or on slices of different axes.
    """
    single = [axis for axis in IJK if volume.slice_count(axis) == 1]
    if single:
        return WorkingGrid(single[-1], volume.ijk_to_ras, volume.shape)
    looks: dict[str, Look] = {
        one: known.get(one) or _look(names[one], mask, volume, normals)
        for one, mask in masks.items()
    }
    grid = _decide(volume, masks, looks)
    if grid is None:
        words = {names[one]: _word(volume, look) for one, look in looks.items()}
        parts = [f"{name} is drawn on {word} slices" for name, word in words.items()]
        raise FoBSAMError(
            "bad_request",
            ", ".join(parts) + ".",
            "Choose segments that are drawn in the same view; run the others by themselves.",
        )
    return grid


def _decide(
    volume: Volume, masks: Mapping[str, SegmentMask], looks: Mapping[str, Look]
) -> WorkingGrid | None:
    """The grid on which all masks are drawn, None where there is none."""
    known = [look for look in looks.values() if isinstance(look, WorkingGrid)]
    sheets = [one for one, look in looks.items() if isinstance(look, Sheets)]
    if known:
        grid = known[0]
        if not all(grid.same(other) for other in known):
            return None
    elif sheets:
        main = looks[max(sheets, key=lambda one: np.count_nonzero(masks[one].patch.voxels))]
        assert isinstance(main, Sheets)
        grid = oblique_grid(volume, main.normal * main.planes[0].offset, main.normal)
    else:
        return _aligned(volume, [look for look in looks.values() if isinstance(look, set)])
    others = {one: look for one, look in looks.items() if not isinstance(look, WorkingGrid)}
    if not grid.oblique:
        fit = all(isinstance(look, set) and grid.axis in look for look in others.values())
        return grid if fit else None
    normal = slice_normal(grid.ijk_to_world, grid.axis)
    found = {one: sheets_along(masks[one], normal) for one in others}
    drawn = {one: planes for one, planes in found.items() if planes is not None}
    return replace(grid, sheets=drawn) if len(drawn) == len(found) else None


def _aligned(volume: Volume, axes: Sequence[set[Axis]]) -> WorkingGrid | None:
    """The volume's own grid along the axis that all masks may be drawn along."""
    common = set(IJK).intersection(*axes)
    if len(common) > 1:
        words = [orientation(volume.ijk_to_ras, axis) for axis in sorted(common)]
        raise FoBSAMError(
            "bad_request",
            f"What is drawn is so small that it may lie on {' or '.join(words)} slices.",
            "Paint more of it, or choose the axis.",
        )
    return WorkingGrid(common.pop(), volume.ijk_to_ras, volume.shape) if common else None


def _look(
    name: str, mask: SegmentMask, volume: Volume, normals: Iterable[np.ndarray]
) -> set[Axis] | Sheets:
    """The volume's axes along which a mask may be drawn (several for a dot or a line), or the
    planes across which it is drawn in the volume."""
    touched = {axis: mask.patch.indices(axis) for axis in IJK}
    runs = {axis: (_longest_run(touched[axis]), len(touched[axis])) for axis in IJK}
    run, count = min(runs.values())
    likely = [axis for axis in IJK if runs[axis] == (run, count)]
    own = [slice_normal(mask.ijk_to_world, axis) for axis in IJK]
    # A view along an index axis shows slices, which need no fit.
    tilted = [n for n in normals if np.abs(own @ n).max() < np.cos(np.radians(ALIGNED))]
    sheets = None
    if run > 1:
        sheets = find_sheets(mask, tilted, count, fit=run > FEW or _abut(mask.patch, likely[0]))
    if sheets is None and run <= FEW < count:
        # A tilted plane is painted as rows of voxels, far from each other where slices are thick.
        sheets = find_sheets(mask, tilted, 2, fit=True)
    if sheets is not None:
        return sheets
    to_volume = np.linalg.inv(volume.ijk_to_ras) @ mask.ijk_to_world
    shape = mask.patch.voxels.shape
    own_of = {axis: parallel(to_volume, shape, n) for n, axis in enumerate(IJK)}
    axes = {axis for axis, n in own_of.items() if n is not None and IJK[n] in likely}
    second = sorted(other for other, _ in runs.values())[1]
    if not (len(likely) > 1 < run or FEW < run > second / 2):
        # Slices of its own grid may lie obliquely in the volume.
        look = axes or sheets_along(mask, own[IJK.index(likely[0])])
        if look:
            return look
    size = " × ".join(str(len(touched[axis])) for axis in IJK)
    raise FoBSAMError(
        "bad_request",
        f"{name} is drawn neither on single slices nor in a plane: it reaches over {size} voxels.",
        "Keep the mask on single slices: paint in a slice view, without the sphere brush.",
    )


def _longest_run(touched: np.ndarray) -> int:
    """How many slices, at most, follow each other in ascending indices."""
    ends = np.flatnonzero(np.diff(touched, append=touched[-1] + 2) > 1)
    return int(np.diff(ends, prepend=-1).max())


def _abut(patch: Patch, axis: Axis) -> bool:
    """Whether a mask goes on beside itself from slice to slice, as a tilted plane does; slices
    that were painted one by one lie above each other."""
    slices = np.moveaxis(patch.voxels, ARRAY_AXIS[axis], 0)
    sizes = np.count_nonzero(slices, axis=(1, 2))
    above = np.count_nonzero(slices[1:] & slices[:-1])
    return above < np.minimum(sizes[1:], sizes[:-1]).sum() / 2


def _word(volume: Volume, look: Look) -> str:
    """What the slices are called on which a mask is drawn."""
    if isinstance(look, set):
        return orientation(volume.ijk_to_ras, min(look))
    return look.word() if isinstance(look, WorkingGrid) else "oblique"
