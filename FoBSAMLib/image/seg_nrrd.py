"""Slicer's segmentation files, ``.seg.nrrd``: slicerio's dictionaries ↔ `Segmentation`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import slicerio

from FoBSAMLib.image import geometry
from FoBSAMLib.image.segmentation import Segmentation, Structure, distinct_color


def read(path: Path) -> Segmentation | None:
    """Read a NRRD file that holds Slicer's segments; None for any other file.

    A damaged one raises whatever pynrrd and slicerio raise, which they do not say.
    """
    if path.suffix.lower() not in (".nrrd", ".nhdr"):
        return None
    header = nrrd.read_header(str(path))
    if "Segment0_ID" not in header and "Segment0_Name" not in header:
        return None
    content = slicerio.read_segmentation(str(path))
    voxels = content["voxels"]
    # slicerio's order is (I, J, K) or (layer, I, J, K).
    layers = voxels[np.newaxis] if voxels.ndim == 3 else voxels
    texts = _texts(path)
    structures = tuple(
        _structure(n, s | {"name": texts.get(f"Segment{n - 1}_Name", s.get("name"))})
        for n, s in enumerate(content["segments"], 1)
    )
    if layers.min() < 0 or max(s.layer for s in structures) >= len(layers):
        raise ValueError("labels below 0, or a layer missing")
    return Segmentation(
        layers.transpose(0, 3, 2, 1).astype(np.min_scalar_type(int(layers.max())), order="C"),
        geometry.ras_to_lps(content["ijkToLPS"]),
        structures,
        _kept_header(content),
    )


def _structure(number: int, segment: dict) -> Structure:
    """A structure from slicerio's segment; ``number`` counts from 1."""
    terminology = segment.get("terminology")
    tags = dict(segment.get("tags", {}))
    if "status" in segment:
        tags["Segmentation.Status"] = segment["status"]
    return Structure(
        name=segment.get("name") or segment["id"],
        label=segment.get("labelValue", 1),
        layer=segment.get("layer", 0),
        color=tuple(segment.get("color", distinct_color(number))),
        terminology=_terminology_text(terminology) if terminology else "",
        id=segment["id"],
        tags=tuple(tags.items()),
    )


def _terminology_text(terminology: dict) -> str:
    text: str = slicerio.segmentation.terminology_entry_to_string(terminology)
    return text


def _kept_header(content: dict) -> dict:
    """What of slicerio's content is neither voxels, geometry nor tied to their storage."""
    slicer = ("containedRepresentationNames", "conversionParameters")
    storage = ("encoding", "masterRepresentation")
    return {
        key: value
        for key, value in content.items()
        if key in slicer or (isinstance(value, str) and key not in storage)
    }


def write(path: Path, segmentation: Segmentation, name: str = "") -> None:
    """Write a ``.seg.nrrd``, compressed, with ``name`` as its content field."""
    content = _to_slicerio(segmentation)
    if name:
        content["content"] = _one_line(name)
    slicerio.write_segmentation(str(path), _to_ascii(content), compression_level=6)
    _restore_unicode(path)


# Slicer writes names as UTF-8. pynrrd drops what is not ASCII when reading and refuses it when
# writing: names are read beside it, and written as marks that are replaced afterwards.


def _texts(path: Path) -> dict[str, str]:
    """The header's key := value fields as UTF-8 text."""
    texts = {}
    with path.open("rb") as stream:
        for line in stream:
            if not line.strip():
                break
            key, found, value = line.rstrip(b"\r\n").partition(b":=")
            if found:
                texts[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return texts


def _to_ascii(value: Any) -> Any:
    """Every text of a nested content with marks in the place of what is not ASCII."""
    if isinstance(value, str):
        return value if value.isascii() else f"@utf8:{value.encode().hex()}@"
    if isinstance(value, dict):
        return {key: _to_ascii(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_ascii(item) for item in value)
    return value


def _restore_unicode(path: Path) -> None:
    header, end, voxels = path.read_bytes().partition(b"\n\n")
    restored = re.sub(rb"@utf8:([0-9a-f]+)@", lambda m: bytes.fromhex(m[1].decode()), header)
    if restored != header:
        path.write_bytes(restored + end + voxels)


def _one_line(text: str) -> str:
    """Text without line breaks: one would end the field of the header."""
    return " ".join(text.split())


def _to_slicerio(segmentation: Segmentation) -> dict:
    layers = segmentation.layers.transpose(0, 3, 2, 1)
    segments = []
    ids: set[str] = set()
    for number, structure in enumerate(segmentation.structures, 1):
        wanted = structure.id or f"Segment_{number}"
        segment_id = wanted if wanted not in ids else f"{wanted}_{number}"
        ids.add(segment_id)
        tags = dict(structure.tags)
        if structure.terminology:
            tags["TerminologyEntry"] = structure.terminology
        segments.append(
            {
                "id": segment_id,
                "name": _one_line(structure.name),
                "nameAutoGenerated": False,
                "color": structure.color,
                "colorAutoGenerated": False,
                "labelValue": structure.label,
                "layer": structure.layer,
                "tags": tags,
            }
        )
    return {
        "containedRepresentationNames": ["Binary labelmap"],
        **segmentation.header,
        "voxels": layers if len(layers) > 1 else layers[0],
        "ijkToLPS": geometry.ras_to_lps(segmentation.ijk_to_ras),
        "segments": segments,
    }
