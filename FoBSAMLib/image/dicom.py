"""DICOM images: the series of a folder, the frames of a file, in the order of their position."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.geometry import ras_to_lps
from FoBSAMLib.image.volume import Modality, Volume

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
_FRAME_TAGS = [
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
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
    with parsing(folder):
        modality = str(headers[0].get("Modality", ""))
        if len(headers) > 1:
            order = _order_series(headers, f"The DICOM series in {folder}")
            headers = [headers[n] for n in order]
        return [str(header.filename) for header in headers], modality


@contextlib.contextmanager
def parsing(path: Path, what: str = "a DICOM header") -> Iterator[None]:
    """While headers are read and used: odd values in other people's headers are no news to the
    user, and whatever a damaged one makes pydicom raise is a FoBSAMError (``unreadable``)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (FoBSAMError, MemoryError):
            raise
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) else ""
            raise FoBSAMError(
                "unreadable",
                f"{path} cannot be read: {reason or what + ' is damaged'}.",
                "Check that it is the right, whole file.",
            ) from error


def read_frames(path: Path) -> tuple[list[int], np.ndarray] | None:
    """Where the frames of a multi-frame image lie: their order by position, and in that order
    the 4×4 matrix ijk_to_ras.

    None for an image whose frames have no position each (as in nuclear medicine before 2000).
    Raises FoBSAMError where they make no regular grid.
    """
    import pydicom

    with parsing(path):
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_FRAME_TAGS)
        if "PerFrameFunctionalGroupsSequence" not in header:
            return None
        return _order_frames(header, path)


def _order_frames(header: pydicom.Dataset, path: Path) -> tuple[list[int], np.ndarray]:
    """What `read_frames` returns, of a header with a functional group for every frame."""
    what = f"The DICOM image {path}"
    try:
        planes = [frame_plane(header, n) for n in range(int(header.NumberOfFrames))]
    except (AttributeError, IndexError, TypeError, ValueError):
        raise _without_position(what, "frames") from None
    orientations, positions, spacings = (np.array(part) for part in zip(*planes, strict=True))
    if np.ptp(spacings, axis=0).max() > 1e-3:
        raise _mixed(what, "frames")
    order = sort_planes(orientations, positions, what, "frames")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    matrix = np.eye(4)
    matrix[:3, 0] = orientations[0, :3] * spacings[0, 1]
    matrix[:3, 1] = orientations[0, 3:] * spacings[0, 0]
    matrix[:3, 2] = normal
    if len(order) > 1:
        first, last = positions[order[0]], positions[order[-1]]
        matrix[:3, 2] *= (last - first) @ normal / (len(order) - 1)
    matrix[:3, 3] = positions[order[0]]
    return order, ras_to_lps(matrix)


def frame_plane(header: pydicom.Dataset, index: int) -> tuple[Any, Any, Any]:
    """Orientation, position and pixel spacing (row to row, column to column) of a frame, from the
    functional groups: PS3.3 C.7.6.16.

    Raises AttributeError, IndexError or TypeError where one is missing.
    """
    [orientation] = frame_group(header, index, "PlaneOrientationSequence")
    [position] = frame_group(header, index, "PlanePositionSequence")
    [measures] = frame_group(header, index, "PixelMeasuresSequence")
    return (
        [float(x) for x in orientation.ImageOrientationPatient],
        [float(x) for x in position.ImagePositionPatient],
        [float(x) for x in measures.PixelSpacing],
    )


def frame_group(header: pydicom.Dataset, index: int, name: str) -> Any:
    """A functional group of a frame, its own or the one that all frames share."""
    frame = header.PerFrameFunctionalGroupsSequence[index]
    return frame.get(name) or header.SharedFunctionalGroupsSequence[0].get(name)


def read_reference(volume: Volume) -> pydicom.Dataset:
    """What else refers to a DICOM image by: FrameOfReferenceUID, SeriesInstanceUID.

    Empty for an image from other files.
    """
    import pydicom

    if not volume.dicom_files:
        return pydicom.Dataset()
    file = Path(volume.dicom_files[0])
    with parsing(file):
        header = pydicom.dcmread(file, specific_tags=["FrameOfReferenceUID", "SeriesInstanceUID"])
        header.decode()
        return header


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The header of a DICOM image; None for any other file."""
    import pydicom  # a twentieth of a fresh process's start, which other images need not wait for
    from pydicom.errors import InvalidDicomError

    if not path.is_file():
        return None
    with parsing(path):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        except (InvalidDicomError, OSError):
            return None
        header.decode()
        is_image = "Rows" in header and header.get("Modality") not in NOT_IMAGES
        return header if is_image else None


def _describe(headers: list[pydicom.Dataset]) -> str:
    first = headers[0]
    title = first.get("SeriesDescription") or Path(first.filename).name
    count = f"{len(headers)} image{'s' if len(headers) > 1 else ''}"
    return f"'{title}' ({first.get('Modality', 'unknown')}, {count})"


def _order_series(headers: list[pydicom.Dataset], what: str) -> list[int]:
    """The slices' order by position."""
    try:
        orientations = np.array([h.ImageOrientationPatient for h in headers], np.float64)
        positions = np.array([h.ImagePositionPatient for h in headers], np.float64)
    except (AttributeError, TypeError, ValueError):
        raise _without_position(what, "slices") from None
    if len({(h.Rows, h.Columns) for h in headers}) > 1:
        raise _mixed(what, "slices")
    return sort_planes(orientations, positions, what, "slices")


def sort_planes(
    orientations: np.ndarray, positions: np.ndarray, what: str, planes: str
) -> list[int]:
    """The order of planes along their normal, checked to be parallel, even and aligned.

    ``orientations`` [N, 6] and ``positions`` [N, 3] are DICOM's; ``what`` and ``planes`` name
    image and planes in the FoBSAMError (``bad_geometry``) that is raised otherwise.
    """

    def irregular(how: str, hint: str) -> FoBSAMError:
        return FoBSAMError("bad_geometry", f"{what} {how}.", hint)

    if np.ptp(orientations, axis=0).max() > 0.01:
        raise _mixed(what, planes)
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    along = positions @ normal
    order = np.argsort(along)
    steps = np.diff(along[order])
    if len(steps) and steps.min() < 1e-3:
        raise irregular(
            "has several images at one position (4-D: times or echoes)",
            "Put those of one of them into a folder or file of their own.",
        )
    if len(steps) and np.ptp(steps) > _UNEVEN_SHARE * np.median(steps):
        raise irregular(
            f"is unevenly spaced, {steps.min():.3g} to {steps.max():.3g} mm",
            f"Add the missing {planes}, or resample it to even spacing first.",
        )
    sideways = positions - np.outer(along, normal)
    if np.ptp(sideways, axis=0).max() > _SHIFTED_MM:
        raise irregular("is sheared (a tilted gantry)", "Resample it to a regular grid first.")
    return [int(n) for n in order]


def _without_position(what: str, planes: str) -> FoBSAMError:
    return FoBSAMError(
        "bad_geometry",
        f"{what} has {planes} without a position.",
        "Convert it to NIfTI or NRRD first.",
    )


def _mixed(what: str, planes: str) -> FoBSAMError:
    return FoBSAMError(
        "bad_geometry",
        f"{what} has {planes} of different size or direction.",
        "Take the localizer out of it.",
    )
