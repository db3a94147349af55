"""What FoBSAM keeps with a segment, in its tags: slices it found, slices without the structure.

Tags are saved with the segmentation (``.seg.nrrd``, ``.mrb``). An accepted slice must not count
as annotated in the next run, so its checksum is kept: once somebody edits it, the checksum
differs and it is a support like any other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume
from FoBSAMLib.mrml.labelmaps import world_to_node

FOUND = "FoBSAM.Found"
ABSENT = "FoBSAM.Absent"


@dataclass(frozen=True)
class SliceGrid:
    """The slices along an axis of a grid of ``shape`` (K, J, I): what a slice's index refers to.

    ``ijk_to_node`` is in the coordinates of the segmentation node, so that a segmentation that
    is moved together with its volume keeps its tags.
    """

    axis: Axis
    ijk_to_node: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(
        cls,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        ijk_to_world: np.ndarray,
        shape: tuple[int, int, int],
        axis: Axis,
    ) -> SliceGrid:
        """The grid as seen from a segmentation node, whose parent transform must be linear."""
        return cls(axis, world_to_node(segmentation_node) @ ijk_to_world, shape)

    def same(self, other: SliceGrid) -> bool:
        """Whether an index stands for the same slice in both, within 0.1 voxel."""
        this = Volume(np.broadcast_to(np.uint8(0), self.shape), self.ijk_to_node)
        return self.axis == other.axis and this.same_grid(other.shape, other.ijk_to_node)


def checksum(mask: np.ndarray, origin: tuple[int, int] = (0, 0)) -> int:
    """The checksum of one slice's mask, bool [H, W].

    A mask that is cut out of its slice has the same one when ``origin`` says at which
    (row, column) its first pixel lies.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=n)) for n in (1, 0))
    if not len(rows):
        return 0
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    place = (origin[0] + int(rows[0]), origin[1] + int(columns[0]), *box.shape)
    return zlib.crc32(np.packbits(box).tobytes(), zlib.crc32(repr(place).encode()))


def found(
    segment: slicer.vtkSegment, grid: SliceGrid, checksums: Mapping[int, int]
) -> tuple[int, ...]:
    """Which slices were accepted from a run and not edited since.

    ``checksums`` (see `checksum`) are those of the segment's slices as they are now. Slices
    found on another grid are not known any more and count as annotated.
    """
    kept = _slices_on(grid, _read(segment, FOUND), {})
    return tuple(sorted(n for n, value in checksums.items() if kept.get(str(n)) == value))


def found_grid(segment: slicer.vtkSegment) -> SliceGrid | None:
    """The grid of the run from which slices were accepted, None where none were.

    A segment filled from a plane drawn in an oblique view does not show that plane any more.
    """
    content = _read(segment, FOUND)
    return _grid_in(content) if content and content["slices"] else None


def mark_found(segment: slicer.vtkSegment, grid: SliceGrid, checksums: Mapping[int, int]) -> None:
    """Keep which slices were accepted, with the checksums that they have in the segment.

    Earlier ones on the same grid are kept, those on another grid forgotten.
    """
    slices = dict(_slices_on(grid, _read(segment, FOUND), {}))
    slices |= {str(n): int(value) for n, value in checksums.items()}
    _write(segment, FOUND, grid, dict(sorted(slices.items(), key=lambda item: int(item[0]))))


def forget_found(segment: slicer.vtkSegment, grid: SliceGrid, indices: Iterable[int]) -> None:
    """Make accepted slices count as annotated."""
    slices = dict(_slices_on(grid, _read(segment, FOUND), {}))
    dropped = {str(n) for n in indices}
    if dropped & set(slices):
        kept = {n: value for n, value in slices.items() if n not in dropped}
        _write(segment, FOUND, grid, kept)


def absent(segment: slicer.vtkSegment, grid: SliceGrid) -> tuple[int, ...]:
    """Slices of which the user said that they do not hold the structure."""
    return tuple(_slices_on(grid, _read(segment, ABSENT), ()))


def mark_absent(segment: slicer.vtkSegment, grid: SliceGrid, indices: Iterable[int]) -> None:
    """Keep which slices do not hold the structure, in place of those kept before."""
    _write(segment, ABSENT, grid, sorted({int(n) for n in indices}))


def _slices_on(grid: SliceGrid, content: dict[str, Any] | None, otherwise: Any) -> Any:
    return content["slices"] if content and _grid_in(content).same(grid) else otherwise


def _grid_in(content: dict[str, Any]) -> SliceGrid:
    k, j, i = content["shape"]
    return SliceGrid(content["axis"], np.reshape(content["matrix"], (4, 4)), (k, j, i))


def _read(segment: slicer.vtkSegment, name: str) -> dict[str, Any] | None:
    """A tag's content; None where it is missing, or not ours to understand (edited by hand)."""
    # PythonVTK hands a reference to a std::string over by vtk.reference.
    value = vtk.reference("")
    if not segment.GetTag(name, value):
        return None
    try:
        content = json.loads(str(value))
        sound = (
            content["axis"] in ARRAY_AXIS
            and len(content["shape"]) == 3
            and np.isfinite(np.asarray(content["matrix"], float)).sum() == 16
            and isinstance(content["slices"], {FOUND: dict, ABSENT: list}[name])
        )
    except (KeyError, TypeError, ValueError):
        return None
    return content if sound else None


def _write(segment: slicer.vtkSegment, name: str, grid: SliceGrid, slices: Any) -> None:
    if not slices:
        segment.RemoveTag(name)
        return
    content = {
        "axis": grid.axis,
        "shape": list(grid.shape),
        # All digits: of an oblique grid, which voxel is nearest to a pixel hangs on the last ones.
        "matrix": [float(value) for value in grid.ijk_to_node.ravel()],
        "slices": slices,
    }
    segment.SetTag(name, json.dumps(content, separators=(",", ":")))
