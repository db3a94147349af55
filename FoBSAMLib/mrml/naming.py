"""What slices are called: axial, sagittal, coronal or oblique."""

from __future__ import annotations

import numpy as np

from FoBSAMLib.image.volume import Axis

#: The patient axis that a slice's normal is nearest to names the slice …
WORDS = ("sagittal", "coronal", "axial")
#: … up to this angle in degrees; beyond it no name would help to find the view.
LIMIT = 30.0


def slice_normal(ijk_to_world: np.ndarray, axis: Axis) -> np.ndarray:
    """The unit normal, in world, of a grid's slices along an axis; towards higher indices.

    It is the axis's own direction only where voxels are not sheared.
    """
    normal = np.linalg.inv(ijk_to_world[:3, :3])["ijk".index(axis)]
    return np.asarray(normal / np.linalg.norm(normal))


def orientation(ijk_to_world: np.ndarray, axis: Axis) -> str:
    """What a grid's slices along an axis are called, by the directions of the patient."""
    along = np.abs(slice_normal(ijk_to_world, axis))
    nearest = int(np.argmax(along))
    return WORDS[nearest] if along[nearest] >= np.cos(np.radians(LIMIT)) else "oblique"
