"""Voxels with their geometry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from FoBSAMLib.errors import FoBSAMError

Axis = Literal["i", "j", "k"]
Modality = Literal["auto", "ct", "mr", "8bit", "rgb"]

#: Where an index axis lies in an array of (K, J, I) order.
ARRAY_AXIS: dict[Axis, int] = {"k": 0, "j": 1, "i": 2}

#: How far, in voxels, two grids may lie apart anywhere and still be the same: files round.
GRID_TOLERANCE = 0.1
#: Bytes of voxels that are read at a stretch where others wait: hashed in some 4 ms.
BATCH = 1 << 22


@dataclass(frozen=True)
class Volume:
    """An image: voxels in (K, J, I) order, or (K, J, I, 3) for RGB, and where they lie.

    ``ijk_to_ras`` is the 4×4 matrix that maps voxel indices (i, j, k, 1) to millimetres in
    the patient's right-anterior-superior frame. ``dicom_files`` are the DICOM files that it was
    read from: one, or one a slice in the order of k.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "image"
    modality: Modality = "auto"
    dicom_files: tuple[str, ...] = ()

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        ijk_to_ras: np.ndarray | None = None,
        name: str = "image",
        modality: Modality = "auto",
    ) -> Volume:
        """A volume from voxels [K, J, I], [K, J, I, 3] (RGB) or one slice [J, I].

        The geometry is ``ijk_to_ras``, or else ``spacing`` in mm along (i, j, k) with the
        axes along right, anterior and superior.
        Raises FoBSAMError for 4-D, NaN, infinite or constant voxels.
        """
        voxels = np.asarray(array)
        if voxels.ndim == 2:
            voxels = voxels[np.newaxis]
        check_voxels(voxels, name)
        geometry = np.diag([*spacing, 1.0]) if ijk_to_ras is None else ijk_to_ras
        return cls(voxels, np.asarray(geometry, np.float64), name, modality)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Volume:
        """Read an image file or a DICOM folder; see `FoBSAMLib.image.io.read_volume`."""
        from FoBSAMLib.image.io import read_volume

        return read_volume(path)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (K, J, I)."""
        k, j, i = self.array.shape[:3]
        return k, j, i

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (i, j, k)."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)

    def content_key(self) -> str:
        """SHA-256 of voxels, geometry and modality: equal for equal images, whatever their name."""
        for _ in self.key_steps():
            pass
        return str(vars(self)["_key"])

    def key_steps(self) -> Generator[None, None, str]:
        """The content key, little by little: yields after each of `batches`, so that others can go
        on between."""
        if "_key" not in vars(self):
            header = f"{self.array.dtype.str}{self.array.shape}{self.modality}".encode()
            digest = hashlib.sha256(header)
            digest.update(np.ascontiguousarray(self.ijk_to_ras, np.float64).data)
            for batch in self.batches():
                digest.update(batch.data)
                yield
            self.know_key(digest.hexdigest())
        return str(vars(self)["_key"])

    def batches(self) -> Iterator[np.ndarray]:
        """The voxels, contiguous, some slices at a time, `BATCH` bytes or one slice."""
        size = max(1, BATCH // (self.array.nbytes // len(self.array)))
        for first in range(0, len(self.array), size):
            yield np.ascontiguousarray(self.array[first : first + size])

    def know_key(self, key: str) -> None:
        """Take a content key that was computed elsewhere: hashing twice takes its time."""
        vars(self)["_key"] = key

    def same_grid(self, other_shape: tuple[int, ...], other_ijk_to_ras: np.ndarray) -> bool:
        """Whether voxels of ``other_shape`` (K, J, I) lie where these do, within 0.1 voxel."""
        if tuple(other_shape[:3]) != self.shape:
            return False
        apart = np.linalg.inv(self.ijk_to_ras) @ other_ijk_to_ras - np.eye(4)
        i, j, k = (np.array([0, n - 1]) for n in self.shape[::-1])
        corners = np.stack([*np.meshgrid(i, j, k), np.ones((2, 2, 2))]).reshape(4, -1)
        return bool(np.abs(apart @ corners).max() < GRID_TOLERANCE)

    def take(self, axis: Axis, index: int) -> np.ndarray:
        """One slice, a view [H, W] or [H, W, 3].

        Rows × columns are j × i for axis "k", k × i for "j" and k × j for "i".
        """
        view: np.ndarray = np.moveaxis(self.array, ARRAY_AXIS[axis], 0)[index]
        return view

    def slice_count(self, axis: Axis) -> int:
        """Number of slices along an axis."""
        return self.shape[ARRAY_AXIS[axis]]

    def slice_spacing(self, axis: Axis) -> tuple[float, float]:
        """Size in mm of a slice's pixels, (row to row, column to column)."""
        i, j, k = self.spacing
        return {"k": (j, i), "j": (k, i), "i": (k, j)}[axis]

    def step(self, axis: Axis) -> float:
        """Distance in mm from slice to slice."""
        return self.spacing["ijk".index(axis)]


def check_voxels(array: np.ndarray, name: str) -> None:
    """Raise FoBSAMError unless the voxels are a 3-D image that can be segmented."""
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] == 3):
        raise FoBSAMError(
            "bad_request",
            f"{name} has {array.ndim} dimensions ({'×'.join(map(str, array.shape))}).",
            "Give one 3-D image: extract a single volume first.",
        )
    if array.dtype.kind not in "buif":
        raise FoBSAMError(
            "bad_request",
            f"The voxels of {name} are of type {array.dtype}.",
            "Give an image of real numbers (for a complex image, its magnitude).",
        )
    if array.size == 0:
        raise FoBSAMError("bad_request", f"{name} has no voxels.", "Give another image.")
    if array.dtype.kind == "f":
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise not_finite(name, bad, array.size)
    if array.min() == array.max():
        raise FoBSAMError(
            "bad_request",
            f"{name} is constant: every voxel is {array.flat[0]}.",
            "Check that the right file was given.",
        )


def not_finite(name: str, bad: int, total: int) -> FoBSAMError:
    """The error for NaN and infinite voxels."""
    return FoBSAMError(
        "bad_request",
        f"{bad} of {total} voxels of {name} are NaN or infinite.",
        "Replace them first, for instance by the value of the background.",
    )
