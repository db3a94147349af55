"""DICOM segmentations (SEG) as `Segmentation`: PS3.3 A.51 and C.8.20."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.dicom import frame_group, frame_plane, parsing, read_reference
from FoBSAMLib.image.geometry import ras_to_lps
from FoBSAMLib.image.segmentation import Segmentation, Structure, distinct_color
from FoBSAMLib.image.volume import GRID_TOLERANCE, Volume

if TYPE_CHECKING:
    import pydicom

#: SOP classes: Segmentation Storage, Label Map Segmentation Storage.
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


def read(path: Path, like: Volume | None) -> Segmentation | None:
    """Read a DICOM segmentation, on the box of voxels that its frames span; None for other files.

    A frame holds one segment in one slice, so that slices may be missing. The distance of slices
    is that of ``like``, else what the file says, else the smallest gap.
    Raises FoBSAMError for a damaged file, for fractions between 0 and 1, for frames that make no
    grid, and where ``like`` is a DICOM image of another frame of reference.
    """
    if not _is_dicom(path):
        return None
    import pydicom

    with parsing(path, "the DICOM segmentation"):
        content = pydicom.dcmread(path)
        if content.get("SOPClassUID") not in _SEGMENTATIONS:
            return None
        _check_reference(path, content, like)
        slices, ijk_to_lps = _place_frames(path, content, like)
        layers, structures = _read_layers(path, content, slices)
        return Segmentation(layers, ras_to_lps(ijk_to_lps), structures)


def describe_other(path: Path, like: Volume) -> str:
    """A sentence on a segmentation that refers to other images than ``like``, else ""."""
    series = read_reference(like).get("SeriesInstanceUID")
    if not series or not _is_dicom(path):
        return ""
    import pydicom

    with parsing(path):
        content = pydicom.dcmread(path, specific_tags=["ReferencedSeriesSequence"])
        referenced = content.get("ReferencedSeriesSequence", ())
        others = [item.SeriesInstanceUID for item in referenced if item.SeriesInstanceUID != series]
    return f" It was drawn on another series ({others[0]})." if others else ""


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _check_reference(path: Path, content: pydicom.Dataset, like: Volume | None) -> None:
    own = content.get("FrameOfReferenceUID")
    wanted = read_reference(like).get("FrameOfReferenceUID") if like is not None else None
    if own and wanted and own != wanted:
        raise FoBSAMError(
            "bad_geometry",
            f"{path} was drawn in another frame of reference ({own}) than the image's ({wanted}).",
            "Give a segmentation of this series.",
        )


def _place_frames(
    path: Path, content: pydicom.Dataset, like: Volume | None
) -> tuple[np.ndarray, np.ndarray]:
    """Each frame's slice (counted from the lowest), and the geometry of the lowest one's voxels."""
    planes = [frame_plane(content, n) for n in range(int(content.NumberOfFrames))]
    orientations, positions, spacings = (np.array(part) for part in zip(*planes, strict=True))

    def irregular(how: str) -> FoBSAMError:
        return FoBSAMError(
            "bad_geometry",
            f"The frames of {path} {how}.",
            "Resample it to the image's grid first.",
        )

    if np.ptp(orientations, axis=0).max() > 1e-3 or np.ptp(spacings, axis=0).max() > 1e-3:
        raise irregular("differ in direction or pixel size")
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    if like is not None and ras_to_lps(like.ijk_to_ras)[:3, 2] @ normal < 0:
        normal = -normal
    along = positions @ normal
    step = _step(content, along, like)
    exact = (along - along.min()) / step
    slices = np.rint(exact).astype(int)
    sideways = positions - np.outer(along, normal)
    if (
        np.abs(exact - slices).max() > GRID_TOLERANCE
        or np.ptp(sideways, axis=0).max() > GRID_TOLERANCE * spacings.min()
    ):
        raise irregular(f"do not lie on a grid with slices {step:.4g} mm apart")
    if like is not None and slices.max() >= like.shape[0]:
        raise irregular(f"span {slices.max() + 1} slices, and the image has {like.shape[0]}")
    matrix = np.eye(4)
    matrix[:3, 0] = orientations[0, :3] * spacings[0, 1]
    matrix[:3, 1] = orientations[0, 3:] * spacings[0, 0]
    matrix[:3, 2] = normal * step
    matrix[:3, 3] = positions[np.argmin(along)]
    return slices, matrix


def _step(content: pydicom.Dataset, along: np.ndarray, like: Volume | None) -> float:
    """The distance of slices in mm."""
    if like is not None:
        return like.spacing[2]
    [measures] = frame_group(content, 0, "PixelMeasuresSequence")
    if measures.get("SpacingBetweenSlices"):
        return float(measures.SpacingBetweenSlices)
    gaps = np.diff(np.unique(along))
    return float(gaps[gaps > 1e-3].min(initial=np.inf)) if len(gaps) else 1.0


def _read_layers(
    path: Path, content: pydicom.Dataset, slices: np.ndarray
) -> tuple[np.ndarray, tuple[Structure, ...]]:
    """Layers [L, K, J, I] and the structures in them; of overlapping ones each gets a layer."""
    shape = (int(slices.max()) + 1, int(content.Rows), int(content.Columns))
    segments = [item for item in content.SegmentSequence if item.SegmentNumber > 0]
    dtype = np.min_scalar_type(max(int(item.SegmentNumber) for item in segments))
    layers: list[np.ndarray] = []
    if content.SegmentationType == "LABELMAP":
        _check_once(path, [(0, int(k)) for k in slices])
        layers.append(np.zeros(shape, dtype))
        for n, k in enumerate(slices):
            layers[0][k] = _frame(content, n)
        return np.stack(layers), tuple(_structure(item, 0) for item in segments)
    owners = [
        int(frame_group(content, n, "SegmentIdentificationSequence")[0].ReferencedSegmentNumber)
        for n in range(len(slices))
    ]
    _check_once(path, list(zip(owners, map(int, slices), strict=True)))
    structures = []
    for item in segments:
        number = int(item.SegmentNumber)
        masks = {
            int(slices[n]): _mask(path, content, n)
            for n, owner in enumerate(owners)
            if owner == number
        }
        layer = _free_layer(layers, masks, shape, dtype)
        for k, mask in masks.items():
            layers[layer][k][mask] = number
        structures.append(_structure(item, layer))
    return np.stack(layers), tuple(structures)


def _check_once(path: Path, frames: Sequence[tuple[int, int]]) -> None:
    """Raises FoBSAMError where two frames are of one segment and slice: which counts?"""
    if len(set(frames)) < len(frames):
        raise FoBSAMError(
            "bad_geometry",
            f"{path} has two frames of one segment in one slice.",
            "Export it again, with one.",
        )


def _free_layer(
    layers: list[np.ndarray], masks: dict[int, np.ndarray], shape: Sequence[int], dtype: np.dtype
) -> int:
    """The first layer that is empty where the masks of slices are, a new one if there is none."""
    for n, labels in enumerate(layers):
        if not any(labels[k][mask].any() for k, mask in masks.items()):
            return n
    layers.append(np.zeros(shape, dtype))
    return len(layers) - 1


def _mask(path: Path, content: pydicom.Dataset, index: int) -> np.ndarray:
    """One frame of a BINARY segmentation, or of a FRACTIONAL one that holds no fractions."""
    values = _frame(content, index)
    mask: np.ndarray = values > 0
    fractional = content.SegmentationType == "FRACTIONAL"
    if fractional and (values[mask] < content.MaximumFractionalValue).any():
        raise FoBSAMError(
            "bad_request",
            f"{path} holds fractions between 0 and 1.",
            "Make it binary first: FoBSAM needs to know which voxels are drawn.",
        )
    return mask


def _frame(content: pydicom.Dataset, index: int) -> np.ndarray:
    """The values [J, I] of one frame."""
    from pydicom.pixels import pixel_array

    syntax = content.file_meta.TransferSyntaxUID
    if content.BitsAllocated > 1 or syntax.is_compressed:
        try:
            return pixel_array(content, index=index)
        except (NotImplementedError, RuntimeError) as error:
            raise FoBSAMError(
                "unreadable",
                f"The DICOM segmentation is compressed ({syntax.name}) and cannot be read here.",
                "Save it uncompressed.",
            ) from error
    # Bits run on from frame to frame; pydicom would unpack all of them.
    size = content.Rows * content.Columns
    first = index * size
    packed = np.frombuffer(content.PixelData, np.uint8)[first // 8 : -(-(first + size) // 8)]
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:size]
    return bits.reshape(content.Rows, content.Columns)


def _structure(segment: pydicom.Dataset, layer: int) -> Structure:
    from FoBSAMLib.image import terminology

    number = int(segment.SegmentNumber)
    what = terminology.of_segment(segment)
    return Structure(
        name=str(segment.get("SegmentLabel") or f"Segment_{number}"),
        label=number,
        layer=layer,
        color=_color(segment.get("RecommendedDisplayCIELabValue")) or distinct_color(number),
        terminology=terminology.to_text(what) if what else "",
    )


def _color(value: Sequence[int] | None) -> tuple[float, float, float] | None:
    """RGB in [0, 1] of a CIELab colour as DICOM scales it (PS3.3 C.10.7.1.1)."""
    if not value or len(value) != 3:
        return None
    from skimage.color import lab2rgb

    lightness, a, b = np.asarray(value, np.float64) / 65535
    rgb = lab2rgb([lightness * 100, a * 255 - 128, b * 255 - 128])
    red, green, blue = (round(float(part), 4) for part in np.clip(rgb, 0, 1))
    return red, green, blue
