"""`segment` for Slicer's Python console and for scripts, also without Slicer's application."""

# ruff: noqa: N802, N803 (parameters and methods as Slicer's own API spells them)

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml import packages
from FoBSAMLib.mrml.accept import Accepted
from FoBSAMLib.mrml.drawn import read_drawn
from FoBSAMLib.mrml.editing import Editing, LogicEditing
from FoBSAMLib.mrml.navigation import slice_nodes
from FoBSAMLib.mrml.request import Progress, Request
from FoBSAMLib.mrml.run import Query, Run, Slices, Target
from FoBSAMLib.mrml.sequences import time_points


class Segmented:
    """What `segment` found, or is finding: previews in the scene until accepted or discarded.

    Results are asked for by the volume node they are in, None for the first one (the volume that
    was drawn on, where it was looked in), and of a sequence by the index value of the time point.

    Example::

        found = mrml.segment(volume, segmentation, accept=False)
        for index, result in sorted(found.slices("Segment_1").items()):
            print(index, result.confidence, result.mask.sum())
        found.accept()
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._request: Request | None = None
        self._targets = list(run.targets)
        #: What computed: names, weights' checksums, device; empty before the end.
        self.models: dict[str, str] = {}
        #: What the user should know, one sentence each.
        self.notes: list[str] = []
        #: What became of the results that were accepted into the segmentation; None before.
        self.accepted: Accepted | None = None

    @property
    def volumes(self) -> list[Any]:
        """The volume nodes looked in that were not accepted or discarded; of a sequence, one."""
        return list(dict.fromkeys(target.node for target in self._run.targets))

    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
        return self._request is None or self._request.ended

    @property
    def cancelled(self) -> bool:
        """Whether it was told to stop before its end."""
        return self._run.cancelled

    def slices(self, segmentID: str, volumeNode: Any = None, timePoint: str = "") -> Slices:
        """Results of a structure (`FoBSAMLib.session.results.SliceResult`) by slice index, also
        when they were accepted."""
        return self._target(volumeNode, timePoint).results(segmentID)

    def previewNode(self, volumeNode: Any = None, timePoint: str = "") -> Any:
        """The segmentation node that shows what was found, None where there is none (any more)."""
        preview = self._target(volumeNode, timePoint).preview
        return preview.node if preview is not None else None

    def resultNode(self, volumeNode: Any = None, timePoint: str = "") -> Any:
        """The segmentation node with what was accepted, None before; for other time points of a
        sequence the one that shows theirs as they are browsed."""
        return self._target(volumeNode, timePoint).written

    def cancel(self) -> None:
        """Stop before the next slice; what was found stays, and is accepted where `segment` was
        told to accept."""
        self._run.cancel()

    def accept(self, volumeNode: Any = None, editing: Editing | None = None) -> Accepted | None:
        """Write what was found into the segmentation, as one step that can be undone; of other
        volumes, into segmentations of their own.

        Args:
            volumeNode: of this volume alone; None for all.
            editing: whose undo and masking it is. None stands for the Segment Editor that the
                user sees. A script without Slicer's application makes its own to be able to undo:
                ``mrml.LogicEditing(scene)``.

        Returns:
            What became of the results in the segmentation (also `accepted`), None where there
            were none for it.

        Raises:
            FoBSAMError: image, drawing or geometry have changed since, or a node is gone; nothing
                is changed then. It has not ended yet; there are no such results.
        """
        if not self.done:
            raise FoBSAMError(
                "bad_request", "The run has not ended yet.", "Wait for its end, or cancel it."
            )
        targets = [t for t in self._run.targets if volumeNode is None or t.node is volumeNode]
        if not targets:
            raise _nothing_there()
        for target in targets:
            problem = self._run.problems(target)
            if problem:
                raise FoBSAMError(
                    "bad_request", f"The results do not fit any more: {problem}", "Segment again."
                )
        accepted = None
        for target in targets:
            editing = editing or _editing(target.node.GetScene())
            accepted = self._run.accept(target, editing) or accepted
            if target.preview is None:  # else masking has left nothing to write
                self._run.targets.remove(target)
        self.accepted = accepted or self.accepted
        return accepted

    def discard(self) -> None:
        """Remove the previews, and stop where it has not ended: neither ``onDone`` nor ``onError``
        is called. The segmentation stays as it is."""
        if self._request is not None:
            self._request.drop()
        self._run.discard()
        self._run.targets.clear()

    def _target(self, node: Any, time_point: str) -> Target:
        for target in self._targets:
            point = target.query.point
            value = point.value if point is not None else ""
            if node in (None, target.node) and time_point in ("", value):
                return target
        raise _nothing_there()

    def _end(self, models: dict[str, str], notes: list[str]) -> None:
        """It is through: the previews show everything, one for each volume."""
        self.models, self.notes = models, notes
        shown = set()
        for target in self._run.targets:
            if target.preview is not None:
                target.preview.flush()
                target.preview.node.GetDisplayNode().SetVisibility(target.node not in shown)
                shown.add(target.node)


def segment(
    volumeNode: Any,
    segmentationNode: Any,
    segmentIDs: Iterable[str] | None = None,
    *,
    queries: Iterable[Any] = (),
    ownVolume: bool = True,
    timePoints: bool = False,
    slices: range | None = None,
    axis: str = "auto",
    generator: str = "fob-lite",
    segmenter: str = "compact",
    device: str = "auto",
    workerCommand: Sequence[str] | None = None,
    accept: bool = True,
    editing: Editing | None = None,
    progress: Progress | None = None,
    onDone: Callable[[Segmented], object] | None = None,
    onError: Callable[[FoBSAMError], object] | None = None,
) -> Segmented:
    """Find what is drawn on a few slices of a volume in its other slices, or in other volumes.

    Waits until it is through; with ``onDone`` it returns at once, and Slicer's event loop does
    the rest (without Slicer's application it waits all the same). What is drawn, in whatever
    slice view, is never changed; accepted results are no supports of the next call.

    Args:
        volumeNode: the volume that was drawn on; under no parent transform or a linear one.
        segmentationNode: holds what is drawn, in segments, on any grid.
        segmentIDs: segments to find, by ID; all that are drawn for None.
        queries: other volume nodes to look in.
        ownVolume: whether to look in the volume's own other slices. One that has none left, as a
            photograph, is left out where there are other volumes.
        timePoints: look in the other time points of the sequence that the volume is shown of.
        slices: of the volume itself, along the axis of the drawing; all for None. For a drawing in
            an oblique view, slices parallel to it.
        axis: of the volume, "i", "j" or "k", where it is not plain along which was drawn.
        generator, segmenter, device: what computes, and where; as for `FoBSAMLib.WorkerSession`.
        workerCommand: what starts the worker, as in ``["ssh", "host", "fobsam", "worker"]``; this
            computer's own for None.
        accept: write the results at the end, as `Segmented.accept` does, also what was found
            before a cancel; else they stay a preview.
        editing: see `Segmented.accept`.
        progress: called after every slice with how many are done, how many there will be, and
            the slice's result. Returning False cancels. What it raises ends the call, and is
            raised here, or printed and told to ``onError``.
        onDone: called at the end, also after a cancel, with what is returned here. What it raises
            is printed, as with ``onError``.
        onError: called with what goes wrong after the return; without it that is printed.

    Returns:
        What was found, or is being found.

    Raises:
        FoBSAMError: nothing is drawn, or not on slices; no image; a non-linear transform; no such
            slices; another call is under way; Python packages that this computer's worker needs
            are not installed; and, unless ``onDone`` is given, what goes wrong on the way. Then
            no preview is left, and nothing of that volume is written.

    Example::

        from FoBSAMLib import mrml

        volume, segmentation = getNode("CT"), getNode("Segmentation")
        found = mrml.segment(volume, segmentation)  # and into the segmentation
        mrml.segment(volume, segmentation, queries=[getNode("CT_2")], ownVolume=False)

        def done(found):
            print(len(found.slices("Segment_1")), "slices")

        mrml.segment(volume, segmentation, accept=False, onDone=done, onError=print)
    """
    _check_kind(volumeNode, slicer.vtkMRMLVolumeNode, "volume")
    _check_kind(segmentationNode, slicer.vtkMRMLSegmentationNode, "segmentation")
    wanted = [segmentIDs] if isinstance(segmentIDs, str) else segmentIDs
    views = slice_nodes(volumeNode.GetScene())
    drawn = read_drawn(volumeNode, segmentationNode, wanted, views, axis)
    others = _queries(volumeNode, queries, time_points=timePoints)
    run = Run(drawn, volumeNode, segmentationNode, own=ownVolume, slices=slices, queries=others)
    engine = _engine()
    if engine.busy:
        raise FoBSAMError(
            "bad_request", "FoBSAM is at work already.", "Wait for its end, or cancel it."
        )
    command = _command(workerCommand)
    if command is None:
        packages.check_installed((generator, segmenter, device))
    engine.configure((generator, segmenter, device), command)
    segmented = Segmented(run)

    def end(models: dict[str, str], notes: list[str]) -> None:
        segmented._end(models, notes)
        if accept:
            segmented.accept(editing=editing)

    def done() -> None:
        if onDone is not None:
            onDone(segmented)

    request = Request(run, engine, end, progress, done, onError)
    segmented._request = request
    request.start(wait=onDone is None)
    return segmented


def close() -> None:
    """End the worker that `segment` keeps warm; the next call starts another one.

    A call under way fails. In Slicer the panel's worker is the same one.
    """
    _engine().reset()


def _check_kind(node: Any, kind: Any, what: str) -> None:
    if not isinstance(node, kind) or node.GetScene() is None:
        given = f"a {node.GetClassName()}" if hasattr(node, "GetClassName") else repr(node)
        gone = " that is in no scene" if isinstance(node, kind) else ""
        raise FoBSAMError(
            "bad_request",
            f"The {what} is {given}{gone}.",
            f"Give a {what.split()[0]} node of the scene, as slicer.util.getNode('…') finds it.",
        )


def _command(given: Sequence[str] | None) -> list[str] | None:
    if given is not None and (isinstance(given, str) or not given):
        raise FoBSAMError(
            "bad_request",
            f"The worker's command is {given!r}.",
            "Give it as a list, as in ['ssh', 'host', 'fobsam', 'worker'].",
        )
    return None if given is None else list(given)


def _queries(volume_node: Any, nodes: Iterable[Any], *, time_points: bool) -> list[Query]:
    """The other volumes to look in, each once."""
    queries = []
    for node in dict.fromkeys([nodes] if isinstance(nodes, slicer.vtkMRMLNode) else nodes):
        _check_kind(node, slicer.vtkMRMLVolumeNode, "volume to look in")
        if node is volume_node:
            raise FoBSAMError(
                "bad_request",
                f"{node.GetName()} is the volume that was drawn on.",
                "Give other volumes as queries; ownVolume says whether to look in that one.",
            )
        queries.append(Query(node.GetName() or "", node))
    if time_points:
        queries += _time_points(volume_node)
    return queries


def _time_points(volume_node: Any) -> list[Query]:
    points = time_points(volume_node)
    if not points:
        raise FoBSAMError(
            "bad_request",
            f"{volume_node.GetName()} is not part of a sequence.",
            "Choose the volume that the sequence browser shows.",
        )
    return [Query(point.label, volume_node, point) for point in points if not point.current]


def _nothing_there() -> FoBSAMError:
    return FoBSAMError("bad_request", "There are no such results.", "See volumes.")


def _engine() -> Any:
    """Slicer's event loop drives the worker where there is one."""
    try:
        from FoBSAMLib.background import engine
    except ImportError:  # no Qt: Slicer's libraries without its application
        from FoBSAMLib.mrml import waiting

        return waiting.shared_engine()
    return engine.shared_engine()


def _editing(scene: Any) -> Editing:
    """The Segment Editor that the user sees, where there is one."""
    module = getattr(getattr(slicer, "modules", None), "segmenteditor", None)
    shown = scene is getattr(slicer, "mrmlScene", None)
    if shown and hasattr(module, "widgetRepresentation"):
        from FoBSAMLib.mrml.widget_editing import WidgetEditing

        return WidgetEditing()
    return LogicEditing(scene)
