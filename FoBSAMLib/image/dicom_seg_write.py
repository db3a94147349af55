"""`Segmentation` as a DICOM segmentation (SEG) that refers to the images it was made from."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image import terminology
from FoBSAMLib.image.dicom import frame_group, parsing, read_frames
from FoBSAMLib.image.segmentation import Segmentation, Structure
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.version import __version__

if TYPE_CHECKING:
    import highdicom

_OTHERWISE = "Write .seg.nrrd instead."
#: DICOM's longest label (LO), longest text of several lines (ST), longest value of a code (SH).
_LABEL, _TEXT = 64, 1024


def check_installed() -> None:
    """Raise FoBSAMError where highdicom is missing."""
    if importlib.util.find_spec("highdicom") is None:
        raise FoBSAMError(
            "bad_request",
            "DICOM segmentations are written with the package highdicom, which is not installed.",
            "Install it (pip install highdicom), or write .seg.nrrd.",
        )


def check_source(path: Path, image: Volume | None) -> Volume:
    """The image; raises FoBSAMError unless its DICOM segmentation can be written to ``path``."""
    check_installed()
    if image is None or not image.dicom_files:
        name = image.name if image is not None else "The image"
        raise FoBSAMError(
            "bad_request",
            f"{path.name} would be a DICOM segmentation, which refers to the DICOM images it was "
            f"made from, and {name} was read from other files.",
            "Give the DICOM folder as the image, or write .seg.nrrd.",
        )
    if path.exists() and any(path.samefile(file) for file in image.dicom_files):
        raise FoBSAMError("bad_request", f"{path} is a slice of the image.", "Choose another name.")
    header = _read_header(image.dicom_files[0], image.step("k"))
    if not header.get("FrameOfReferenceUID") or not _has_position(header):
        raise FoBSAMError(
            "bad_request",
            f"{image.name} does not say where in the patient it lies (a frame of reference and the "
            "position of its slices), which a DICOM segmentation needs.",
            _OTHERWISE,
        )
    return image


def build(
    segmentation: Segmentation, image: Volume, models: Mapping[str, str]
) -> highdicom.seg.Segmentation:
    """The DICOM object, of type BINARY; empty slices are left out, structures may overlap.

    Patient and study are those of ``image``, every structure has its codes (`terminology`), its
    colour, and FoBSAM with ``models`` as the semi-automatic algorithm.
    Raises FoBSAMError where the image's files are gone, are not what was read, or lack what a
    DICOM segmentation needs.
    """
    import highdicom

    headers, slices = _read_source(image, segmentation.shape)
    names = ", ".join(structure.name for structure in segmentation.structures)
    with warnings.catch_warnings():
        # Odd values in other people's headers are no news to the user.
        warnings.simplefilter("ignore")
        try:
            content = highdicom.seg.Segmentation(
                source_images=headers,
                pixel_array=_pixels(segmentation)[slices],
                segmentation_type="BINARY",
                segment_descriptions=[
                    _describe(number, structure, models)
                    for number, structure in enumerate(segmentation.structures, 1)
                ],
                series_instance_uid=generate_uid(),
                series_number=1000 + abs(int(headers[0].get("SeriesNumber") or 0)),
                series_description=_one_line(f"FoBSAM: {names}"),
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="FoBSAM",
                manufacturer_model_name="FoBSAM",
                software_versions=__version__,
                device_serial_number="0",
                content_label="FOBSAM",
                content_description=_one_line(names),
            )
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            why = _one_line(str(error))
            raise FoBSAMError(
                "bad_request",
                f"The DICOM headers of {image.name} cannot be referred to ({why}).",
                _OTHERWISE,
            ) from error
    content.ContentCreatorName = ""  # must be there, may be empty
    return content


def _read_source(
    image: Volume, shape: tuple[int, int, int]
) -> tuple[list[pydicom.Dataset], list[int]]:
    """The headers of an image's files, and the slice k of each file or, of one file, of each
    frame."""
    headers = [_read_header(file, image.step("k")) for file in image.dicom_files]
    first, count, slices = headers[0], len(headers), list(range(shape[0]))
    if count == 1:
        count = int(first.get("NumberOfFrames", 1))
        frames = read_frames(Path(image.dicom_files[0]))
        if frames is not None:
            slices = np.argsort(frames[0]).tolist()
    if (count, first.get("Rows"), first.get("Columns")) != shape:
        raise FoBSAMError(
            "bad_geometry", f"{image.name} is not what its DICOM files hold any more.", _OTHERWISE
        )
    return headers, slices


def _read_header(file: str, step: float) -> pydicom.Dataset:
    """A source's header, as highdicom needs it: texts as UTF-8, nothing missing that is allowed
    to be empty, what all frames share in its place, and slices ``step`` mm apart, as they are."""
    with parsing(Path(file)):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        header.decode()
        return _complete(header, step)


def _complete(header: pydicom.Dataset, step: float) -> pydicom.Dataset:
    header.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
        *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    ):
        if keyword not in header:
            setattr(header, keyword, "")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    measures = header
    if "PerFrameFunctionalGroupsSequence" in header:
        # They are the same for every frame, or the image would have been refused.
        for name in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            setattr(header.SharedFunctionalGroupsSequence[0], name, frame_group(header, 0, name))
        [measures] = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    measures.SpacingBetweenSlices = round(step, 9)
    if not measures.get("SliceThickness"):
        measures.SliceThickness = round(step, 9)
    return header


def _has_position(header: pydicom.Dataset) -> bool:
    return "ImagePositionPatient" in header or "PerFrameFunctionalGroupsSequence" in header


def _pixels(segmentation: Segmentation) -> np.ndarray:
    """The structures, numbered from 1: [K, J, I], or where they overlap bool [K, J, I, structure].

    The first takes a fraction of the memory.
    """
    structures = segmentation.structures
    labels = np.zeros(segmentation.shape, np.min_scalar_type(len(structures)))
    for number, structure in enumerate(structures, 1):
        mask = segmentation.mask(structure)
        if labels[mask].any():
            return np.stack([segmentation.mask(each) for each in structures], axis=-1)
        labels[mask] = number
    return labels


def _describe(
    number: int, structure: Structure, models: Mapping[str, str]
) -> highdicom.seg.SegmentDescription:
    import highdicom

    what = terminology.from_text(structure.terminology) or terminology.of_name(structure.name)
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=_one_line(structure.name),
        segmented_property_category=_fitting(what.category),
        segmented_property_type=_fitting(what.kind),
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="FoBSAM",
            version=__version__,
            family=codes.DCM.ArtificialIntelligence,
            parameters=dict(models) or None,
        ),
        tracking_uid=generate_uid(),
        tracking_id=_one_line(structure.name),
        anatomic_regions=[_fitting(what.region)] if what.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*(255 * c for c in structure.color)),
    )
    if _one_line(structure.name) != structure.name:
        description.SegmentDescription = structure.name[:_TEXT]
    if what.modifier:
        description.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = [_item(what.modifier)]
    if what.region and what.region_modifier:
        region = description.AnatomicRegionSequence[0]
        region.AnatomicRegionModifierSequence = [_item(what.region_modifier)]
    return description


def _fitting(code: Code) -> Code:
    """A code whose meaning fits: it is for people."""
    return Code(code.value, code.scheme_designator, _one_line(code.meaning))


def _item(code: Code) -> highdicom.sr.CodedConcept:
    import highdicom

    return highdicom.sr.CodedConcept(*_fitting(code))


def _one_line(text: str) -> str:
    """A text as DICOM's labels have it: up to 64 characters, a backslash would end it."""
    return " ".join(text.replace("\\", "/").split())[:_LABEL]
