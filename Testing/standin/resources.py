"""The colour and terminology files an application folder has; `slicer-core` ships none.

A few entries each, in the formats the logics read: enough that they load without complaint and that
a segment can carry a terminology.
"""

from __future__ import annotations

import json
from pathlib import Path

_GENERIC_COLORS = """\
# FileName GenericColors.txt
0 background 0 0 0 0
1 tissue 128 174 128 255
2 bone 241 214 145 255
3 skin 177 122 101 255
4 artery 216 101 79 255
"""


def _code(value: str, meaning: str, **more: object) -> dict:
    """A coded entry of SNOMED CT."""
    return {
        "CodingSchemeDesignator": "SCT",
        "CodeValue": value,
        "CodeMeaning": meaning,
        **more,
    }


_CATEGORIES = [
    _code(
        "85756007",
        "Tissue",
        showAnatomy=True,
        Type=[_code("85756007", "Tissue", recommendedDisplayRGBValue=[128, 174, 128])],
    ),
    _code(
        "123037004",
        "Anatomical Structure",
        showAnatomy=True,
        Type=[
            _code("10200004", "Liver", recommendedDisplayRGBValue=[221, 130, 101]),
            _code("78961009", "Spleen", recommendedDisplayRGBValue=[157, 108, 162]),
        ],
    ),
]
_TERMINOLOGIES = {
    "SegmentationCategoryTypeModifier-SlicerGeneralAnatomy": (
        "Segmentation category and type - 3D Slicer General Anatomy list"
    ),
    "SegmentationCategoryTypeModifier-DICOM-Master": (
        "Segmentation category and type - DICOM master list"
    ),
}
_REGIONS = "AnatomicRegionAndModifier-DICOM-Master"
_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/"


def write_colors(folder: Path) -> None:
    """Write the colour tables into a new folder."""
    folder.mkdir(parents=True)
    (folder / "GenericColors.txt").write_text(_GENERIC_COLORS, encoding="ascii")


def write_terminologies(folder: Path) -> None:
    """Write the terminologies and the anatomic regions into a new folder."""
    folder.mkdir(parents=True)
    for name, title in _TERMINOLOGIES.items():
        _write(
            folder / f"{name}.term.json",
            {
                "SegmentationCategoryTypeContextName": title,
                "@schema": _SCHEMA + "segment-context-schema.json#",
                "SegmentationCodes": {"Category": _CATEGORIES},
            },
        )
    _write(
        folder / f"{_REGIONS}.term.json",
        {
            "AnatomicContextName": "Anatomic codes - DICOM master list",
            "@schema": _SCHEMA + "anatomic-context-schema.json#",
            "AnatomicCodes": {"AnatomicRegion": [_code("818983003", "Abdomen")]},
        },
    )


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
