"""What ITK does not say about NIfTI files: it reads one cut short, and turns NaN into 0."""

from __future__ import annotations

import gzip
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import SimpleITK as sitk

#: Codes of the types that can be NaN, and of those whose size counts all components.
_FLOATS = {"16": "f4", "64": "f8"}
_COMPOUND = {"32", "128", "1792", "2304"}
_CHUNK_BYTES = 1 << 20


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI, by its name."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def count_not_finite(path: Path) -> int:
    """Number of NaN and infinite values in a NIfTI file, read from end to end.

    Raises EOFError, OSError or zlib.error for a file cut short or damaged in compression,
    RuntimeError for a damaged header.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    datatype = reader.GetMetaData("datatype")
    wanted = int(np.prod(reader.GetSize())) * int(reader.GetMetaData("bitpix")) // 8
    if datatype not in _COMPOUND:
        wanted *= reader.GetNumberOfComponents()
    offset = int(float(reader.GetMetaData("vox_offset")))
    with _decompressed(path) as file:
        # The header begins with its size; in the other byte order it is none of these.
        order = "<" if int.from_bytes(file.read(4), "little") in (348, 540) else ">"
        file.read(offset - 4)
        found, bad = _scan(file, wanted, order + _FLOATS.get(datatype, "u1"))
        # The end of a compressed file is its checksum.
        while file.read(_CHUNK_BYTES):
            pass
    if found < wanted:
        raise EOFError(f"it is cut short, {found} of {wanted} bytes")
    return bad


def _decompressed(path: Path) -> BufferedIOBase:
    """The file opened for reading; whether it is compressed its content says, not its name."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_compressed else path.open("rb")


def _scan(file: BufferedIOBase, wanted: int, kind: str) -> tuple[int, int]:
    """Bytes of voxels found, at most those wanted, and how many values are not finite."""
    found = bad = 0
    while chunk := file.read(min(_CHUNK_BYTES, wanted - found)):
        found += len(chunk)
        whole = len(chunk) // np.dtype(kind).itemsize
        bad += whole - int(np.count_nonzero(np.isfinite(np.frombuffer(chunk, kind, whole))))
    return found, bad
