"""Whether results still fit what they are of: volume, segmentation and scene change under a run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml.labelmaps import BINARY_LABELMAP
from FoBSAMLib.mrml.masks import SegmentMask, read_segments
from FoBSAMLib.mrml.volumes import node_to_world

#: What moved less than this, in mm, did not move.
STILL = 1e-6


@dataclass(frozen=True)
class _Drawing:
    """A segment: its name, what is drawn of it, and when its labelmap was modified."""

    name: str
    checksum: int
    modified: int


@dataclass(frozen=True)
class Fingerprint:
    """A volume and what is drawn for it, as they were when a run began.

    Voxels are not looked at: they have changed when their array is another one, or was said to
    be modified. Of the drawing, which is small, the content counts, so that an undo of an edit
    undoes the problem too. How things are displayed or called does not count.
    """

    volume_node: slicer.vtkMRMLVolumeNode
    segmentation_node: slicer.vtkMRMLSegmentationNode | None
    _voxels_of: slicer.vtkMRMLVolumeNode
    _voxels: int
    _geometry: tuple[float, ...]
    _moved_by: np.ndarray
    _segmentation_moved_by: np.ndarray
    _drawings: dict[str, _Drawing]

    @classmethod
    def of(
        cls,
        volume_node: slicer.vtkMRMLVolumeNode,
        segmentation_node: slicer.vtkMRMLSegmentationNode | None,
        segment_ids: Iterable[str] = (),
        voxels_of: slicer.vtkMRMLVolumeNode | None = None,
    ) -> Fingerprint:
        """As they are now.

        ``voxels_of`` is the node with the voxels where ``volume_node`` shows those of others too,
        as it does of a sequence. Raises FoBSAMError for a parent transform that is not linear.
        """
        voxels_of = voxels_of or volume_node
        drawings, moved_by = {}, np.eye(4)
        if segmentation_node is not None:
            moved_by = node_to_world(segmentation_node)
            wanted = list(segment_ids)
            sums = _checksums(segmentation_node, wanted)
            drawings = {
                one: _Drawing(_segment(segmentation_node, one).GetName(), sums[one], modified)
                for one, modified in _modified(segmentation_node, wanted).items()
            }
        return cls(
            volume_node,
            segmentation_node,
            voxels_of,
            _voxels(voxels_of),
            _own_geometry(voxels_of),
            node_to_world(volume_node),
            moved_by,
            drawings,
        )

    def problem(self) -> str | None:
        """What has changed since, in a sentence for the user; None where nothing has."""
        return next(self._problems(), None)

    def _problems(self) -> Iterator[str]:
        name = self.volume_node.GetName()
        if self.volume_node.GetScene() is None:
            yield f"The volume {name} was deleted."
        elif _moved(self.volume_node, self._moved_by):
            yield f"The volume {name} was moved: its transform changed."
        elif _voxels(self._voxels_of) != self._voxels:
            yield f"The voxels of {name} changed."
        elif not np.allclose(_own_geometry(self._voxels_of), self._geometry, rtol=0, atol=STILL):
            yield f"The geometry of {name} changed."
        if self.segmentation_node is not None:
            yield from self._problems_of_drawing(self.segmentation_node)

    def _problems_of_drawing(self, node: slicer.vtkMRMLSegmentationNode) -> Iterator[str]:
        if node.GetScene() is None:
            yield f"The segmentation {node.GetName()} was deleted."
            return
        if _moved(node, self._segmentation_moved_by):
            yield f"The segmentation {node.GetName()} was moved: its transform changed."
            return
        existing = node.GetSegmentation().GetSegmentIDs()
        for segment_id, drawing in self._drawings.items():
            if segment_id not in existing:
                yield f"The segment {drawing.name} was deleted."
        present = [segment_id for segment_id in self._drawings if segment_id in existing]
        # A large segment's checksum takes a while, and most of the time nothing was touched.
        modified = _modified(node, present)
        touched = [one for one in present if modified[one] != self._drawings[one].modified]
        for segment_id, value in _checksums(node, touched).items():
            if value != self._drawings[segment_id].checksum:
                yield f"What is drawn of {self._drawings[segment_id].name} changed."


class Watch:
    """Calls back when watched nodes change in what a fingerprint is of, or go, until closed."""

    def __init__(self, nodes: Iterable[slicer.vtkMRMLNode], callback: Callable[[], object]):
        """Watch volume and segmentation nodes of one scene."""
        self._callback = callback
        self._nodes = list({node.GetID(): node for node in nodes}.values())
        self._present = list(self._nodes)
        self._observed: list[tuple[vtk.vtkObject, int]] = []
        self._contents = {node.GetID(): _content(node) for node in self._nodes}
        for node in self._nodes:
            for event in _events(node):
                self._observe(node, event, self._changed)
            self._observe(node, vtk.vtkCommand.ModifiedEvent, self._modified)
        if self._nodes:
            scene = self._nodes[0].GetScene()
            self._observe(scene, scene.NodeRemovedEvent, self._removed)
            self._observe(scene, scene.EndCloseEvent, self._removed)

    def close(self) -> None:
        """Stop; the callback is not called any more. Twice does nothing."""
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed.clear()
        self._callback = _nothing

    def _observe(self, observed: vtk.vtkObject, event: int, react: Callable[..., object]) -> None:
        self._observed.append((observed, observed.AddObserver(event, react)))

    def _changed(self, *_: object) -> None:
        self._callback()

    def _modified(self, node: slicer.vtkMRMLNode, _event: str) -> None:
        """A node is also modified by being renamed or displayed otherwise.

        Scripts that write into an array of voxels say so by the array and by the node alone.
        """
        content = _content(node)
        if content != self._contents[node.GetID()]:
            self._contents[node.GetID()] = content
            self._callback()

    def _removed(self, scene: slicer.vtkMRMLScene, _event: str) -> None:
        """Another node may have gone: scripts add and remove temporary ones all the time."""
        if scene.IsClosing():
            return  # everything goes; one call after it is enough
        present = [node for node in self._present if scene.IsNodePresent(node)]
        if len(present) < len(self._present):
            self._present = present
            self._callback()


def _nothing() -> None:
    """What a closed watch calls."""


def _events(node: slicer.vtkMRMLNode) -> list[int]:
    """The events of a node that may mean a change."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        return [node.ImageDataModifiedEvent, node.TransformModifiedEvent]
    segmentation = slicer.vtkSegmentation
    return [
        node.TransformModifiedEvent,
        node.SegmentationChangedEvent,
        segmentation.SourceRepresentationModified,
        segmentation.SegmentAdded,
        segmentation.SegmentRemoved,
        segmentation.SegmentModified,
    ]


def _content(node: slicer.vtkMRMLNode) -> tuple[object, ...]:
    """A volume's voxels and geometry, to compare; nothing for other nodes."""
    return (_own_geometry(node), _voxels(node)) if node.IsA("vtkMRMLVolumeNode") else ()


def _own_geometry(node: slicer.vtkMRMLNode) -> tuple[float, ...]:
    """A volume's geometry, to compare."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return tuple(matrix.GetElement(row, column) for row in range(4) for column in range(4))


def _voxels(node: slicer.vtkMRMLVolumeNode) -> int:
    """A number that changes with a volume's voxels; no two arrays have the same."""
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image else None
    return int(scalars.GetMTime()) if scalars is not None else 0


def _moved(node: slicer.vtkMRMLTransformableNode, before: np.ndarray) -> bool:
    """Whether a node's transform to world is another one, or none that is linear."""
    try:
        return not np.allclose(node_to_world(node), before, rtol=0, atol=STILL)
    except FoBSAMError:
        return True


def _segment(node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> slicer.vtkSegment:
    return node.GetSegmentation().GetSegment(segment_id)


def _modified(node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]) -> dict[str, int]:
    """When each segment's labelmap was modified; no two labelmaps have the same number."""
    labelmaps = {s: _segment(node, s).GetRepresentation(BINARY_LABELMAP) for s in segment_ids}
    return {s: int(image.GetMTime()) if image else 0 for s, image in labelmaps.items()}


def _checksums(node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]) -> dict[str, int]:
    """A checksum of each segment's voxels and where they are; 0 for those without any."""
    wanted = list(segment_ids)
    masks = read_segments(node, wanted)
    return {s: _checksum(masks[s]) if s in masks else 0 for s in wanted}


def _checksum(mask: SegmentMask) -> int:
    # The first voxel's place, not its index: the labelmap's own grid may begin elsewhere.
    corner = mask.ijk_to_world @ [*mask.patch.start[::-1], 1]
    place = np.round([*corner, *mask.ijk_to_world[:3, :3].ravel()], 3) + 0.0
    voxels = mask.patch.voxels
    value = zlib.crc32(np.array(voxels.shape).tobytes(), zlib.crc32(place.tobytes()))
    return zlib.crc32(np.packbits(voxels).tobytes(), value)
