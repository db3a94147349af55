"""What was found, into the user's segmentation: one step that can be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis
from FoBSAMLib.mrml import placement, tags
from FoBSAMLib.mrml.editing import Editing, one_step
from FoBSAMLib.mrml.labelmaps import (
    BINARY_LABELMAP,
    labelmap_of,
    segment_on_grid,
)
from FoBSAMLib.mrml.masks import Patch, place, read_segments
from FoBSAMLib.mrml.placement import Target
from FoBSAMLib.mrml.preview import add_segment
from FoBSAMLib.mrml.volumes import node_to_world

if TYPE_CHECKING:
    from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure

#: Masks, bool [H, W], by segment ID and slice; an empty one says that the structure is not there.
Masks = Mapping[str, Mapping[int, np.ndarray]]


@dataclass
class Accepted:
    """What became of what was proposed: counts of the segmentation's voxels, by segment ID."""

    #: Now part of the segment, and not before.
    added: dict[str, int] = field(default_factory=dict)
    #: Of slices accepted from an earlier run and found anew: no longer part of it.
    removed: dict[str, int] = field(default_factory=dict)
    #: Left to another segment, or (pixels of the working grid) to a structure that was found there
    #: more surely.
    left_to_others: dict[str, int] = field(default_factory=dict)
    #: Not editable by the Segment Editor's masking.
    masked: dict[str, int] = field(default_factory=dict)

    @property
    def kept_out(self) -> bool:
        """Whether there was something to write, and nothing of it could be."""
        written = any((*self.added.values(), *self.removed.values()))
        return not written and any((*self.left_to_others.values(), *self.masked.values()))


def accept(
    drawn: Drawn,
    results: Masks,
    confidence: Mapping[str, Mapping[int, float]],
    volume_node: slicer.vtkMRMLVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    editing: Editing,
    *,
    as_drawn: bool = False,
) -> Accepted:
    """Add what was found on the working grid of ``drawn`` to the segments it is of.

    Slices that are annotated, or were since, and those said not to hold the structure stay as
    they are, and no other segment loses a voxel; a slice accepted from an earlier run is
    replaced. ``confidence`` decides between structures that may not overlap. What was found is
    kept in the segments' tags, so that it is no support of the next run; with ``as_drawn`` it is
    one, as if it were painted.

    One undo takes everything back, tags included.
    Raises FoBSAMError, before anything is changed, where a segment is gone or the segmentation
    cannot be edited voxel by voxel.
    """
    _check(volume_node, segmentation_node, results)
    grid = tags.SliceGrid.of(segmentation_node, drawn.ijk_to_world, drawn.shape, drawn.axis)
    # To the last digit as `read_drawn` will have it, an oblique grid from the tag: which of two
    # voxels is nearest may hang on it.
    to_world = node_to_world(segmentation_node)
    ijk_to_world = to_world @ grid.ijk_to_node if drawn.oblique else drawn.ijk_to_world
    now = {
        segment_id: _slices_now(segmentation_node, segment_id, grid, ijk_to_world)
        for segment_id in results
    }
    target = placement.target_of(segmentation_node, volume_node)
    whole = target.exact(grid.ijk_to_node, drawn.shape)
    kept = _kept(drawn, now, whole)
    proposed = {
        segment_id: {n: mask for n, mask in masks.items() if n not in kept[segment_id]}
        for segment_id, masks in results.items()
    }
    accepted = Accepted()
    if not _would_change(proposed, now):
        return accepted
    folder = placement.folder_of(segmentation_node)
    with one_step(editing, segmentation_node, volume_node):
        won = _settle(proposed, confidence, editing)
        for segment_id, masks in proposed.items():
            spared = () if whole else kept[segment_id]
            job = _Segment(segmentation_node, segment_id, grid, target, spared, editing, accepted)
            job.replace(masks, now[segment_id])
            job.add(masks, won[segment_id])
        for segment_id in proposed:
            after = _slices_now(segmentation_node, segment_id, grid, ijk_to_world)
            touched = set(proposed[segment_id])
            if not whole:
                touched |= _brushed(after, now[segment_id], kept[segment_id])
            _tag(segmentation_node, segment_id, grid, after, touched)
            if as_drawn:
                segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
                tags.forget_found(segment, grid, proposed[segment_id])
    placement.file_under(segmentation_node, volume_node, folder)
    return accepted


def _check(
    volume_node: slicer.vtkMRMLVolumeNode,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    results: Masks,
) -> None:
    for what, node in (("volume", volume_node), ("segmentation", segmentation_node)):
        if node.GetScene() is None:
            raise FoBSAMError(
                "bad_request",
                f"The {what} {node.GetName()} was deleted.",
                "Discard what was found, or load it again and start anew.",
            )
    segmentation = segmentation_node.GetSegmentation()
    for segment_id in results:
        if segment_id not in segmentation.GetSegmentIDs():
            raise FoBSAMError(
                "bad_request",
                f"The segment {segment_id} was deleted.",
                "Undo that in the Segment Editor, or discard what was found.",
            )
    if segmentation.GetSourceRepresentationName() != BINARY_LABELMAP:
        raise FoBSAMError(
            "bad_request",
            f"{segmentation_node.GetName()} is kept as "
            f"'{segmentation.GetSourceRepresentationName()}', not as voxels.",
            "In the Segmentations module, under Representations, make 'Binary labelmap' the "
            "source representation.",
        )


@dataclass(frozen=True)
class _Now:
    """A segment on the working grid as it is now."""

    masks: dict[int, tuple[np.ndarray, tuple[int, int]]]  # cut out, with (row, column)
    found: tuple[int, ...]


def _slices_now(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    grid: tags.SliceGrid,
    ijk_to_world: np.ndarray,
) -> _Now:
    stored = read_segments(segmentation_node, [segment_id]).get(segment_id)
    if stored is None:
        return _Now({}, ())
    patch = place(stored, ijk_to_world, grid.shape, grid.axis)
    masks = {n: (mask, origin) for n, mask, origin in patch.slices(grid.axis)}
    sums = {n: tags.checksum(mask, origin) for n, (mask, origin) in masks.items()}
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    return _Now(masks, tags.found(segment, grid, sums))


def slices_drawn(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    grid: tags.SliceGrid,
    ijk_to_world: np.ndarray,
) -> set[int]:
    """The slices of a grid in which a segment is drawn now; those accepted are not."""
    now = _slices_now(segmentation_node, segment_id, grid, ijk_to_world)
    return set(now.masks) - set(now.found)


def _kept(drawn: Drawn, now: Mapping[str, _Now], exact: bool) -> dict[str, set[int]]:
    """Slices that stay as they are, by segment ID."""
    kept = {segment_id: set[int]() for segment_id in now}
    for structure in drawn.structures:
        if structure.segment_id in kept:
            kept[structure.segment_id] |= {*structure.masks, *structure.absent}
    if exact:
        # Between grids a stroke touches slices beside its own, which says nothing.
        for segment_id, state in now.items():
            kept[segment_id] |= set(state.masks) - set(state.found)
    return kept


def _would_change(proposed: Masks, now: Mapping[str, _Now]) -> bool:
    """Whether there is anything to add or to replace: else there is nothing to undo either."""
    return any(
        mask.any() or index in now[segment_id].found
        for segment_id, masks in proposed.items()
        for index, mask in masks.items()
    )


def _settle(
    proposed: Masks, confidence: Mapping[str, Mapping[int, float]], editing: Editing
) -> dict[str, dict[int, np.ndarray]]:
    """The masks without the pixels that go to a structure found there more surely."""
    won: dict[str, dict[int, np.ndarray]] = {segment_id: {} for segment_id in proposed}
    for index in sorted({n for masks in proposed.values() for n in masks}):
        rivals = [segment_id for segment_id in proposed if index in proposed[segment_id]]
        rivals.sort(key=lambda s: -confidence.get(s, {}).get(index, 0.0))
        for rank, segment_id in enumerate(rivals):
            mask = np.asarray(proposed[segment_id][index], bool)
            for surer in rivals[:rank]:
                if not (editing.may_overlap(surer) and editing.may_overlap(segment_id)):
                    mask = mask & ~won[surer][index]
            won[segment_id][index] = mask
    return won


@dataclass(frozen=True)
class _Segment:
    """One segment while it is edited."""

    node: slicer.vtkMRMLSegmentationNode
    segment_id: str
    grid: tags.SliceGrid
    target: Target
    spared: Collection[int]  # slices of which no pixel's voxel may change
    editing: Editing
    accepted: Accepted

    def replace(self, masks: Mapping[int, np.ndarray], now: _Now) -> None:
        """Take out what slices accepted earlier have and do not have any more."""
        stale = {}
        for index in set(now.found) & set(masks):
            cut, (row, column) = now.masks[index]
            gone = np.zeros(masks[index].shape, bool)
            gone[row : row + cut.shape[0], column : column + cut.shape[1]] = cut
            stale[index] = gone & ~np.asarray(masks[index], bool)
        self.accepted.removed[self.segment_id] = 0
        patch = self._on_target(stale)
        if patch is None:
            return
        self.target.clear_slices(patch.voxels, patch.start, self.grid, self.spared)
        before = self._voxels(patch)
        self.editing.remove(self.segment_id, self._labelmap(patch, patch.voxels & before))
        gone = before & ~self._voxels(patch)
        self.accepted.removed[self.segment_id] = int(np.count_nonzero(gone))

    def add(self, masks: Mapping[int, np.ndarray], won: Mapping[int, np.ndarray]) -> None:
        """Add the pixels won, without voxels of other segments."""
        patch = self._on_target(won)
        lost = sum(int(np.count_nonzero(masks[n])) - int(np.count_nonzero(won[n])) for n in masks)
        self.accepted.left_to_others[self.segment_id] = lost
        self.accepted.added[self.segment_id] = self.accepted.masked[self.segment_id] = 0
        if patch is None:
            return
        before = self._voxels(patch)
        wanted = patch.voxels & ~before
        self.target.clear_slices(wanted, patch.start, self.grid, self.spared)
        others = self._others(patch)
        self.accepted.left_to_others[self.segment_id] += int(np.count_nonzero(wanted & others))
        wanted &= ~others
        with self.target.room_for(self.node, patch):
            self.editing.add(self.segment_id, self._labelmap(patch, wanted))
        added = int(np.count_nonzero(self._voxels(patch) & ~before))
        self.accepted.added[self.segment_id] = added
        self.accepted.masked[self.segment_id] = int(np.count_nonzero(wanted)) - added

    def _on_target(self, masks: Mapping[int, np.ndarray]) -> Patch | None:
        stacked = stack(masks, self.grid.axis)
        return stacked and self.target.take(stacked, self.grid.ijk_to_node)

    def _voxels(self, patch: Patch, segment_id: str = "") -> np.ndarray:
        """A segment's voxels, of this one if none is named, where a patch is."""
        grid, (k, j, i) = self.target.ijk_to_node, patch.voxels.shape
        return segment_on_grid(
            self.node, segment_id or self.segment_id, grid, patch.start, (k, j, i)
        )

    def _others(self, patch: Patch) -> np.ndarray:
        """Voxels of other segments that may not be shared with them."""
        held = np.zeros(patch.voxels.shape, bool)
        for other in self.node.GetSegmentation().GetSegmentIDs():
            if other != self.segment_id and not self.editing.may_overlap(other):
                held |= self._voxels(patch, other)
        return held

    def _labelmap(self, patch: Patch, mask: np.ndarray) -> slicer.vtkOrientedImageData:
        voxels = np.ascontiguousarray(mask, np.uint8)
        return labelmap_of(voxels, self.target.ijk_to_node, patch.start)


def _brushed(after: _Now, before: _Now, kept: Collection[int]) -> set[int]:
    """Slices of another grid that hold voxels of their neighbours, and nothing drawn on them.

    Between grids a voxel that is nearest to one slice is also nearest to a pixel of the next:
    a run over some slices, as well as a stroke, reaches into those beside them.
    """
    new = set(after.masks) - (set(before.masks) - set(before.found))
    beside = {n + step for n in kept for step in (-1, 1)}
    return (new | (beside & set(after.masks))) - set(kept)


def _tag(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    grid: tags.SliceGrid,
    now: _Now,
    indices: Collection[int],
) -> None:
    """Keep which slices the segment has from a run, as they read back from it."""
    sums = {n: tags.checksum(*now.masks[n]) for n in indices if n in now.masks}
    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    tags.mark_found(segment, grid, sums)


def new_segmentation(
    volume_node: slicer.vtkMRMLVolumeNode,
    structures: Iterable[DrawnStructure],
    results: Masks,
    grid: tags.SliceGrid,
    name: str = "",
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation of what was found on a volume that has none.

    ``structures`` give it segments with their IDs, names, colours and terminology, those not
    found too; ``results`` are slices of ``grid``, whose matrix goes to world here. The
    segmentation is on the volume's own grid, under its transform and in its study.
    """
    scene = volume_node.GetScene()
    name = scene.GenerateUniqueName(name or f"{volume_node.GetName()} (FoBSAM)")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    fill(node, volume_node, structures, results, grid)
    placement.file_under(node, volume_node)
    return node


def fill(
    node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    structures: Iterable[DrawnStructure],
    results: Masks,
    grid: tags.SliceGrid,
) -> None:
    """Fill an empty segmentation on a volume's grid; see `new_segmentation`."""
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    target = placement.target_of(node, volume_node)
    of_node = tags.SliceGrid.of(node, grid.ijk_to_node, grid.shape, grid.axis)
    for structure in structures:
        segment_id, found = structure.segment_id, results.get(structure.segment_id, {})
        segment = add_segment(node, segment_id, structure.structure)
        patch = stack(found, grid.axis)
        if patch is not None:
            placed = target.take(patch, of_node.ijk_to_node)
            voxels = np.ascontiguousarray(placed.voxels, np.uint8)
            labelmap = labelmap_of(voxels, target.ijk_to_node, placed.start)
            segment.AddRepresentation(BINARY_LABELMAP, labelmap)
            segment.SetLabelValue(1)
            now = _slices_now(node, segment_id, of_node, grid.ijk_to_node)
            _tag(node, segment_id, of_node, now, now.masks)


def stack(masks: Mapping[int, np.ndarray], axis: Axis) -> Patch | None:
    """Slices [H, W] along an axis as one patch of their grid; None where all are empty."""
    boxes = {
        n: [np.flatnonzero(mask.any(axis=across)) for across in (1, 0)]
        for n, mask in masks.items()
        if mask.any()
    }
    if not boxes:
        return None
    rows, columns = (
        slice(
            min(int(box[n][0]) for box in boxes.values()),
            max(int(box[n][-1]) for box in boxes.values()) + 1,
        )
        for n in (0, 1)
    )
    first, last = min(boxes), max(boxes)
    shape = [rows.stop - rows.start, columns.stop - columns.start]
    start = [rows.start, columns.start]
    shape.insert(ARRAY_AXIS[axis], last - first + 1)
    start.insert(ARRAY_AXIS[axis], first)
    voxels = np.zeros(shape, bool)
    slices = np.moveaxis(voxels, ARRAY_AXIS[axis], 0)
    for n in boxes:
        slices[n - first] = masks[n][rows, columns]
    return Patch(voxels, (start[0], start[1], start[2]))
