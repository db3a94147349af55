"""Volumes of a sequence: its time points, and what was found in each, as a sequence beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml import placement, tags
from FoBSAMLib.mrml.accept import Masks, fill
from FoBSAMLib.mrml.labelmaps import to_vtk, world_to_node
from FoBSAMLib.mrml.volumes import ijk_to_world, node_to_world

if TYPE_CHECKING:
    from FoBSAMLib.mrml.drawn import DrawnStructure

#: The attribute of a sequence that is ours to write into.
OURS = "FoBSAM.Results"


@dataclass(frozen=True)
class TimePoint:
    """One item of a sequence: its index value, what to call it, and the node with its voxels.

    ``node`` is in the sequence's own scene, under no transform. The ``current`` one is what the
    scene shows; the user draws on it.
    """

    value: str
    label: str
    node: slicer.vtkMRMLVolumeNode
    current: bool


def time_points(volume_node: slicer.vtkMRMLVolumeNode | None) -> tuple[TimePoint, ...]:
    """The time points of the sequence that a volume node shows; none where it shows none."""
    browser = _browser(volume_node)
    if browser is None:
        return ()
    sequence, current = browser.GetSequenceNode(volume_node), _current(browser)
    unit = f" {sequence.GetIndexUnit()}" if sequence.GetIndexUnit() else ""
    values = [sequence.GetNthIndexValue(n) for n in range(sequence.GetNumberOfDataNodes())]
    return tuple(
        TimePoint(
            value,
            f"{sequence.GetIndexName() or 'item'} {value}{unit}",
            sequence.GetNthDataNode(n),
            value == current,
        )
        for n, value in enumerate(values)
    )


def show_time_point(volume_node: slicer.vtkMRMLVolumeNode, point: TimePoint) -> None:
    """Have the sequence browser show a time point of the sequence that a volume node shows."""
    browser = _browser(volume_node)
    if browser is None:
        return
    master = browser.GetMasterSequenceNode()
    values = [master.GetNthIndexValue(n) for n in range(master.GetNumberOfDataNodes())]
    if point.value in values:
        browser.SetSelectedItemNumber(values.index(point.value))


def store(
    volume_node: slicer.vtkMRMLVolumeNode,
    structures: Iterable[DrawnStructure],
    results: Mapping[str, tuple[Masks, tags.SliceGrid]],
    segmentation_node: slicer.vtkMRMLSegmentationNode | None = None,
) -> slicer.vtkMRMLSegmentationNode:
    """Keep what was found in time points as a sequence that is browsed together with the volume.

    Every time point has a segmentation in it: what was found there, what an earlier call stored,
    or empty segments. That of the current one starts as a copy of the user's own segmentation,
    ``segmentation_node``, which is left alone.

    Args:
        volume_node: what the browser shows of the volumes' sequence.
        structures: give the segments their IDs, names, colours and terminology.
        results: by index value, with the grid they are on (as the time point's node lies).

    Returns:
        The node that shows the segmentation of the current time point. Edits of it are kept.

    Raises:
        FoBSAMError: the volume shows no sequence, or there is no such time point.
    """
    browser = _browser(volume_node)
    if browser is None:
        raise FoBSAMError(
            "bad_request",
            f"{volume_node.GetName()} is not part of a sequence.",
            "Choose the volume that the sequence browser shows.",
        )
    points = time_points(volume_node)
    unknown = set(results) - {point.value for point in points}
    if unknown:
        raise FoBSAMError(
            "bad_request",
            f"The sequence of {volume_node.GetName()} has no time point {min(unknown)}.",
            f"It has {', '.join(point.value for point in points)}.",
        )
    structures = list(structures)
    sequence = _sequence(browser, volume_node)
    if browser.IsSynchronizedSequenceNode(sequence):
        _part(browser, sequence)
        # While edits are kept, what is shown would be written over what is stored now.
        browser.SetSaveChanges(sequence, False)
    for point in points:
        if point.value in results:
            content = _found(point, structures, *results[point.value])
        elif sequence.GetDataNodeAtValue(point.value) is not None:
            continue
        elif point.current and segmentation_node is not None:
            content = _copy(volume_node, point, structures, segmentation_node)
        else:
            content = _found(point, structures, {}, _grid(point))
        sequence.SetDataNodeAtValue(content, point.value)
    return _proxy(browser, sequence, volume_node)


def _browser(
    volume_node: slicer.vtkMRMLVolumeNode | None,
) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The browser that shows a sequence in a volume node."""
    scene = volume_node.GetScene() if volume_node is not None else None
    if scene is None:
        return None
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(n, "vtkMRMLSequenceBrowserNode")
        if browser.GetSequenceNode(volume_node) is not None:
            return browser
    return None


def _current(browser: slicer.vtkMRMLSequenceBrowserNode) -> str:
    """The index value that is shown; that of the sequence the browser is led by."""
    master, item = browser.GetMasterSequenceNode(), browser.GetSelectedItemNumber()
    return master.GetNthIndexValue(item) if master is not None and item >= 0 else ""


def _sequence(
    browser: slicer.vtkMRMLSequenceBrowserNode, volume_node: slicer.vtkMRMLVolumeNode
) -> slicer.vtkMRMLSequenceNode:
    """The sequence of the browser that is ours; a new one, not browsed yet, where there is none."""
    of_volume = browser.GetSequenceNode(volume_node)
    scene = volume_node.GetScene()
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")):
        sequence = scene.GetNthNodeByClass(n, "vtkMRMLSequenceNode")
        if sequence.GetAttribute(OURS) == of_volume.GetID():
            return sequence
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} (FoBSAM)")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.CopySequenceIndex(of_volume)
    sequence.SetAttribute(OURS, of_volume.GetID())
    return sequence


def _part(browser: slicer.vtkMRMLSequenceBrowserNode, sequence: slicer.vtkMRMLSequenceNode) -> None:
    """Let what is stored not be what is shown: while edits are kept the two are one segmentation,
    and once they are not, MRML would empty it by copying it onto itself."""
    shown, stored = browser.GetProxyNode(sequence), sequence.GetDataNodeAtValue(_current(browser))
    if shown is None or stored is None or shown.GetSegmentation() is not stored.GetSegmentation():
        return
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(shown.GetSegmentation())
    stored.SetAndObserveSegmentation(copy)


def _found(
    point: TimePoint,
    structures: Iterable[DrawnStructure],
    masks: Masks,
    grid: tags.SliceGrid,
) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation of what was found in a time point, in no scene: a sequence copies it."""
    node = slicer.vtkMRMLSegmentationNode()
    fill(node, point.node, structures, masks, grid)
    # The node it refers to is not in the scene in which this will be shown.
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
    return node


def _copy(
    volume_node: slicer.vtkMRMLVolumeNode,
    point: TimePoint,
    structures: Iterable[DrawnStructure],
    segmentation_node: slicer.vtkMRMLSegmentationNode,
) -> slicer.vtkMRMLSegmentationNode:
    """The structures of the user's own segmentation, where they lie on the volume that is shown."""
    node, source = slicer.vtkMRMLSegmentationNode(), segmentation_node.GetSegmentation()
    for structure in structures:
        if source.GetSegment(structure.segment_id) is not None:
            node.GetSegmentation().CopySegmentFromSegmentation(source, structure.segment_id)
    to_volume = world_to_node(volume_node) @ node_to_world(segmentation_node)
    if not np.allclose(to_volume, np.eye(4)):
        node.ApplyTransformMatrix(to_vtk(to_volume))
    node.SetReferenceImageGeometryParameterFromVolumeNode(point.node)
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), None)
    return node


def _grid(point: TimePoint) -> tags.SliceGrid:
    width, height, depth = point.node.GetImageData().GetDimensions()
    return tags.SliceGrid("k", ijk_to_world(point.node), (depth, height, width))


def _proxy(
    browser: slicer.vtkMRMLSequenceBrowserNode,
    sequence: slicer.vtkMRMLSequenceNode,
    volume_node: slicer.vtkMRMLVolumeNode,
) -> slicer.vtkMRMLSegmentationNode:
    """The node that shows the sequence, up to date, under the volume's transform and study."""
    if not browser.IsSynchronizedSequenceNode(sequence):
        # The module's logic makes the node that shows it; a script may have none.
        browser.AddSynchronizedSequenceNode(sequence)
    node = browser.GetProxyNode(sequence)
    if node is None:
        node = volume_node.GetScene().AddNewNodeByClass(
            "vtkMRMLSegmentationNode", sequence.GetName()
        )
        browser.AddProxyNode(node, sequence, False)
    node.CopyContent(sequence.GetDataNodeAtValue(_current(browser)))
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    placement.file_under(node, volume_node)
    browser.SetSaveChanges(sequence, True)
    return node
