"""`segment` for Slicer's Python console and for scripts, also without Slicer's application."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml.accept import Accepted
from FoBSAMLib.mrml.drawn import read_drawn
from FoBSAMLib.mrml.editing import Editing, LogicEditing
from FoBSAMLib.mrml.navigation import slice_nodes
from FoBSAMLib.mrml.run import Query, Run, Slices, Target
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Conversation, Steps
from FoBSAMLib.worker.transport import SubprocessTransport

#: Called after every slice with how many are done, how many there are, and the slice's result.
Progress = Callable[[int, int, SliceResult], None]


class Segmented:
    """What `segment` found, or is finding: previews in the scene until accepted or discarded."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._job: Any = None
        #: What computed: names, weights' checksums, device; empty before the end.
        self.models: dict[str, str] = {}
        #: What the user should know, one sentence each.
        self.notes: list[str] = []

    @property
    def volumes(self) -> list[Any]:
        """The volume nodes looked in that were not accepted or discarded."""
        return [target.node for target in self._run.targets]

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._job is None or bool(self._job.ended)

    def slices(self, segmentID: str, volumeNode: Any = None) -> Slices:  # noqa: N803
        """Results of a structure by slice index, in a volume (the first for None)."""
        return self._target(volumeNode).results(segmentID)

    def previewNode(self, volumeNode: Any = None) -> Any:  # noqa: N802, N803
        """The segmentation node that shows what was found in a volume."""
        preview = self._target(volumeNode).preview
        return preview.node if preview is not None else None

    def cancel(self) -> None:
        """Stop before the next slice; what was found stays."""
        self._run.cancel()

    def accept(self, volumeNode: Any = None, editing: Editing | None = None) -> Accepted | None:  # noqa: N803
        """Write what was found in a volume (the first for None) into the segmentation, as one
        step that can be undone; for another volume, into a segmentation of its own.

        Raises FoBSAMError, with nothing changed, where that cannot be, or where image, drawing
        or geometry have changed since.
        """
        target = self._target(volumeNode)
        problem = self._run.problems(target)
        if problem:
            raise FoBSAMError(
                "bad_request", f"The results do not fit any more: {problem}", "Segment again."
            )
        accepted = self._run.accept(target, editing or _editing())
        self._run.targets.remove(target)
        return accepted

    def discard(self) -> None:
        """Remove the previews; the segmentation stays as it is."""
        self._run.discard()
        self._run.targets.clear()

    def _target(self, node: Any) -> Target:
        for target in self._run.targets:
            if node is None or target.node is node:
                return target
        raise FoBSAMError("bad_request", "There are no results for this volume.", "See volumes.")


def segment(
    volumeNode: Any,  # noqa: N803
    segmentationNode: Any,  # noqa: N803
    segmentIDs: Iterable[str] | None = None,  # noqa: N803
    *,
    queries: Sequence[Any] = (),
    ownVolume: bool = True,  # noqa: N803
    slices: range | None = None,
    axis: str = "auto",
    generator: str = "fob-lite",
    segmenter: str = "compact",
    device: str = "auto",
    workerCommand: Sequence[str] | None = None,  # noqa: N803
    accept: bool = True,
    progress: Progress | None = None,
    onDone: Callable[[Segmented], None] | None = None,  # noqa: N803
    onError: Callable[[FoBSAMError], None] | None = None,  # noqa: N803
) -> Segmented:
    """Find what is drawn on a few slices of a volume in its other slices, or in other volumes.

    Waits until it is through; with ``onDone`` it returns at once, and Slicer's event loop does
    the rest.

    Args:
        volumeNode: the volume that was drawn on; under no parent transform or a linear one.
        segmentationNode: holds what is drawn, in segments.
        segmentIDs: segments to find; all that are drawn for None.
        queries: other volume nodes to look in.
        ownVolume: whether to look in the volume's own other slices.
        slices: of the volume, along the axis of the drawing; all for None.
        axis: "i", "j" or "k" where it is not plain along which axis was drawn.
        generator, segmenter, device, workerCommand: as for `FoBSAMLib.WorkerSession`.
        accept: write the results into the segmentation at the end, as one step that can be
            undone; else they stay a preview, see `Segmented`.
        progress: called after every slice.
        onDone: called at the end, with what is returned.
        onError: called with what goes wrong after the return; without it that is printed.

    Returns:
        What was found, or is being found.

    Raises:
        FoBSAMError: nothing is drawn, or not on slices; no image; another run is under way; and
            what goes wrong on the way, unless ``onDone`` is given.
    """
    if segmentIDs is not None:
        segmentIDs = list(segmentIDs)  # noqa: N806
    views = slice_nodes(volumeNode.GetScene()) if volumeNode is not None else []
    drawn = read_drawn(volumeNode, segmentationNode, segmentIDs, views, axis)
    named = [Query(node.GetName(), node) for node in queries]
    run = Run(drawn, volumeNode, segmentationNode, own=ownVolume, slices=slices, queries=named)
    engine = _engine()
    if engine.busy:
        raise FoBSAMError(
            "bad_request", "FoBSAM is at work already.", "Wait for its end, or cancel it."
        )
    command = list(workerCommand) if workerCommand is not None else None
    engine.configure((generator, segmenter, device), command)
    segmented = Segmented(run)
    failed: list[FoBSAMError] = []

    def came(result: SliceResult) -> None:
        if progress is not None:
            progress(run.found, run.total, result)

    def end(_value: object) -> None:
        segmented.models = dict(engine.conversation.worker["models"])
        segmented.notes = list(engine.conversation.notes)
        for target in run.targets:
            if target.preview is not None:
                target.preview.flush()
        if accept:
            for node in segmented.volumes:
                segmented.accept(node)
        if onDone is not None:
            onDone(segmented)

    def fail(error: FoBSAMError) -> None:
        run.discard()
        if onDone is None:
            failed.append(error)
        elif onError is not None:
            onError(error)
        else:
            print(f"FoBSAM: {error}")

    segmented._job = engine.start(run.steps(engine.conversation), came, end, fail)
    if onDone is None:
        engine.finish(segmented._job)
        if failed:
            raise failed[0]
    return segmented


def close() -> None:
    """End the worker that `segment` keeps warm; the next call starts another one."""
    _engine().reset()


def _engine() -> Any:
    """Slicer's event loop drives the worker where there is one."""
    if importlib.util.find_spec("qt") is None:
        return _plain_engine()
    from FoBSAMLib.background.engine import shared_engine

    return shared_engine()


def _editing() -> Editing:
    """The Segment Editor that the user sees, where there is one."""
    if hasattr(getattr(slicer, "modules", None), "segmenteditor"):
        from FoBSAMLib.mrml.widget_editing import WidgetEditing

        return WidgetEditing()
    return LogicEditing(slicer.mrmlScene)


class _PlainEngine:
    """`Engine` without an event loop: what is started is waited for."""

    busy = False
    ended = True

    def __init__(self) -> None:
        self._chosen: tuple[Any, ...] = ()
        self.conversation = Conversation(("", "", ""), SubprocessTransport())

    def configure(self, models: tuple[str, str, str], command: list[str] | None) -> None:
        if (models, command) != self._chosen:
            self.conversation.close()
            self.conversation = Conversation(models, SubprocessTransport(command))
            self._chosen = (models, command)

    def start(
        self,
        steps: Steps[Any],
        on_result: Callable[[SliceResult], None],
        on_done: Callable[[Any], None],
        on_failed: Callable[[FoBSAMError], None],
    ) -> _PlainEngine:
        try:
            with closing(steps):
                for result in steps:
                    if result is not None:
                        on_result(result)
            on_done(None)
        except FoBSAMError as error:
            on_failed(error)
        return self

    def finish(self, job: object) -> None:
        pass

    def reset(self) -> None:
        self.conversation.close()
        self._chosen = ()


@cache
def _plain_engine() -> _PlainEngine:
    return _PlainEngine()
