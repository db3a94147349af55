"""Structures drawn on a volume's grid."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError


@dataclass(frozen=True)
class Structure:
    """What is segmented: its label value in a layer, and how Slicer shows it.

    ``color`` is RGB in [0, 1]; ``terminology`` is Slicer's terminology string; ``id`` and
    ``tags`` are Slicer's segment ID and its further tags, kept from file to file.
    """

    name: str
    label: int
    layer: int = 0
    color: tuple[float, float, float] = (0.5, 0.68, 0.5)
    terminology: str = ""
    id: str = ""
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Segmentation:
    """Structures on one grid, as label values in layers (structures of one layer do not overlap).

    ``layers`` is [L, K, J, I] of an unsigned integer type; ``ijk_to_ras`` as in `Volume`;
    ``header`` holds what else a ``.seg.nrrd`` says, kept when it is written again.
    """

    layers: np.ndarray
    ijk_to_ras: np.ndarray
    structures: tuple[Structure, ...]
    header: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_masks(
        cls,
        ijk_to_ras: np.ndarray,
        masks: Sequence[tuple[Structure, np.ndarray]],
        header: Mapping[str, Any] | None = None,
    ) -> Segmentation:
        """Pack masks, bool [K, J, I], into few layers: each into the first that has room.

        A structure keeps its label unless another of its layer has it; ``structures`` of the
        result, in the order given, say where each lies.
        """
        if not masks:
            raise FoBSAMError("bad_request", "There is no structure to keep.")
        highest = max(len(masks), *(structure.label for structure, _ in masks))
        dtype = np.min_scalar_type(highest)
        layers: list[np.ndarray] = []
        placed: list[Structure] = []
        for structure, mask in masks:
            layer = next((n for n, labels in enumerate(layers) if not labels[mask].any()), None)
            if layer is None:
                layer = len(layers)
                layers.append(np.zeros(mask.shape, dtype))
            label = free_label(structure.label, [s.label for s in placed if s.layer == layer])
            layers[layer][mask] = label
            placed.append(replace(structure, label=label, layer=layer))
        return cls(np.stack(layers), np.asarray(ijk_to_ras), tuple(placed), header or {})

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (K, J, I)."""
        _, k, j, i = self.layers.shape
        return k, j, i

    def mask(self, structure: Structure) -> np.ndarray:
        """Voxels of a structure, bool [K, J, I]."""
        return np.asarray(self.layers[structure.layer] == structure.label)

    def select(self, wanted: Iterable[int | str] = ()) -> tuple[Structure, ...]:
        """Structures by label value or name, in the order wanted; all for nothing wanted.

        Raises FoBSAMError when there is none such, or when a label stands for several.
        """
        chosen = [self._find(label_or_name) for label_or_name in wanted]
        return tuple(dict.fromkeys(chosen)) or self.structures

    def flatten(self) -> tuple[np.ndarray, tuple[Structure, ...]]:
        """One labelmap [K, J, I] and the structures as they lie in it.

        Where structures overlap the first wins; a label that stood for several structures
        is kept by the first, the others get free ones.
        """
        flat: list[Structure] = []
        for structure in self.structures:
            label = free_label(structure.label, [s.label for s in flat])
            flat.append(replace(structure, label=label, layer=0))
        highest = max((s.label for s in flat), default=0)
        labels = np.zeros(self.shape, np.min_scalar_type(highest))
        for drawn, structure in reversed(list(zip(self.structures, flat, strict=True))):
            labels[self.mask(drawn)] = structure.label
        return labels, tuple(flat)

    def _find(self, wanted: int | str) -> Structure:
        found = [s for s in self.structures if s.name == wanted]
        if not found and str(wanted).isdecimal():
            found = [s for s in self.structures if s.label == int(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"'{s.name}'" for s in found)
            raise FoBSAMError(
                "bad_request",
                f"{wanted} stands for several structures: {names}.",
                "Give the name, one that is used once.",
            )
        existing = ", ".join(f"{s.label} '{s.name}'" for s in self.structures)
        raise FoBSAMError(
            "bad_request",
            f"There is no structure {wanted!r} in the support.",
            f"It holds {existing or 'none'}.",
        )


def free_label(wanted: int, taken: Sequence[int]) -> int:
    """The label wanted, or the lowest not taken."""
    if wanted > 0 and wanted not in taken:
        return wanted
    return next(label for label in range(1, len(taken) + 2) if label not in taken)


def distinct_color(label: int) -> tuple[float, float, float]:
    """An RGB colour in [0, 1] for a label: hues a golden section apart stay distinct."""
    return colorsys.hsv_to_rgb(label * 0.618034 % 1.0, 0.6, 0.9)
