"""What the tests of accepting share: a volume, a drawing on it, and an editor."""

from __future__ import annotations

import numpy as np
from mrml_small import TILTED, voxels

from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.mrml.accept import accept
from FoBSAMLib.mrml.drawn import Drawn, DrawnStructure
from FoBSAMLib.mrml.editing import LogicEditing

SHAPE = (6, 7, 8)


def box(k: slice | int, j: slice, i: slice, shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[k, j, i] = True
    return mask


LIVER = box(2, slice(1, 4), slice(1, 4))
SPLEEN = box(2, slice(4, 6), slice(4, 8))


class Case:
    """A volume, a segmentation of it with an annotated slice for each segment, and an editor."""

    def __init__(self, scene, masks, geometry=TILTED, shared=False, axis="k", absent=()):
        self.scene, self.masks, self.axis = scene, masks, axis
        array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
        self.volume = scene.volume(array, geometry)
        self.node = scene.segmentation(masks, geometry, self.volume, shared=shared)
        self.editing = LogicEditing(scene.mrml)
        self.editor = self.editing.editor_node
        self.geometry = self.to_world = geometry
        self.absent = tuple(absent)

    def drawn(self, shape=SHAPE) -> Drawn:
        structures = []
        for segment_id, mask in self.masks.items():
            slices = np.moveaxis(mask, "kji".index(self.axis), 0)
            masks = {n: slices[n] for n in range(len(slices)) if slices[n].any()}
            structure = Structure(segment_id.title(), 1, id=segment_id)
            structures.append(DrawnStructure(segment_id, structure, masks, self.absent, ()))
        ids = self.volume.GetID(), self.node.GetID()
        return Drawn(*ids, self.axis, self.to_world, shape, False, tuple(structures))

    def accept(self, results, confidence=None, drawn=None):
        return accept(
            drawn or self.drawn(),
            results,
            confidence or {},
            self.volume,
            self.node,
            self.editing,
        )

    def voxels(self, segment_id) -> np.ndarray:
        return voxels(self.node, segment_id, SHAPE)

    def segment(self, segment_id):
        return self.node.GetSegmentation().GetSegment(segment_id)


def slices_of(mask: np.ndarray, axis: str = "k") -> dict[int, np.ndarray]:
    """All slices of a mask, bool [K, J, I], also those where it is empty."""
    return dict(enumerate(np.moveaxis(mask, "kji".index(axis), 0)))


FOUND_LIVER = box(slice(0, 6), slice(1, 4), slice(1, 5))
FOUND_SPLEEN = box(slice(1, 5), slice(4, 7), slice(3, 8))
