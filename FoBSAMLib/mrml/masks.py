"""Segments as masks on a grid, cut out where they are: never arrays of a volume's size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import slicer

from FoBSAMLib.image.volume import ARRAY_AXIS, Axis
from FoBSAMLib.mrml.labelmaps import (
    BINARY_LABELMAP,
    array_of,
    geometry_of,
    labelmap_of,
    shift_onto,
    start_of,
)
from FoBSAMLib.mrml.volumes import node_to_world

#: Slices of two grids are parallel when they part by less than this, in voxels, over a mask.
PARALLEL = 0.5

#: How far another grid is moved, in voxels, so that nearest voxels are the same every time.
OFF_CENTRE = (1.1e-4, 1.3e-4, 1.7e-4)


@dataclass(frozen=True)
class Patch:
    """A mask cut out of a grid: bool [k, j, i], and the index (K, J, I) of its first voxel."""

    voxels: np.ndarray
    start: tuple[int, int, int]

    def indices(self, axis: Axis) -> np.ndarray:
        """Which slices along an axis the mask touches, ascending."""
        others = tuple(n for n in range(3) if n != ARRAY_AXIS[axis])
        touched = np.flatnonzero(self.voxels.any(axis=others))
        return touched + self.start[ARRAY_AXIS[axis]]

    def slices(self, axis: Axis) -> Iterator[tuple[int, np.ndarray, tuple[int, int]]]:
        """Each slice the mask touches: its index, its mask, and (row, column) of its first pixel.

        Rows and columns are those of `Volume.take`.
        """
        n = ARRAY_AXIS[axis]
        row, column = self.start[:n] + self.start[n + 1 :]
        slices = np.moveaxis(self.voxels, n, 0)
        for index in self.indices(axis):
            yield int(index), slices[index - self.start[n]], (row, column)

    def cropped(self) -> Patch:
        """The same mask without empty slices around it; no voxels for an empty mask."""
        box = _box(self.voxels, True)
        if box is None:
            return Patch(np.zeros((0, 0, 0), bool), self.start)
        k, j, i = (a + b.start for a, b in zip(self.start, box, strict=True))
        return Patch(self.voxels[box], (k, j, i))


@dataclass(frozen=True)
class SegmentMask:
    """A segment as it is stored: a patch of its labelmap's grid, and where that grid lies."""

    patch: Patch
    ijk_to_world: np.ndarray

    @cached_property
    def ijk(self) -> np.ndarray:
        """Indices [N, 3] of its voxels, in the order i, j, k."""
        voxels = self.patch.voxels
        kji = np.unravel_index(np.flatnonzero(voxels), voxels.shape)
        return np.stack(
            [n + start for n, start in zip(kji, self.patch.start, strict=True)][::-1], 1
        )

    @cached_property
    def points(self) -> np.ndarray:
        """Its voxels in world, float64 [N, 3] in mm."""
        return np.asarray(self.ijk @ self.ijk_to_world[:3, :3].T + self.ijk_to_world[:3, 3])


def read_segments(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]
) -> dict[str, SegmentMask]:
    """The masks of segments by ID; those without voxels are left out.

    Raises FoBSAMError for a parent transform that is not linear.
    """
    to_world = node_to_world(segmentation_node)
    segmentation = segmentation_node.GetSegmentation()
    # Segments that do not overlap share a labelmap: each is read once for all of them.
    labelmaps: dict[slicer.vtkOrientedImageData, dict[str, int]] = {}
    for segment_id in segment_ids:
        segment = segmentation.GetSegment(segment_id)
        labelmap = segment.GetRepresentation(BINARY_LABELMAP)
        if labelmap is not None and not labelmap.IsEmpty():
            labelmaps.setdefault(labelmap, {})[segment_id] = segment.GetLabelValue()
    result: dict[str, SegmentMask] = {}
    for labelmap, values in labelmaps.items():
        geometry = to_world @ geometry_of(labelmap)
        for segment_id, patch in _patches(labelmap, values):
            result[segment_id] = SegmentMask(patch, geometry)
    return result


def place(
    mask: SegmentMask, ijk_to_world: np.ndarray, shape: tuple[int, int, int], axis: Axis
) -> Patch:
    """A segment's mask on another grid of ``shape`` (K, J, I), the part that lies on it.

    On the same grid voxels are taken as they are, on another the nearest. A slice drawn between
    two slices of the other grid belongs to the nearer one, for slices along ``axis``.
    """
    patch = mask.patch
    shift = shift_onto(ijk_to_world, patch.voxels.shape, mask.ijk_to_world, patch.start)
    if shift is None:
        to_grid = np.linalg.inv(ijk_to_world) @ mask.ijk_to_world
        to_grid[:3, 3] += to_grid[:3, :3] @ patch.start[::-1]
        # Halfway between two voxels a rounding error must not decide which one is nearest.
        to_grid[:3, 3] += OFF_CENTRE
        voxels, to_grid = _join_slices(patch.voxels, to_grid, "ijk".index(axis))
        return _resampled(voxels, to_grid, shape).cropped()
    start = np.add(patch.start, shift)
    first = np.maximum(start, 0)
    last = np.maximum(np.minimum(start + patch.voxels.shape, shape), first)
    box = tuple(slice(a, b) for a, b in zip(first - start, last - start, strict=True))
    return Patch(patch.voxels[box], (int(first[0]), int(first[1]), int(first[2]))).cropped()


def parallel(to_grid: np.ndarray, shape: tuple[int, ...], axis: int) -> int | None:
    """Which of a mask's own slices are also slices of a grid along an axis; None if none are.

    ``to_grid`` maps the mask's indices (i, j, k, 1) to the grid's, ``shape`` is the mask's
    (k, j, i); axes count i, j, k.
    """
    steps = np.abs(to_grid[axis, :3])
    own = int(np.argmax(steps))
    across = np.delete(steps * shape[::-1], own).sum()
    return own if across < PARALLEL else None


def _patches(
    labelmap: slicer.vtkOrientedImageData, values: dict[str, int]
) -> Iterator[tuple[str, Patch]]:
    """Patches, cut out of a labelmap, of the segments that have a label value in it."""
    labels, origin = array_of(labelmap), start_of(labelmap)
    for segment_id, value in values.items():
        box = _box(labels, value)
        if box is not None:
            k, j, i = (int(a + b.start) for a, b in zip(origin, box, strict=True))
            yield segment_id, Patch(labels[box] == value, (k, j, i))


def _box(labels: np.ndarray, value: int | bool) -> tuple[slice, slice, slice] | None:
    """Where a label is in a labelmap [k, j, i]: the smallest box, None for nowhere.

    Slice by slice, which stays in the processor's cache: a large labelmap takes some 15 ms.
    """
    where = [np.zeros(n, bool) for n in labels.shape]
    for k, plane in enumerate(labels):
        mask = plane == value
        rows = mask.any(axis=1)
        if rows.any():
            where[0][k] = True
            where[1] |= rows
            where[2] |= mask.any(axis=0)
    if not where[0].any():
        return None
    touched = map(np.flatnonzero, where)
    in_k, in_j, in_i = (slice(int(one[0]), int(one[-1]) + 1) for one in touched)
    return in_k, in_j, in_i


def _join_slices(
    voxels: np.ndarray, to_grid: np.ndarray, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Own slices that are finer than the grid's along an axis, each put into the nearest slice.

    Taking the nearest voxel would lose those that lie between two slices. Returns the mask and
    its matrix, with slices exactly on the grid's; others as they were.
    """
    own = parallel(to_grid, voxels.shape, axis)
    if own is None or abs(to_grid[axis, own]) >= 1:
        return voxels, to_grid
    centre = (np.array(voxels.shape[::-1]) - 1) / 2
    centre[own] = 0
    start = to_grid[axis, :3] @ centre + to_grid[axis, 3]
    slices = np.rint(start + to_grid[axis, own] * np.arange(voxels.shape[2 - own])).astype(int)
    if slices[0] > slices[-1]:
        voxels, slices = np.flip(voxels, 2 - own), slices[::-1]
        to_grid = to_grid.copy()
        to_grid[:3, 3] += to_grid[:3, own] * (len(slices) - 1)
        to_grid[:3, own] *= -1
    firsts = np.flatnonzero(np.diff(slices, prepend=slices[0] - 1))
    joined = np.logical_or.reduceat(voxels, firsts, axis=2 - own)
    result = to_grid.copy()
    result[axis] = 0
    result[axis, own], result[axis, 3] = 1, slices[0]
    return joined, result


def _resampled(voxels: np.ndarray, to_grid: np.ndarray, shape: tuple[int, int, int]) -> Patch:
    """A mask [k, j, i] on another grid: the nearest of its voxels at each voxel of the grid."""
    corners = (to_grid @ _corners(voxels.shape, 0.5))[:3]
    first = np.maximum(np.floor(corners.min(axis=1)).astype(int), 0)
    last = np.minimum(np.ceil(corners.max(axis=1)).astype(int), np.array(shape[::-1]) - 1)
    i, j, k = (int(n) for n in first)
    if np.any(first > last):
        return Patch(np.zeros((0, 0, 0), bool), (0, 0, 0))
    grid, result = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    grid.SetExtent(*(int(n) for pair in zip(first, last, strict=True) for n in pair))
    source = labelmap_of(np.ascontiguousarray(voxels, np.uint8), to_grid)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source, grid, result
    )
    return Patch(array_of(result) > 0, (k, j, i))


def _corners(shape: tuple[int, ...], border: float) -> np.ndarray:
    """Indices [4, 8], (i, j, k, 1), of the corner voxels of a box of shape (k, j, i)."""
    ends = [(-border, n - 1 + border) for n in shape[::-1]]
    return np.stack([*np.meshgrid(*ends), np.ones((2, 2, 2))]).reshape(4, 8)
