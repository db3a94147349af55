"""A run: what is drawn on a volume is looked for in its other slices, or in other volumes.

Nothing here waits: the work is in steps (see `FoBSAMLib.worker.conversation`), which Slicer's
event loop takes, or a script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.oblique import plane_grid, resample_steps
from FoBSAMLib.image.orientation import oriented_like
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.mrml import tags
from FoBSAMLib.mrml.accept import Accepted, Masks, accept, new_segmentation
from FoBSAMLib.mrml.drawn import Drawn, support_of
from FoBSAMLib.mrml.editing import Editing
from FoBSAMLib.mrml.labelmaps import world_to_node
from FoBSAMLib.mrml.naming import slice_normal
from FoBSAMLib.mrml.preview import Preview
from FoBSAMLib.mrml.sequences import TimePoint, store, time_points
from FoBSAMLib.mrml.volumes import node_to_world, read_volume
from FoBSAMLib.mrml.watch import Fingerprint
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.conversation import Conversation, Steps

#: A mask of less confidence should be looked at.
UNCERTAIN = 0.6

#: Results by slice index.
Slices = dict[int, SliceResult]


@dataclass(frozen=True)
class Query:
    """Another volume to look in, and what to call it; of a sequence, one of its time points."""

    label: str
    node: slicer.vtkMRMLVolumeNode
    point: TimePoint | None = None


@dataclass
class Target:
    """A volume that a run looks in, and what it found there, by segment ID.

    ``image`` is the volume on the run's grid, None until it is read; ``found`` is what was found,
    ``corrected`` what the user made of it by moving points, ``answered`` the slices that the user
    has taken as support since, or said not to hold the structure.
    """

    query: Query
    own: bool
    slices: range | None = None
    image: Volume | None = None
    preview: Preview | None = None
    fingerprint: Fingerprint | None = None
    found: dict[str, Slices] = field(default_factory=dict)
    corrected: dict[str, Slices] = field(default_factory=dict)
    answered: dict[str, set[int]] = field(default_factory=dict)

    @property
    def node(self) -> slicer.vtkMRMLVolumeNode:
        """The volume node of the scene."""
        return self.query.node

    @property
    def label(self) -> str:
        """What to call it."""
        return self.query.label

    def read(self) -> Volume:
        """Its voxels as they are now, a view, in world."""
        if self.query.point is None:
            return read_volume(self.node)
        # What the scene shows of a sequence is another time point as soon as somebody browses.
        volume = read_volume(self.query.point.node)
        geometry = node_to_world(self.node) @ volume.ijk_to_ras
        return replace(volume, ijk_to_ras=geometry, name=self.node.GetName())

    def results(self, segment_id: str) -> Slices:
        """What there is of a structure, corrected where it was corrected."""
        return {**self.found.get(segment_id, {}), **self.corrected.get(segment_id, {})}

    def take(self, result: SliceResult, *, corrected: bool = False) -> None:
        """Keep a result and put it into the preview; `Preview.flush` shows it."""
        kept = self.corrected if corrected else self.found
        kept.setdefault(result.structure.id, {})[result.index] = result
        if self.preview is not None:
            self.preview.put(result.structure.id, result.axis, result.index, result.mask)

    def answer(self, segment_id: str, index: int) -> None:
        """Forget what was found in a slice: the user has answered for it."""
        self.answered.setdefault(segment_id, set()).add(index)
        for kept in (self.found, self.corrected):
            result = kept.get(segment_id, {}).pop(index, None)
            if result is not None and self.preview is not None:
                nothing = np.zeros_like(result.mask)
                self.preview.put(segment_id, result.axis, index, nothing)


class Run:
    """One request, from what is drawn to what was found; its results lie in previews."""

    def __init__(
        self,
        drawn: Drawn,
        volume_node: slicer.vtkMRMLVolumeNode,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        *,
        own: bool = True,
        slices: range | None = None,
        queries: Sequence[Query] = (),
    ) -> None:
        """Look for what is drawn.

        Args:
            own: whether in the volume's other slices, in ``slices`` of the working grid or all.
            queries: other volumes to look in, with what they are called.

        Raises:
            FoBSAMError: there is nothing to look in, or one of the volumes is no image.
        """
        self.drawn = drawn
        self.volume_node = volume_node
        self.segmentation_node = segmentation_node
        self.targets = [Target(query, own=False) for query in queries]
        if own:
            self.targets.insert(0, Target(_own_query(volume_node), True, slices))
        self.current: Target | None = None
        self.cancelled = False
        self.found = 0
        self._changing = False
        self.total = self._count()

    def _count(self) -> int:
        """How many results there will be."""
        total = 0
        for target in self.targets:
            every = range(self._grid(target)[1]["kji".index(self.drawn.axis)])
            total += _count(self.drawn, target.slices or every, own=target.own)
        if not total:
            raise FoBSAMError(
                "bad_request",
                "Every slice asked for is annotated: nothing is left to find.",
                "Ask for other slices, or choose other volumes to look in.",
            )
        return total

    def steps(self, conversation: Conversation) -> Steps[None]:
        """Look in one volume after the other; results are kept and shown in previews."""
        support = yield from self._support()
        for target in self.targets:
            if self.cancelled:
                return
            self.current = target
            yield from self._prepare(target, support)
            yield from self._set(conversation, target, support)
            for result in conversation.segment(
                None, self._slices_of(target), cancel=lambda: self.cancelled
            ):
                if result is not None:
                    self.found += 1
                    target.take(result)
                yield result

    def cancel(self) -> None:
        """Stop before the next slice; what was found stays."""
        self.cancelled = True

    def correct(
        self,
        conversation: Conversation,
        target: Target,
        segment_id: str,
        index: int,
        prompts: Prompts,
    ) -> Steps[SliceResult]:
        """A slice's mask again, after its points were edited (in the slice's pixels)."""
        yield from self._return_to(conversation, target)
        name = self.structure_name(segment_id)
        result = yield from conversation.correct(name, index, prompts)
        target.take(result, corrected=True)
        return result

    def suggest(self, conversation: Conversation, segment_id: str) -> Steps[int | None]:
        """Which slice of the volume to annotate next, None for none."""
        own = next((target for target in self.targets if target.own), None)
        if own is None or not own.found:
            return None
        yield from self._return_to(conversation, own)
        return (yield from conversation.suggest(self.structure_name(segment_id)))

    def structure_name(self, segment_id: str) -> str:
        """What a session calls a segment."""
        return next(
            one.structure.name for one in self.drawn.structures if one.segment_id == segment_id
        )

    def problems(self, target: Target) -> str:
        """Why a target's results may not be right any more; empty where they are."""
        if self._changing:
            return ""
        return (target.fingerprint.problem() if target.fingerprint else None) or ""

    def gone(self, target: Target) -> bool:
        """Whether what a target's results are of is no longer in the scene."""
        drawn = self.segmentation_node if target.own else target.node
        return target.node.GetScene() is None or drawn.GetScene() is None

    def accept(self, target: Target, editing: Editing) -> Accepted | None:
        """Write a target's results: into the segmentation, as one step that can be undone, or,
        of another volume, into a segmentation of its own. The preview goes.

        Returns what became of the results in the segmentation, None for another volume.
        Raises FoBSAMError, with nothing changed, where that cannot be.
        """
        masks = {s: {n: r.mask for n, r in self._all(target, s)} for s in target.found}
        accepted = None
        if target.own:
            sure = {s: {n: r.confidence for n, r in self._all(target, s)} for s in target.found}
            accepted = accept(self.drawn, masks, sure, target.node, self.segmentation_node, editing)
        elif target.image is not None:
            self._accept_elsewhere(target, masks, target.image)
        self.discard(target)
        return accepted

    def accept_slice(
        self, target: Target, segment_id: str, index: int, editing: Editing
    ) -> Accepted:
        """Take one slice of the volume into the segmentation as if it were painted there: it is a
        support of the next run."""
        mask = target.results(segment_id)[index].mask
        with self._change(target):
            accepted = accept(
                self.drawn,
                {segment_id: {index: mask}},
                {segment_id: {index: 1.0}},
                target.node,
                self.segmentation_node,
                editing,
            )
            tags.forget_found(*self._segment(segment_id), [index])
        target.answer(segment_id, index)
        return accepted

    def mark_absent(self, target: Target, segment_id: str, index: int) -> None:
        """The structure is not in a slice: kept with the segment, for this run and the next."""
        with self._change(target):
            segment, grid = self._segment(segment_id)
            tags.mark_absent(segment, grid, {*tags.absent(segment, grid), index})
        target.answer(segment_id, index)

    def discard(self, target: Target | None = None) -> None:
        """Remove the preview of a target, or all of them, with what was found."""
        for one in [target] if target is not None else list(self.targets):
            if one.preview is not None:
                one.preview.remove()
                one.preview = None
            one.found, one.corrected = {}, {}

    @property
    def axis(self) -> Axis:
        """Along which the slices lie, in all targets."""
        return self.drawn.axis

    def _accept_elsewhere(self, target: Target, masks: Masks, image: Volume) -> None:
        structures, matrix = self.drawn.structures, image.ijk_to_ras
        point = target.query.point
        if point is None:
            grid = tags.SliceGrid(self.axis, matrix, image.shape)
            new_segmentation(target.node, structures, masks, grid)
            return
        # In its sequence a time point lies under no transform.
        grid = tags.SliceGrid(self.axis, world_to_node(target.node) @ matrix, image.shape)
        found = {point.value: (masks, grid)}
        store(target.node, structures, found, self.segmentation_node)

    def _all(self, target: Target, segment_id: str) -> Iterator[tuple[int, SliceResult]]:
        return iter(target.results(segment_id).items())

    def _segment(self, segment_id: str) -> tuple[slicer.vtkSegment, tags.SliceGrid]:
        """A segment, and the run's slices as its tags know them."""
        grid = tags.SliceGrid.of(
            self.segmentation_node, self.drawn.ijk_to_world, self.drawn.shape, self.drawn.axis
        )
        return self.segmentation_node.GetSegmentation().GetSegment(segment_id), grid

    @contextmanager
    def _change(self, target: Target) -> Iterator[None]:
        """What is changed from here is no reason to doubt the results."""
        self._changing = True
        try:
            yield
        finally:
            target.fingerprint = self._fingerprint(target)
            self._changing = False

    def _fingerprint(self, target: Target) -> Fingerprint:
        return Fingerprint.of(
            target.query.point.node if target.query.point else target.node,
            self.segmentation_node if target.own else None,
            [one.segment_id for one in self.drawn.structures],
        )

    def _support(self) -> Steps[Support]:
        drawn_on = Target(_own_query(self.volume_node), True)
        self._drawn_support = support_of(self.drawn, (yield from self._image(drawn_on)))
        return self._drawn_support

    def _grid(self, target: Target) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Matrix and shape of the grid on which a target is looked in: its own voxels, as those of
        the drawing lie, or slices parallel to a plane drawn in an oblique view."""
        drawn = self.drawn
        if target.own or target.query.point is not None:
            return drawn.ijk_to_world, drawn.shape
        image = oriented_like(target.read(), drawn.ijk_to_world)
        if not drawn.oblique:
            return image.ijk_to_ras, image.shape
        k, j, i = image.shape
        centre = image.ijk_to_ras @ [(i - 1) / 2, (j - 1) / 2, (k - 1) / 2, 1]
        normal = slice_normal(drawn.ijk_to_world, drawn.axis)
        return plane_grid(image.ijk_to_ras, image.shape, centre[:3], normal)

    def _image(self, target: Target) -> Steps[Volume]:
        """A target's voxels on the grid of `_grid`."""
        image = oriented_like(target.read(), self.drawn.ijk_to_world)
        if self.drawn.oblique:
            image = yield from resample_steps(image, *self._grid(target))
        return image

    def _prepare(self, target: Target, support: Support) -> Steps[None]:
        """Read a target's voxels, and have its preview ready."""
        target.image = support.volume if target.own else (yield from self._image(target))
        target.fingerprint = self._fingerprint(target)
        target.preview = Preview(
            target.node,
            self.segmentation_node if target.own else None,
            self.drawn.structures,
            target.image.ijk_to_ras,
            target.image.shape,
            "" if target.own else target.label,
        )
        if target.own:
            # Without the slices that were drawn, what is shown would have gaps.
            for one in self.drawn.structures:
                for index, mask in one.masks.items():
                    target.preview.put(one.segment_id, self.axis, index, mask)

    def _set(self, conversation: Conversation, target: Target, support: Support) -> Steps[None]:
        assert target.image is not None
        yield from conversation.set_image(target.image)
        yield from conversation.set_supports(support)

    def _slices_of(self, target: Target) -> range | None:
        return target.slices if target.own else None

    def _return_to(self, conversation: Conversation, target: Target) -> Steps[None]:
        """Have the conversation be about a target again, after it went on to another one."""
        if target.image is None:
            raise FoBSAMError("bad_request", "Nothing was found in this volume yet.")
        if conversation.state.image is target.image:
            return
        yield from self._set(conversation, target, self._drawn_support)
        yield from conversation.restore(
            result for found in target.found.values() for result in found.values()
        )


def _own_query(volume_node: slicer.vtkMRMLVolumeNode) -> Query:
    """The volume that was drawn on; of a sequence, the time point that is shown now."""
    shown = [point for point in time_points(volume_node) if point.current]
    return Query(volume_node.GetName(), volume_node, shown[0] if shown else None)


def _count(drawn: Drawn, slices: range, *, own: bool) -> int:
    """How many results there will be in slices of one volume."""
    total = 0
    for one in drawn.structures:
        known = {*one.masks, *one.absent} if own else set()
        total += len(slices) - sum(n in slices for n in known)
    return total
