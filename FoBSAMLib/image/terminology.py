"""What a structure is, in codes: Slicer's terminology texts, DICOM's code sequences, names.

Codes are `pydicom.sr.coding.Code`: value, coding scheme, meaning. Those for names are looked up in
pydicom's copy of DICOM's context groups (PS3.16).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import slicerio
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

if TYPE_CHECKING:
    import pydicom

#: Context groups that hold structures, by the category of what they hold; the first one wins.
_GROUPS = {
    "Tissue": ("cid7166",),
    "MorphologicallyAbnormalStructure": ("cid7159",),
    "AnatomicalStructure": (
        *("cid7154", "cid7155", "cid7160", "cid7152", "cid7153", "cid7140", "cid6300"),
        *("cid4031", "cid4030", "cid4"),
    ),
}
#: Other names of structures, and words that say nothing.
_SYNONYMS = {
    "adrenal": "adrenal gland",
    "bone": "bone tissue",
    "bowel": "intestine",
    "fat": "adipose tissue",
    "ivc": "inferior vena cava",
    "muscle": "muscle tissue",
    "oesophagus": "esophagus",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "urinary": "",
    "vertebrae": "vertebra",
    "vessel": "blood vessel",
    **dict.fromkeys(("of", "the", "structure"), ""),
}
#: How Slicer names the lists that DICOM's codes are from.
_CONTEXT = "Segmentation category and type - DICOM master list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Terminology:
    """What a structure is, and where: `category` and `kind` are always known."""

    category: Code
    kind: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


#: What Slicer calls a segment of which nothing is said.
UNKNOWN = Terminology(codes.SCT.Tissue, codes.SCT.Tissue)

#: The same in slicerio's dictionaries.
_KEYS = ("category", "type", "typeModifier", "anatomicRegion", "anatomicRegionModifier")


def from_text(text: str) -> Terminology | None:
    """The codes of Slicer's terminology text; None where category or type are missing."""
    try:
        entry = slicerio.segmentation.terminology_entry_from_string(text)
    except IndexError:
        return None
    found = [_code(*entry[key]) if len(entry.get(key, ())) == 3 else None for key in _KEYS]
    category, kind, *others = found
    return Terminology(category, kind, *others) if category and kind else None


def to_text(terminology: Terminology) -> str:
    """Slicer's terminology text of codes."""
    entry: dict[str, object] = {"contextName": _CONTEXT, "anatomicContextName": _REGION_CONTEXT}
    for key, field in zip(_KEYS, fields(Terminology), strict=True):
        code = getattr(terminology, field.name)
        if code is not None:
            entry[key] = [
                re.sub(r"[\^~\s]+", " ", text)
                for text in (code.scheme_designator, code.value, code.meaning)
            ]
    text: str = slicerio.segmentation.terminology_entry_to_string(entry)
    return text


def of_segment(segment: pydicom.Dataset) -> Terminology | None:
    """The codes of an item of a DICOM segmentation's Segment Sequence; None where they lack."""
    category = _first(segment, "SegmentedPropertyCategoryCodeSequence")
    kind = _first(segment, "SegmentedPropertyTypeCodeSequence")
    region = _first(segment, "AnatomicRegionSequence")
    found = [
        _code_of(item)
        for item in (
            category,
            kind,
            _first(kind, "SegmentedPropertyTypeModifierCodeSequence"),
            region,
            _first(region, "AnatomicRegionModifierSequence"),
        )
    ]
    if found[0] is None or found[1] is None:
        return None
    return Terminology(found[0], found[1], *found[2:])


def of_name(name: str) -> Terminology:
    """The codes of a structure by its English name, with its side; `UNKNOWN` for any other."""
    words = _words(name)
    known = _known_names()
    if words in known:
        return Terminology(*known[words])
    sides = words & {"left", "right"}
    category_and_kind = known.get(words - sides)
    if category_and_kind is None:
        return UNKNOWN
    side = (
        {"left": codes.SCT.Left, "right": codes.SCT.Right}[min(sides)] if len(sides) == 1 else None
    )
    return Terminology(*category_and_kind, side)


@functools.cache
def _known_names() -> dict[frozenset[str], tuple[Code, Code]]:
    """Category and type by the words of DICOM's keywords."""
    known: dict[frozenset[str], tuple[Code, Code]] = {}
    for category, groups in _GROUPS.items():
        for group in groups:
            for keyword, code in getattr(codes, group).concepts.items():
                if code.scheme_designator == "SCT" and keyword != "Normal":
                    pair = (getattr(codes.SCT, category), code)
                    known.setdefault(_words(keyword), pair)
    return known


def _words(name: str) -> frozenset[str]:
    """The words of "kidney_left", "LeftKidney", "Left kidneys" alike."""
    parts = re.findall(r"[A-Z]+[0-9]+|[A-Z]?[a-z]+[0-9]*|[A-Z]+(?![a-z])|[0-9]+", name)
    words: set[str] = set()
    for part in parts:
        word = part.lower()
        if word not in _SYNONYMS and word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
        words.update(_SYNONYMS.get(word, word).split())
    return frozenset(words)


def _code(scheme: str, value: str, meaning: str) -> Code | None:
    return Code(value, scheme, meaning) if scheme and value and meaning else None


def _first(item: pydicom.Dataset | None, name: str) -> pydicom.Dataset | None:
    sequence = item.get(name) if item is not None else None
    return sequence[0] if sequence else None


def _code_of(item: pydicom.Dataset | None) -> Code | None:
    if item is None:
        return None
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return _code(item.get("CodingSchemeDesignator", ""), value, item.get("CodeMeaning", ""))
