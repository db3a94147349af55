"""Documents of `fobsam evaluate`, made by hand for tests of what is made of them."""

from __future__ import annotations

from typing import Any

ORGANS = ("liver", "right kidney", "left kidney", "spleen")


def document(protocol: str, records: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A document of chaos; ``fields`` replace parts of it, those of the question among them."""
    question = {
        "dataset": "chaos",
        "protocol": protocol,
        "organs": list(dict.fromkeys(record["organ"] for record in records)),
        "methods": list(dict.fromkeys(record["method"] for record in records)),
        "slices_annotated": max([1, *(len(record["annotated"]) for record in records)]),
        "generators": ["fob-lite"],
        "segmenters": ["compact"],
        "device": "cpu",
        "setting": None,
        "train_on": None,
    }
    made = {
        "question": question,
        "subjects": sorted({record["subject"] for record in records}),
        "command": "fobsam evaluate chaos data",
        "versions": {"fobsam": "1.2.3"},
        "machine": {"system": "Linux", "processor": "x86", "cores": 2, "jobs": 1, "threads": 2},
        "models": {
            "generators": {"fob-lite": [{"name": "fob-lite", "sha256": "ab12", "labels": None}]},
            "segmenters": {"compact": {"sha256": ""}},
        },
        "trained_on": {"chaos": [1, 2]},
        "notes": [],
        "records": records,
    }
    for name, value in fields.items():
        (question if name in question else made)[name] = value
    return made


def weights(name: str = "fob-lite", **fields: Any) -> dict[str, Any]:
    """What a document says of a weights file, trained on chaos 1 and 2 without labels."""
    return {"name": name, "sha256": "ab12", "trained_on": {"chaos": [1, 2]}, "labels": {}, **fields}


def record(subject: int, organ: str, dice: float, **fields: Any) -> dict[str, Any]:
    """The tool's record of an organ, as JSON holds it."""
    return {
        "subject": subject,
        "organ": organ,
        "method": "fobsam",
        "presence": "own",
        "generator": "fob-lite",
        "segmenter": "compact",
        "suggestion": "",
        "fold": None,
        "support": 3,
        "annotated": [],
        "absent": [],
        "dice": dice,
        "dice_queries": dice,
        "hd95_mm": 5.0,
        "surface_dice": 0.8,
        "seconds": 2.0,
        "query_slices": 20,
        "found_slices": 10,
        "ablation": None,
        "slices": [],
        **fields,
    }


def entry(
    index: int, dice: float, confidence: float | None, truth: int = 100, found: int = 100
) -> dict[str, Any]:
    """A query slice of a record."""
    return {
        "index": index,
        "truth": truth,
        "found": found,
        "dice": dice,
        "presence": 0.9,
        "confidence": confidence,
    }
