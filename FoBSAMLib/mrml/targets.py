"""What a run looks in: a volume of the scene, or a time point of a sequence, and its results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.oblique import covers, plane_grid, resample_steps
from FoBSAMLib.image.orientation import oriented_like
from FoBSAMLib.image.volume import ARRAY_AXIS, Volume
from FoBSAMLib.mrml.accept import Masks
from FoBSAMLib.mrml.drawn import Drawn
from FoBSAMLib.mrml.naming import slice_normal
from FoBSAMLib.mrml.preview import Preview
from FoBSAMLib.mrml.sequences import TimePoint, time_points
from FoBSAMLib.mrml.volumes import node_to_world, read_volume
from FoBSAMLib.mrml.watch import Fingerprint
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.conversation import Steps

#: Results by slice index.
Slices = dict[int, SliceResult]


@dataclass(frozen=True)
class Query:
    """Another volume to look in, and what to call it; of a sequence, one of its time points."""

    label: str
    node: slicer.vtkMRMLVolumeNode
    point: TimePoint | None = None


def own_query(volume_node: slicer.vtkMRMLVolumeNode) -> Query:
    """The volume that was drawn on; of a sequence, the time point that is shown now."""
    shown = [point for point in time_points(volume_node) if point.current]
    return Query(volume_node.GetName() or "", volume_node, shown[0] if shown else None)


@dataclass(eq=False)
class Target:
    """A volume that a run looks in, and what it found there, by segment ID.

    ``image`` is the volume on the run's grid, None until it is read; ``found`` is what was found,
    ``corrected`` what the user made of it by moving points, ``answered`` what was in the slices
    that the user has taken as support since, or said not to hold the structure. ``awaited`` holds
    the latest request for every slice whose correction is being made. ``written`` is the
    segmentation that holds what was accepted.
    """

    query: Query
    own: bool
    slices: range | None = None
    image: Volume | None = None
    preview: Preview | None = None
    fingerprint: Fingerprint | None = None
    found: dict[str, Slices] = field(default_factory=dict)
    corrected: dict[str, Slices] = field(default_factory=dict)
    answered: dict[str, dict[int, list[SliceResult]]] = field(default_factory=dict)
    awaited: dict[tuple[str, int], object] = field(default_factory=dict)
    written: slicer.vtkMRMLSegmentationNode | None = None

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
        return replace(volume, ijk_to_ras=geometry, name=self.node.GetName() or volume.name)

    def grid(self, drawn: Drawn) -> tuple[np.ndarray, tuple[int, int, int]]:
        """Matrix and shape of the grid on which it is looked in: its own voxels, as those of the
        drawing lie, or slices parallel to a plane drawn in an oblique view."""
        if self.own:
            return drawn.ijk_to_world, drawn.shape
        image = oriented_like(self.read(), drawn.ijk_to_world)
        if not drawn.oblique:
            return image.ijk_to_ras, image.shape
        if covers(drawn.ijk_to_world, drawn.shape, image.ijk_to_ras, image.shape):
            return drawn.ijk_to_world, drawn.shape  # as another time point does
        k, j, i = image.shape
        centre = image.ijk_to_ras @ [(i - 1) / 2, (j - 1) / 2, (k - 1) / 2, 1]
        normal = slice_normal(drawn.ijk_to_world, drawn.axis)
        matrix, shape = plane_grid(image.ijk_to_ras, image.shape, centre[:3], normal)
        # A plane halfway between two axes of the volume may come out the other side up.
        grid = Volume(np.broadcast_to(np.uint8(0), shape), matrix)
        upright = oriented_like(grid, drawn.ijk_to_world)
        return upright.ijk_to_ras, upright.shape

    def image_steps(self, drawn: Drawn) -> Steps[Volume]:
        """Its voxels on the grid of `grid`; resampled, where they have to be, little by little."""
        image = oriented_like(self.read(), drawn.ijk_to_world)
        if drawn.oblique:
            image = yield from resample_steps(image, *self.grid(drawn))
        return image

    def wanted(self, drawn: Drawn) -> range:
        """The slices to look in.

        Raises FoBSAMError for some that there are not.
        """
        count = self.grid(drawn)[1][ARRAY_AXIS[drawn.axis]]
        slices = self.slices if self.slices is not None else range(count)
        if not isinstance(slices, range):
            raise FoBSAMError(
                "bad_request", f"Slices are given as {slices!r}.", "Give range(first, last + 1)."
            )
        if slices.step != 1 or not 0 <= slices.start < slices.stop <= count:
            raise FoBSAMError(
                "bad_request",
                f"There are no slices from {slices.start} to {slices.stop - 1} of "
                f"{self.label or 'the volume'}.",
                f"Slices run from 0 to {count - 1}, one by one.",
            )
        return slices

    def count(self, drawn: Drawn) -> int:
        """How many results there will be; raises FoBSAMError as `wanted`."""
        slices, total = self.wanted(drawn), 0
        for one in drawn.structures:
            known = {*one.masks, *one.absent} if self.own else set()
            total += len(slices) - sum(n in slices for n in known)
        return total

    def remember(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, segment_ids: Iterable[str]
    ) -> None:
        """Take the volume, and what is drawn on it, as they are now for what results are of."""
        point = self.query.point
        self.fingerprint = Fingerprint.of(
            self.node,
            segmentation_node if self.own else None,
            segment_ids,
            voxels_of=point.node if point is not None else None,
        )

    def problem(self) -> str:
        """What has changed since, in a sentence; empty where nothing has."""
        return (self.fingerprint.problem() if self.fingerprint is not None else None) or ""

    def results(self, segment_id: str) -> Slices:
        """What there is of a structure, corrected where it was corrected."""
        return {**self.found.get(segment_id, {}), **self.corrected.get(segment_id, {})}

    def masks(self) -> Masks:
        """The masks of all results."""
        return {s: {n: r.mask for n, r in self.results(s).items()} for s in self.found}

    def confidence(self) -> dict[str, dict[int, float]]:
        """How sure all results are."""
        return {s: {n: r.confidence for n, r in self.results(s).items()} for s in self.found}

    def take(self, result: SliceResult, *, corrected: bool = False) -> None:
        """Keep a result and put it into the preview; `Preview.flush` shows it."""
        kept = self.corrected if corrected else self.found
        kept.setdefault(result.structure.id, {})[result.index] = result
        if self.preview is not None:
            self.preview.put(result.structure.id, result.axis, result.index, result.mask)

    def answer(self, segment_id: str, index: int) -> None:
        """Set aside what was found in a slice: the user has answered for it."""
        self.awaited.pop((segment_id, index), None)
        aside = self.answered.setdefault(segment_id, {}).setdefault(index, [])
        for kept in (self.found, self.corrected):
            result = kept.get(segment_id, {}).pop(index, None)
            if result is not None:
                aside.append(result)
                if self.preview is not None:
                    nothing = np.zeros_like(result.mask)
                    self.preview.put(segment_id, result.axis, index, nothing)

    def take_back(self, segment_id: str, index: int) -> None:
        """An answer was undone: what was found in the slice is there again."""
        for n, result in enumerate(self.answered[segment_id].pop(index)):
            self.take(result, corrected=n > 0)

    def reset(self, segment_id: str, index: int) -> SliceResult | None:
        """A slice as it was found, also if a correction is still being made; None where nothing
        was found."""
        original = self.found.get(segment_id, {}).get(index)
        if original is not None:
            self.awaited.pop((segment_id, index), None)
            self.corrected.get(segment_id, {}).pop(index, None)
            self.take(original)
        return original

    def remove_preview(self) -> None:
        """Show nothing any more; twice does nothing."""
        if self.preview is not None:
            self.preview.remove()
            self.preview = None
