"""The image series of a DICOM folder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Modality

if TYPE_CHECKING:
    import pydicom

#: DICOM modalities with pixels that are not images of the patient.
NOT_IMAGES = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "PR", "SR", "KO", "REG", "M3D", "DOC"}

#: What the Modality attribute says about the intensities.
MODALITIES: dict[str, Modality] = {"CT": "ct", "MR": "mr"}

_TAGS = [
    "Modality",
    "SeriesInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "Rows",
    "Columns",
]
#: Slices further from even spacing than this share of it, or shifted sideways by more mm
#: than that, are no regular grid.
_UNEVEN_SHARE, _SHIFTED_MM = 0.1, 1.0


def read_series(folder: Path) -> tuple[list[str], str]:
    """Files of the one image series in a folder, sorted by position, and its DICOM modality.

    Other files and DICOM objects that are not images (segmentations, structure sets …) are
    passed over. Raises FoBSAMError where there is no series, or more than one, or where its
    slices make no regular grid.
    """
    series: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(folder.iterdir()):
        header = _read_header(path)
        if header is not None:
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if not series:
        raise FoBSAMError(
            "unreadable",
            f"The folder {folder} holds no DICOM images.",
            "Give an image file, or the folder that holds the slices of one series.",
        )
    if len(series) > 1:
        found = "; ".join(_describe(headers) for headers in series.values())
        raise FoBSAMError(
            "bad_request",
            f"The folder {folder} holds {len(series)} DICOM series: {found}.",
            "Put the files of one series into a folder of their own.",
        )
    [headers] = series.values()
    modality = str(headers[0].get("Modality", ""))
    return [str(header.filename) for header in _sorted_slices(headers, folder)], modality


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The header of a DICOM image; None for any other file."""
    import pydicom  # a twentieth of a fresh process's start, which other images need not wait for
    from pydicom.errors import InvalidDicomError

    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            # Odd values in other people's headers are no news to the user.
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    except (InvalidDicomError, OSError):
        return None
    is_image = "Rows" in header and header.get("Modality") not in NOT_IMAGES
    return header if is_image else None


def _describe(headers: list[pydicom.Dataset]) -> str:
    first = headers[0]
    title = first.get("SeriesDescription") or Path(first.filename).name
    count = f"{len(headers)} image{'s' if len(headers) > 1 else ''}"
    return f"'{title}' ({first.get('Modality', 'unknown')}, {count})"


def _sorted_slices(headers: list[pydicom.Dataset], folder: Path) -> list[pydicom.Dataset]:
    """Slices along the normal of their plane, checked to be parallel, even and aligned."""
    if len(headers) == 1:
        return headers

    def irregular(what: str, hint: str) -> FoBSAMError:
        return FoBSAMError("bad_geometry", f"The DICOM series in {folder} {what}.", hint)

    try:
        orientations = np.array([h.ImageOrientationPatient for h in headers], np.float64)
        positions = np.array([h.ImagePositionPatient for h in headers], np.float64)
    except (AttributeError, TypeError, ValueError):
        raise irregular(
            "has slices without a position", "Convert it to NIfTI or NRRD first."
        ) from None
    sizes = {(h.Rows, h.Columns) for h in headers}
    if len(sizes) > 1 or np.ptp(orientations, axis=0).max() > 0.01:
        raise irregular(
            "has slices of different size or direction", "Take the localizer out of the folder."
        )
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along)
    steps = np.diff(along[order])
    if steps.min() < 1e-3:
        raise irregular(
            "has several images at one position (4-D: times or echoes)",
            "Put the files of one of them into a folder of their own.",
        )
    if np.ptp(steps) > _UNEVEN_SHARE * np.median(steps):
        raise irregular(
            f"is unevenly spaced, {steps.min():.3g} to {steps.max():.3g} mm",
            "Add the missing slices, or resample it to even spacing first.",
        )
    sideways = positions - np.outer(along, normal)
    if np.ptp(sideways, axis=0).max() > _SHIFTED_MM:
        raise irregular("is sheared (a tilted gantry)", "Resample it to a regular grid first.")
    return [headers[n] for n in order]
