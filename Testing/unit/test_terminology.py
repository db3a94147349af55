"""What a structure is, in codes."""

from __future__ import annotations

import pytest
from pydicom.sr.codedict import codes

from FoBSAMLib.image import terminology
from FoBSAMLib.image.terminology import UNKNOWN, Terminology, from_text, of_name, to_text

ORGAN, SICK = codes.SCT.AnatomicalStructure, codes.SCT.MorphologicallyAbnormalStructure


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Liver", Terminology(ORGAN, codes.SCT.Liver)),
        ("right kidney", Terminology(ORGAN, codes.SCT.Kidney, codes.SCT.Right)),
        ("kidney_left", Terminology(ORGAN, codes.SCT.Kidney, codes.SCT.Left)),
        ("Lungs", Terminology(ORGAN, codes.SCT.Lung)),
        ("LeftVentricle", Terminology(ORGAN, codes.SCT.LeftVentricle)),
        ("lung_upper_lobe_left", Terminology(ORGAN, codes.SCT.UpperLobeOfLung, codes.SCT.Left)),
        ("oesophagus", Terminology(ORGAN, codes.SCT.Esophagus)),
        ("IVC", Terminology(ORGAN, codes.SCT.InferiorVenaCava)),
        ("urinary bladder", Terminology(ORGAN, codes.SCT.Bladder)),
        ("right adrenal", Terminology(ORGAN, codes.SCT.AdrenalGland, codes.SCT.Right)),
        ("pelvis", Terminology(ORGAN, codes.SCT.Pelvis)),
        ("Tumour", Terminology(SICK, codes.SCT.Neoplasm)),
        ("cyst", Terminology(SICK, codes.SCT.Cyst)),
        ("fat", Terminology(codes.SCT.Tissue, codes.SCT.AdiposeTissue)),
    ],
)
def test_known_names(name, expected):
    assert of_name(name) == expected


@pytest.mark.parametrize("name", ["", "Segment_1", "rib 3 left", "left", "liver tumour", "肝", "x"])
def test_a_name_is_not_guessed_from(name):
    assert of_name(name) == UNKNOWN


def test_slicers_texts():
    text = (
        "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure"
        "~SCT^64033007^Kidney~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^"
    )
    assert to_text(from_text(text)) == text
    assert from_text(to_text(of_name("left lung"))) == of_name("left lung")


@pytest.mark.parametrize("text", ["", "kidney", "a~b~c~d~e~f~g", "x~^^~^^~^^~y~^^~^^", "~" * 6])
def test_texts_without_codes(text):
    assert from_text(text) is None


def test_separators_in_a_meaning_do_not_split_the_text():
    odd = terminology.Code("1", "99X", "a~b^c\nd")
    assert from_text(to_text(Terminology(odd, odd))).kind.meaning == "a b c d"
