"""Supports: the annotated slices of an image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Segmentation, Structure
from FoBSAMLib.image.slices import annotated_slices, check_annotated, check_axis, find_axis
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume

#: On the axis along which it was drawn a mask touches few slices, on the others many.
WRONG_AXIS = 4


@dataclass(frozen=True)
class Support:
    """The annotated slices of one image, for one or several structures.

    A slice is annotated for a structure where the structure's mask is not empty; ``masks`` holds
    these slices by index, bool [H, W] each. ``absent`` names, by structure, slices that are known
    not to hold it. ``header`` is what else the file said that they were read from.
    """

    volume: Volume
    axis: Axis
    masks: Mapping[Structure, Mapping[int, np.ndarray]]
    absent: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        volume: Volume,
        axis: Axis | str = "auto",
        labels: Iterable[int | str] = (),
        absent: Mapping[str, Iterable[int]] | None = None,
    ) -> Support:
        """Read a labelmap, ``.seg.nrrd`` or DICOM segmentation drawn on the volume's grid.

        Args:
            path: only its annotated slices may be non-zero; each label is a structure.
            axis: along which it was drawn; "auto" finds it.
            labels: structures to take, by label value or name; all for none.
            absent: slices known not to hold a structure, by its name or label.

        Raises:
            FoBSAMError: unreadable, another grid, empty, every slice covered, axis unclear, no
                such structure.
        """
        # SimpleITK comes with this one; whoever has masks does without.
        from FoBSAMLib.image.io import read_segmentation

        return cls.from_segmentation(volume, read_segmentation(path, volume), axis, labels, absent)

    @classmethod
    def from_masks(
        cls,
        volume: Volume,
        masks: Mapping[str, np.ndarray],
        axis: Axis | str = "auto",
        absent: Mapping[str, Iterable[int]] | None = None,
    ) -> Support:
        """From bool masks [K, J, I] by structure name."""
        for name, mask in masks.items():
            if mask.shape != volume.shape:
                raise FoBSAMError(
                    "bad_geometry",
                    f"The mask of {name!r} has the shape {mask.shape}, the image {volume.shape}.",
                    "Draw it on the image's grid.",
                )
        drawn = [
            (Structure(name, label), mask.astype(bool))
            for label, (name, mask) in enumerate(masks.items(), 1)
        ]
        segmentation = Segmentation.from_masks(volume.ijk_to_ras, drawn)
        return cls.from_segmentation(volume, segmentation, axis, (), absent)

    @classmethod
    def from_segmentation(
        cls,
        volume: Volume,
        segmentation: Segmentation,
        axis: Axis | str = "auto",
        labels: Iterable[int | str] = (),
        absent: Mapping[str, Iterable[int]] | None = None,
    ) -> Support:
        """From structures on the volume's grid; arguments and errors as in `read`."""
        structures = segmentation.select(labels)
        if not structures:
            raise FoBSAMError(
                "bad_request",
                "The support is empty.",
                "Paint the structure on at least one slice.",
            )
        if axis == "auto":
            drawn = np.any([segmentation.mask(structure) for structure in structures], axis=0)
            axis = find_axis(drawn)
        elif axis not in ARRAY_AXIS:
            raise FoBSAMError("bad_request", f"There is no axis {axis!r}.", "Give auto, i, j or k.")
        masks = {}
        for structure in structures:
            mask = segmentation.mask(structure)
            check_axis(mask, axis)
            _check_drawn_along(mask, axis, structure.name)
            masks[structure] = {
                n: mask.take(n, axis=ARRAY_AXIS[axis]) for n in annotated_slices(mask, axis)
            }
        known = _known_absent(segmentation, structures, absent or {})
        support = cls(volume, axis, masks, known, segmentation.header)
        support._check_absent()
        return support

    @classmethod
    def from_slices(
        cls,
        volume: Volume,
        axis: Axis,
        masks: Mapping[Structure, Mapping[int, np.ndarray]],
        absent: Mapping[str, Iterable[int]] | None = None,
    ) -> Support:
        """From the annotated slices alone: bool masks [H, W] by structure and index.

        Takes no time and memory for all the others. ``absent`` is by the structures' names.
        Raises FoBSAMError for a mask of another shape or of a slice that the image lacks, and as
        `read` does.
        """
        shape, count = volume.take(axis, 0).shape[:2], volume.slice_count(axis)
        kept: dict[Structure, dict[int, np.ndarray]] = {}
        for structure, slices in masks.items():
            for index, mask in slices.items():
                if mask.shape != shape or not 0 <= index < count:
                    raise FoBSAMError(
                        "bad_geometry",
                        f"Slice {index} of {structure.name} ({mask.shape}) is none of the image's "
                        f"{count} slices {shape} along {axis}.",
                        "Draw it on the image's grid.",
                    )
            kept[structure] = {n: slices[n].astype(bool) for n in sorted(slices) if slices[n].any()}
            check_annotated(len(kept[structure]), count, axis)
        if not kept:
            check_annotated(0, count, axis)
        known = {name: tuple(sorted(set(indices))) for name, indices in (absent or {}).items()}
        support = cls(volume, axis, kept, known)
        support._check_absent()
        return support

    @property
    def structures(self) -> tuple[Structure, ...]:
        """What is annotated, in the order given."""
        return tuple(self.masks)

    def indices(self, structure: Structure) -> tuple[int, ...]:
        """Slices in which the structure is drawn."""
        return tuple(self.masks[structure])

    def mask(self, structure: Structure, index: int) -> np.ndarray:
        """The structure as drawn in a slice, bool [H, W]."""
        drawn = self.masks[structure]
        if index in drawn:
            return drawn[index]
        return np.zeros(self.volume.take(self.axis, 0).shape[:2], bool)

    def whole(self, structure: Structure) -> np.ndarray:
        """The structure as drawn in all slices, bool [K, J, I]."""
        whole = np.zeros(self.volume.shape, bool)
        along = np.moveaxis(whole, ARRAY_AXIS[self.axis], 0)
        for index, mask in self.masks[structure].items():
            along[index] = mask
        return whole

    def count_queries(self, slices: range, names: Iterable[str] | None = None, *, own: bool) -> int:
        """How many results the structures of these names (all for None) will have in the slices:
        where the image is the supports' ``own``, none for annotated ones nor for those known not to
        hold the structure."""
        total = 0
        for structure in self.structures:
            if names is None or structure.name in names:
                absent = self.absent.get(structure.name, ())
                known = {*self.indices(structure), *absent} if own else set()
                total += len(slices) - sum(n in slices for n in known)
        return total

    def check_writable_as(self, path: str | os.PathLike[str]) -> None:
        """Raise FoBSAMError where structures overlap as drawn and the file cannot hold that."""
        from FoBSAMLib.image.io import LAYERED

        if str(path).lower().endswith(LAYERED) or not self.overlap():
            return
        raise FoBSAMError(
            "bad_request",
            f"Structures overlap as drawn: {Path(path).name} can hold one at a voxel.",
            "Write .seg.nrrd or .dcm, or choose structures (--label).",
        )

    def overlap(self) -> bool:
        """Whether two structures hold the same pixel somewhere, as drawn."""
        taken: dict[int, np.ndarray] = {}
        for slices in self.masks.values():
            for index, mask in slices.items():
                if index in taken and (taken[index] & mask).any():
                    return True
                taken[index] = taken[index] | mask if index in taken else mask
        return False

    def _check_absent(self) -> None:
        count = self.volume.slice_count(self.axis)
        for structure in self.structures:
            for index in self.absent.get(structure.name, ()):
                if not 0 <= index < count:
                    raise FoBSAMError(
                        "bad_request",
                        f"There is no slice {index} along {self.axis}.",
                        f"Slices run from 0 to {count - 1}.",
                    )
                if index in self.indices(structure):
                    raise FoBSAMError(
                        "bad_request",
                        f"{structure.name} is drawn in slice {index} and said to be absent there.",
                        "Leave out one of the two.",
                    )


def _check_drawn_along(mask: np.ndarray, axis: Axis, name: str) -> None:
    """Refuse an axis on which a mask touches far more slices than on another."""
    touched = {other: len(annotated_slices(mask, other)) for other in ARRAY_AXIS}
    likely = min(touched, key=lambda other: touched[other])
    if touched[axis] > WRONG_AXIS * touched[likely]:
        raise FoBSAMError(
            "bad_request",
            f"{name} touches {touched[axis]} slices along {axis} but {touched[likely]} along "
            f"{likely}: it was drawn along {likely}.",
            f"Give --axis {likely}.",
        )


def _known_absent(
    segmentation: Segmentation,
    structures: tuple[Structure, ...],
    absent: Mapping[str, Iterable[int]],
) -> dict[str, tuple[int, ...]]:
    known: dict[str, tuple[int, ...]] = {}
    for wanted, indices in absent.items():
        (structure,) = segmentation.select([wanted])
        if structure in structures:
            known[structure.name] = tuple(sorted({*known.get(structure.name, ()), *indices}))
    return known
