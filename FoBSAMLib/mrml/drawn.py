"""What the user has drawn: a segmentation node's annotated slices, on the grid of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import slicer
import vtk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.oblique import covers
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume
from FoBSAMLib.mrml import tags
from FoBSAMLib.mrml.labelmaps import BINARY_LABELMAP, to_numpy
from FoBSAMLib.mrml.masks import SegmentMask, read_segments
from FoBSAMLib.mrml.naming import orientation
from FoBSAMLib.mrml.volumes import node_to_world, read_volume
from FoBSAMLib.mrml.working import WorkingGrid, working_grid
from FoBSAMLib.session.support import Support


@dataclass(frozen=True)
class DrawnStructure:
    """One segment: its annotated slices by index, bool [H, W] on the working grid.

    ``absent`` are slices said not to hold it, ``found`` slices accepted from an earlier run and
    not edited since; these are no supports.
    """

    segment_id: str
    structure: Structure
    masks: dict[int, np.ndarray]
    absent: tuple[int, ...]
    found: tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """What is drawn for a volume, on the working grid of ``shape`` (K, J, I).

    That grid is the volume's own, or an oblique one with its slices along "k" where the user
    has drawn in an oblique view; ``ijk_to_world`` is its matrix.
    """

    volume_node_id: str
    segmentation_node_id: str
    axis: Axis
    ijk_to_world: np.ndarray
    shape: tuple[int, int, int]
    oblique: bool
    structures: tuple[DrawnStructure, ...]

    def describe(self) -> list[str]:
        """A line for each structure, such as "Liver: axial slice 45".

        Slices are counted as the working grid's index, from 0, as Slicer's Data Probe does.
        """
        word = "oblique" if self.oblique else orientation(self.ijk_to_world, self.axis)
        return [_line(drawn, word) for drawn in self.structures]


def read_drawn(
    volume_node: slicer.vtkMRMLVolumeNode | None,
    segmentation_node: slicer.vtkMRMLSegmentationNode | None,
    segment_ids: Iterable[str] | None = None,
    slice_nodes: Sequence[slicer.vtkMRMLSliceNode] = (),
    axis: Axis | str = "auto",
) -> Drawn:
    """Read the annotated slices of segments (all for None) as supports for a volume.

    Args:
        slice_nodes: the slice views; a plane drawn in an oblique one is taken exactly as there.
        axis: of the volume, along which it was drawn; "auto" finds it.

    Raises:
        FoBSAMError: nothing drawn, nothing of it on the volume, not on slices, structures on
            slices of different axes, and what `read_volume` raises.
    """
    if volume_node is None or segmentation_node is None:
        missing = "segmentation" if volume_node else "volume"
        raise FoBSAMError(
            "bad_request", f"There is no {missing}.", "Choose the volume and what is drawn on it."
        )
    volume = read_volume(volume_node)
    if axis != "auto" and axis not in ARRAY_AXIS:
        raise FoBSAMError("bad_request", f"There is no axis {axis!r}.", "Give auto, i, j or k.")
    segments = _segments(segmentation_node, segment_ids)
    masks = read_segments(segmentation_node, segments)
    if not masks:
        raise _nothing_drawn(segmentation_node)
    segments = {segment_id: segments[segment_id] for segment_id in masks}
    structures = _structures(segments)
    if axis == "auto":
        names = {segment_id: structure.name for segment_id, structure in structures.items()}
        known = _known_grids(volume, segmentation_node, segments)
        normals = [to_numpy(node.GetSliceToRAS())[:3, 2] for node in slice_nodes]
        grid = working_grid(volume, masks, names, known, normals)
    else:
        grid = WorkingGrid(axis, volume.ijk_to_ras, volume.shape)
    drawn = _on_slices(segmentation_node, segments, structures, masks, grid)
    if not any(one.masks or one.found for one in drawn):
        raise FoBSAMError(
            "bad_geometry",
            f"Nothing of {segmentation_node.GetName()} lies on {volume.name}.",
            "Choose the volume on which it was drawn; check the transforms of both.",
        )
    annotated = tuple(one for one in drawn if one.masks)
    if not annotated:
        raise FoBSAMError(
            "bad_request",
            f"{drawn[0].structure.name} has no annotated slice, only accepted results.",
            "Paint it on a slice, or correct it on one.",
        )
    return Drawn(
        volume_node.GetID(),
        segmentation_node.GetID(),
        grid.axis,
        grid.ijk_to_world,
        grid.shape,
        grid.oblique,
        annotated,
    )


def support_of(drawn: Drawn, volume: Volume) -> Support:
    """The supports of a run on a volume, the one on whose grid they were read.

    Raises FoBSAMError as `Support.from_slices` does.
    """
    return Support.from_slices(
        volume,
        drawn.axis,
        {one.structure: one.masks for one in drawn.structures},
        {one.structure.name: one.absent for one in drawn.structures},
    )


def _segments(
    node: slicer.vtkMRMLSegmentationNode, wanted: Iterable[str] | None
) -> dict[str, slicer.vtkSegment]:
    """The segments wanted (all for None), by ID."""
    segmentation = node.GetSegmentation()
    existing = segmentation.GetSegmentIDs()
    chosen = list(existing if wanted is None else dict.fromkeys(wanted))
    for segment_id in chosen:
        if segment_id not in existing:
            raise FoBSAMError(
                "bad_request",
                f"{node.GetName()} has no segment {segment_id!r}.",
                f"It holds {', '.join(existing) or 'none'}.",
            )
    return {segment_id: segmentation.GetSegment(segment_id) for segment_id in chosen}


def _structures(segments: dict[str, slicer.vtkSegment]) -> dict[str, Structure]:
    """Segments as structures: names made unique, labels 1 to n."""
    key = slicer.vtkSegment.GetTerminologyEntryTagName()
    structures: dict[str, Structure] = {}
    taken: set[str] = set()
    for label, (segment_id, segment) in enumerate(segments.items(), 1):
        terminology = vtk.reference("")
        segment.GetTag(key, terminology)
        given = segment.GetName() or segment_id
        names = (given if n == 1 else f"{given} ({n})" for n in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        structures[segment_id] = Structure(
            name, label, color=segment.GetColor(), terminology=str(terminology), id=segment_id
        )
    return structures


def _known_grids(
    volume: Volume,
    node: slicer.vtkMRMLSegmentationNode,
    segments: dict[str, slicer.vtkSegment],
) -> dict[str, WorkingGrid]:
    """The grids from which segments, by ID, have accepted slices, as far as they fit the volume."""
    known: dict[str, WorkingGrid] = {}
    for segment_id, segment in segments.items():
        tagged = tags.found_grid(segment)
        if tagged is None:
            continue
        matrix = node_to_world(node) @ tagged.ijk_to_node
        grid = WorkingGrid(tagged.axis, matrix, tagged.shape)
        own = WorkingGrid(tagged.axis, volume.ijk_to_ras, volume.shape)
        if own.same(grid):
            known[segment_id] = own
        elif covers(matrix, grid.shape, volume.ijk_to_ras, volume.shape):
            known[segment_id] = replace(grid, oblique=True)
    return known


def _on_slices(
    node: slicer.vtkMRMLSegmentationNode,
    segments: dict[str, slicer.vtkSegment],
    structures: dict[str, Structure],
    masks: dict[str, SegmentMask],
    grid: WorkingGrid,
) -> list[DrawnStructure]:
    """The structures' slices on the working grid, those found in an earlier run told apart."""
    tagged = tags.SliceGrid.of(node, grid.ijk_to_world, grid.shape, grid.axis)
    shape = [n for axis, n in zip("kji", grid.shape, strict=True) if axis != grid.axis]
    result = []
    for segment_id, structure in structures.items():
        slices = grid.slices(segment_id, masks[segment_id])
        checksums = {index: tags.checksum(*slices[index]) for index in slices}
        found = tags.found(segments[segment_id], tagged, checksums)
        drawn = {index: _whole(*slices[index], shape) for index in slices if index not in found}
        absent = tags.absent(segments[segment_id], tagged)
        absent = tuple(index for index in absent if index not in drawn)
        result.append(DrawnStructure(segment_id, structure, drawn, absent, found))
    return result


def _whole(mask: np.ndarray, origin: tuple[int, int], shape: Sequence[int]) -> np.ndarray:
    """A mask cut out of a slice, on the whole slice of ``shape`` (H, W)."""
    (row, column), (height, width) = origin, mask.shape
    result = np.zeros(shape, bool)
    result[row : row + height, column : column + width] = mask
    return result


def _line(drawn: DrawnStructure, word: str) -> str:
    indices = list(drawn.masks)
    slices = f"{word} {'slice' if len(indices) == 1 else 'slices'} {', '.join(map(str, indices))}"
    accepted = len(drawn.found)
    if accepted:
        unit = "slice" if accepted == 1 else "slices"
        slices += f" ({accepted} accepted {unit} not used)"
    return f"{drawn.structure.name}: {slices}"


def _nothing_drawn(node: slicer.vtkMRMLSegmentationNode) -> FoBSAMError:
    segmentation = node.GetSegmentation()
    stored = segmentation.GetSourceRepresentationName()
    if segmentation.GetNumberOfSegments() and not segmentation.ContainsRepresentation(
        BINARY_LABELMAP
    ):
        return FoBSAMError(
            "bad_request",
            f"{node.GetName()} is kept as '{stored}', not as voxels.",
            "In the Segmentations module, under Representations, create 'Binary labelmap'.",
        )
    return FoBSAMError(
        "bad_request",
        f"Nothing is drawn in {node.GetName()}.",
        "Paint the structure on one slice in the Segment Editor.",
    )
