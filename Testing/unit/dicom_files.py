"""Small DICOM images on disk, an oblique CT; DICOM segmentations read by the letter of PS3.3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

VOXELS = np.random.default_rng(0).integers(0, 2000, (4, 6, 5)).astype(np.uint16)
#: Rows along the patient's left-posterior diagonal: an oblique series.
ALONG_ROW, ALONG_COLUMN = np.array([0.6, 0.8, 0]), np.array([0, 0, -1.0])
NORMAL = np.cross(ALONG_ROW, ALONG_COLUMN)
FIRST, ROW_SPACING, COLUMN_SPACING, STEP = np.array([10, -20, 30]), 0.7, 0.5, 3.0
STUDY, FRAME_OF_REFERENCE = generate_uid(), generate_uid()


def write_slice(
    path: Path, index: int, series: str, voxels: np.ndarray = VOXELS, **changes: object
) -> None:
    """One slice, rescaled to HU; positions in LPS as DICOM has them. None removes an attribute."""
    slice_ = _new(path, CTImageStorage, series, voxels)
    slice_.PixelSpacing = [ROW_SPACING, COLUMN_SPACING]
    # Not the distance of the slices: they have gaps.
    slice_.SliceThickness = 1.0
    slice_.ImageOrientationPatient = [*ALONG_ROW, *ALONG_COLUMN]
    slice_.ImagePositionPatient = position(index)
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.PixelData = voxels[index].tobytes()
    for name, value in changes.items():
        setattr(slice_, name, value)
        if value is None:
            delattr(slice_, name)
    slice_.save_as(path, enforce_file_format=True)


def write_series(
    folder: Path, prefix: str = "im", voxels: np.ndarray = VOXELS, **changes: object
) -> str:
    """A series whose file names are in no order of position."""
    series = generate_uid()
    folder.mkdir(exist_ok=True)
    for index in range(len(voxels)):
        number = (index * 7 + 2) % len(voxels)
        write_slice(folder / f"{prefix}{number:03}.dcm", index, series, voxels, **changes)
    assert len(list(folder.glob(f"{prefix}???.dcm"))) == len(voxels)
    return series


def write_frames(
    path: Path, order: list[int], positions: list[float] | None = None, *, each: bool = False
) -> None:
    """VOXELS as one multi-frame image; frame n is slice order[n], or lies at positions[n] steps.

    With ``each`` every frame says its direction and pixel size itself, as some scanners have it.
    """
    image = _new(path, EnhancedCTImageStorage, generate_uid(), VOXELS)
    image.NumberOfFrames = len(order)
    image.ContentDate, image.ContentTime = "20260102", "101112"
    rescale = _item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")
    measures = _item(PixelSpacing=[ROW_SPACING, COLUMN_SPACING], SliceThickness=1.0)
    orientation = _item(ImageOrientationPatient=[*ALONG_ROW, *ALONG_COLUMN])
    same = {"PixelMeasuresSequence": [measures], "PlaneOrientationSequence": [orientation]}
    image.SharedFunctionalGroupsSequence = [
        _item(PixelValueTransformationSequence=[rescale], **({} if each else same))
    ]
    image.PerFrameFunctionalGroupsSequence = [
        _item(
            PlanePositionSequence=[_item(ImagePositionPatient=position(place))],
            **(same if each else {}),
        )
        for place in positions or order
    ]
    image.PixelData = VOXELS[order].tobytes()
    image.save_as(path, enforce_file_format=True)


def position(index: float) -> list[float]:
    return np.round(FIRST + index * STEP * NORMAL, 6).tolist()


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _new(path: Path, sop_class: str, series: str, voxels: np.ndarray) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID = sop_class
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY, series
    image.FrameOfReferenceUID = FRAME_OF_REFERENCE
    image.SpecificCharacterSet = "ISO_IR 100"
    image.PatientName, image.PatientID, image.PatientSex = "Müller^Zoë", "P7", "F"
    image.PatientBirthDate, image.StudyDate, image.StudyTime = "19700102", "20260102", "101112"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "9", "A1", ""
    image.SeriesDescription, image.SeriesNumber = "Thorax", 4
    image.Modality = "CT"
    image.Rows, image.Columns = voxels.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    return image


def read_plainly(path: Path, ijk_to_ras: np.ndarray, shape: tuple[int, ...]) -> dict:
    """The masks bool [K, J, I] of a BINARY segmentation by segment number, on a grid.

    Each pixel's place in the patient is computed by PS3.3 equation C.7.6.2.1-1, and must be the
    middle of one of the grid's voxels. Nothing of FoBSAM or highdicom is used.
    """
    content = pydicom.dcmread(path)
    pixels = content.pixel_array.reshape(-1, content.Rows, content.Columns)
    assert len(pixels) == content.NumberOfFrames == len(content.PerFrameFunctionalGroupsSequence)
    masks = {item.SegmentNumber: np.zeros(shape, bool) for item in content.SegmentSequence}
    [shared] = content.SharedFunctionalGroupsSequence
    for frame, own in zip(pixels, content.PerFrameFunctionalGroupsSequence, strict=True):
        [measures] = shared.PixelMeasuresSequence
        [orientation] = shared.PlaneOrientationSequence
        [place] = own.PlanePositionSequence
        [segment] = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        rows, columns = np.nonzero(frame)
        x = np.array(orientation.ImageOrientationPatient[:3], float)
        y = np.array(orientation.ImageOrientationPatient[3:], float)
        down, right = (float(value) for value in measures.PixelSpacing)
        lps = np.array(place.ImagePositionPatient, float)
        lps = lps + np.outer(columns * right, x) + np.outer(rows * down, y)
        ras = np.column_stack([lps * [-1, -1, 1], np.ones(len(lps))])
        ijk = (ras @ np.linalg.inv(ijk_to_ras).T)[:, :3]
        voxels = np.rint(ijk).astype(int)
        assert len(rows)
        np.testing.assert_allclose(ijk, voxels, atol=1e-3)
        masks[segment.ReferencedSegmentNumber][tuple(voxels.T[::-1])] = True
    return masks
