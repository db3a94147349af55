"""A run: what is drawn on a volume is looked for in its other slices, or in other volumes.

Nothing here waits: the work is in steps (see `FoBSAMLib.worker.conversation`), which Slicer's
event loop takes, or a script.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TypeVar

import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.mrml import tags
from FoBSAMLib.mrml.accept import Accepted, accept, new_segmentation, slices_drawn
from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure, support_of
from FoBSAMLib.mrml.editing import Editing, one_step
from FoBSAMLib.mrml.labelmaps import world_to_node
from FoBSAMLib.mrml.preview import Preview
from FoBSAMLib.mrml.private import shared_names
from FoBSAMLib.mrml.sequences import store
from FoBSAMLib.mrml.targets import Query as Query
from FoBSAMLib.mrml.targets import Slices as Slices
from FoBSAMLib.mrml.targets import Target, own_query
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.conversation import Conversation, Steps

T = TypeVar("T")


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
                Where all of them are annotated, as that of a photograph is, other volumes are
                looked in alone.
            queries: other volumes to look in, with what they are called.

        Raises:
            FoBSAMError: there is nothing to look in, or one of the volumes is no image.
        """
        self.drawn = drawn
        self.volume_node = volume_node
        self.segmentation_node = segmentation_node
        #: The target whose slices are looked at, or were last.
        self.current: Target | None = None
        self.cancelled = False
        #: How many results there are so far, and how many there will be.
        self.found = 0
        self.total = 0
        self.targets: list[Target] = []
        self._under_way = False
        self._changing = False
        targets = [Target(query, own=False) for query in queries]
        if own:
            targets.insert(0, Target(own_query(volume_node), True, slices))
        if not targets:
            raise FoBSAMError(
                "bad_request",
                "Nothing is chosen to look in.",
                "Choose the volume's other slices, or other volumes.",
            )
        for target in targets:
            count = target.count(drawn)
            if count:
                self.targets.append(target)
                self.total += count
        if not self.total:
            raise FoBSAMError(
                "bad_request",
                "Every slice asked for is annotated: nothing is left to find.",
                "Ask for other slices, or choose other volumes to look in.",
            )

    def steps(self, conversation: Conversation) -> Steps[None]:
        """Look in one volume after the other; results are kept and shown in previews.

        Volumes and drawing are taken as they are at the call, before the first step.
        """
        for target in self.targets:
            self._remember(target)
        # The worker's log may tell of them from now on, and may be sent to somebody.
        shared_names().remember(self.volume_node.GetScene())
        self._models = _names(conversation)
        return self._steps(conversation)

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
    ) -> Steps[SliceResult | None]:
        """A slice's mask again, after its points were edited (in the slice's pixels).

        What the user says of the slice meanwhile counts: once it was answered for, reset, accepted
        or discarded, or where nothing was found in it, there is no correction, and None.
        Raises FoBSAMError where other models would compute it, or a run is under way elsewhere.
        """
        place, request = (segment_id, index), object()
        if index not in target.found.get(segment_id, {}):
            return None
        target.awaited[place] = request

        def awaited() -> bool:
            return target in self.targets and target.awaited.get(place) is request

        yield from self._return_to(conversation, target)
        if not awaited():
            return None
        name = self.structure_name(segment_id)
        result = yield from conversation.correct(name, index, prompts)
        if not awaited():
            _forget_correction(conversation, target, result)
            return None
        target.take(result, corrected=True)
        return result

    def reset(
        self, conversation: Conversation, target: Target, segment_id: str, index: int
    ) -> SliceResult | None:
        """A slice as it was found, also if its correction is still being made.

        Returns what was found, now in the preview again (`Preview.flush` shows it); None, with
        nothing changed, where nothing was.
        """
        original = target.reset(segment_id, index)
        if original is not None:
            _forget_correction(conversation, target, original)
        return original

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
        return "" if self._changing else target.problem()

    def gone(self, target: Target) -> bool:
        """Whether what a target's results are of is no longer in the scene."""
        drawn = self.segmentation_node if target.own else target.node
        return target.node.GetScene() is None or drawn.GetScene() is None

    def lacks_segment(self, target: Target) -> bool:
        """Whether a segment is gone into which results would be written."""
        existing = self.segmentation_node.GetSegmentation().GetSegmentIDs()
        return target.own and not set(target.found) <= set(existing)

    def accept(self, target: Target, editing: Editing) -> Accepted | None:
        """Write a target's results: into the segmentation, as one step that can be undone, or,
        of another volume, into a segmentation of its own. The preview goes.

        Returns what became of the results in the segmentation, None for another volume; where
        masking and other segments left nothing to write, the results and their preview stay.
        Raises FoBSAMError, with nothing changed, where that cannot be.
        """
        accepted = None
        if target.own:
            for segment_id in target.found:
                self._segment(segment_id)
            accepted = self._accept(target, editing)
            if accepted.kept_out:
                return accepted
        elif target.found:  # else it was cancelled before
            target.written = self._accept_elsewhere(target)
        target.awaited.clear()
        target.remove_preview()
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
                as_drawn=True,
            )
        target.answer(segment_id, index)
        return accepted

    def mark_absent(self, target: Target, segment_id: str, index: int, editing: Editing) -> None:
        """The structure is not in a slice: kept with the segment, for this run and the next, as
        one step that can be undone."""
        segment, grid = self._segment(segment_id)
        with self._change(target), one_step(editing, self.segmentation_node, target.node):
            tags.mark_absent(segment, grid, {*tags.absent(segment, grid), index})
        target.answer(segment_id, index)

    def take_back_undone(self, target: Target) -> None:
        """Have the results again of slices whose answer the user has undone."""
        for segment_id, answers in target.answered.items():
            if not answers or self.gone(target):
                continue
            segment, grid = self._segment(segment_id)
            drawn = slices_drawn(self.segmentation_node, segment_id, grid, self.drawn.ijk_to_world)
            undone = set(answers) - {*drawn, *tags.absent(segment, grid)}
            for index in undone:
                target.take_back(segment_id, index)
            if undone:
                self._remember(target)  # what is drawn is what it was before the answer
                if target.preview is not None:
                    target.preview.flush()

    def discard(self, target: Target | None = None) -> None:
        """Remove the preview of a target, or all of them, with what was found."""
        for one in [target] if target is not None else list(self.targets):
            one.remove_preview()
            one.found, one.corrected, one.awaited = {}, {}, {}

    @property
    def axis(self) -> Axis:
        """Along which the slices lie, in all targets."""
        return self.drawn.axis

    def _steps(self, conversation: Conversation) -> Steps[None]:
        self._under_way = True
        try:
            drawn_on = Target(own_query(self.volume_node), own=True)
            image = yield from self._until_cancelled(drawn_on.image_steps(self.drawn))
            if image is None:
                return
            self._support = support_of(self.drawn, image)
            for target in list(self.targets):
                if self.cancelled:
                    return
                self._check_present(target)
                self.current = target
                yield from self._find_in(conversation, target, image)
                if self.cancelled and not target.found:
                    target.remove_preview()
        finally:
            self._under_way = False

    def _find_in(self, conversation: Conversation, target: Target, image: Volume) -> Steps[None]:
        """Look in one volume; ``image`` is the one that was drawn on."""
        if not target.own:
            other = yield from self._until_cancelled(target.image_steps(self.drawn))
            if other is None:
                return
            image = other
        target.image = image
        self._show_in_preview(target)
        yield None  # the window has its turn before the worker is started
        yield from self._until_cancelled(self._set(conversation, target, self._support))
        if not self.cancelled:
            self._computed_by = _identity(conversation)
            yield from self._look_in(conversation, target)

    def _until_cancelled(self, steps: Steps[T]) -> Steps[T | None]:
        """The steps as long as they are wanted: to send an image, or to resample it, may take
        minutes. Their value, None after a cancel."""
        with closing(steps):
            while not self.cancelled:
                try:
                    step = next(steps)
                except StopIteration as end:
                    value: T = end.value
                    return value
                yield step
        return None

    def _look_in(self, conversation: Conversation, target: Target) -> Steps[None]:
        steps = conversation.segment(None, target.slices, cancel=lambda: self.cancelled)
        with closing(steps):
            for result in steps:
                self._check_present(target)
                if result is not None:
                    self.found += 1
                    target.take(result)
                yield result
        if conversation.state.image is not target.image:
            raise FoBSAMError(
                "cancelled",
                "The run was given up: another one has begun.",
                "Wait for the other one's end, then segment again.",
                retryable=True,
            )

    def _check_present(self, target: Target) -> None:
        if self.gone(target):
            raise FoBSAMError(
                "bad_request",
                f"{target.problem()} Nothing more can be found in it.",
                "Undo that or load it again, then segment again.",
            )

    def _show_in_preview(self, target: Target) -> None:
        assert target.image is not None
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

    def _return_to(self, conversation: Conversation, target: Target) -> Steps[None]:
        """Have the conversation be about a target again, after it went on to another one."""
        if conversation.state.image is target.image:
            return
        if self._under_way or conversation.running:
            raise FoBSAMError(
                "bad_request",
                f"Another volume is being looked in: what was found in {target.label} cannot be "
                "corrected meanwhile.",
                "Wait for the end of the run, or cancel it.",
            )
        _check_same(self._models, _names(conversation))
        yield from conversation.start()
        _check_same(self._computed_by, _identity(conversation))
        yield from self._set(conversation, target, self._support)
        yield from conversation.restore(
            result for found in target.found.values() for result in found.values()
        )

    def _accept(self, target: Target, editing: Editing) -> Accepted:
        with self._change(target):
            accepted = accept(
                self.drawn,
                target.masks(),
                target.confidence(),
                target.node,
                self.segmentation_node,
                editing,
            )
        target.written = self.segmentation_node
        return accepted

    def _accept_elsewhere(self, target: Target) -> slicer.vtkMRMLSegmentationNode:
        """A segmentation of a target's results, or its sequence's with them."""
        assert target.image is not None
        structures = [self._as_named(one) for one in self.drawn.structures]
        masks, point = target.masks(), target.query.point
        matrix, shape = target.image.ijk_to_ras, target.image.shape
        if point is None:
            grid = tags.SliceGrid(self.axis, matrix, shape)
            return new_segmentation(target.node, structures, masks, grid)
        # In its sequence a time point lies under no transform.
        grid = tags.SliceGrid(self.axis, world_to_node(target.node) @ matrix, shape)
        return store(target.node, structures, {point.value: (masks, grid)}, self.segmentation_node)

    def _as_named(self, one: DrawnStructure) -> DrawnStructure:
        """A structure with its segment's own name: those of equal names were told apart."""
        segment = self.segmentation_node.GetSegmentation().GetSegment(one.segment_id)
        name = segment.GetName() if segment is not None else ""
        return replace(one, structure=replace(one.structure, name=name)) if name else one

    def _segment(self, segment_id: str) -> tuple[slicer.vtkSegment, tags.SliceGrid]:
        """A segment, and the run's slices as its tags know them."""
        segment = self.segmentation_node.GetSegmentation().GetSegment(segment_id)
        if segment is None:
            raise FoBSAMError(
                "bad_request",
                f"The segment {self.structure_name(segment_id)} was deleted.",
                "Undo that in the Segment Editor, or discard what was found.",
            )
        grid = tags.SliceGrid.of(
            self.segmentation_node, self.drawn.ijk_to_world, self.drawn.shape, self.drawn.axis
        )
        return segment, grid

    @contextmanager
    def _change(self, target: Target) -> Iterator[None]:
        """What is changed from here is no reason to doubt the results."""
        self._changing = True
        try:
            yield
            self._remember(target)
        finally:
            self._changing = False

    def _remember(self, target: Target) -> None:
        target.remember(self.segmentation_node, [one.segment_id for one in self.drawn.structures])


def _forget_correction(conversation: Conversation, target: Target, result: SliceResult) -> None:
    """The next worker is not to make a slice's correction again."""
    if conversation.state.image is target.image:
        conversation.state.corrected.drop(result)


def _names(conversation: Conversation) -> tuple[str, ...]:
    """Generator and segmenter as asked for; where they compute makes no difference."""
    return conversation.models[:2]


def _identity(conversation: Conversation) -> tuple[str, ...]:
    """What computes there, once a worker has told: with the weights, which a name may share."""
    models = conversation.worker["models"]
    keys = ("generator", "segmenter", "generator_sha256", "segmenter_sha256")
    return tuple(models.get(key, "") for key in keys)


def _check_same(before: tuple[str, ...], now: tuple[str, ...]) -> None:
    if before != now:
        first, second = ", ".join(before[:2]), ", ".join(now[:2])
        other = f"not with {second}" if first != second else "with other weights than are there now"
        raise FoBSAMError(
            "bad_request",
            f"The results were found with {first}, {other}: they cannot be corrected with these.",
            "Accept the results as they are, or segment again.",
        )
