"""Structures of which training saw no label: one annotated slice, the default against the weights
that were trained without labels and the strongest baseline.

    python Testing/benchmarks/unseen.py ../shared/data/totalseg --json FILE

The CT and the MR are TotalSegmentator's examples at 3 mm; labels are its predictions, numbered as
its class maps (version 2). Left out are the organs whose labels `fob-lite` was trained with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from FoBSAMLib import LocalSession, Support, Volume
from FoBSAMLib.evaluation.baselines import BASELINES, CycleGate, propagate
from FoBSAMLib.evaluation.metrics import dice
from FoBSAMLib.image.io import read_segmentation
from FoBSAMLib.image.windows import normalise

IMAGES = {
    "CT": ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
    "MR": ("example_mr_sm.nii.gz", "example_seg_mr.nii.gz"),
}
#: In the class map: spleen, kidneys, gallbladder, liver, stomach, pancreas, adrenal glands,
#: esophagus, aorta, inferior vena cava, portal and splenic vein.
TRAINED = {
    "CT": {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 52, 63, 64},
    "MR": {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 23, 24, 25},
}
GENERATORS = ("fob-lite", "fob-lite-self")
BASELINE = "registration+random-walker"
#: Structures smaller than this in their largest slice (pixels), or in fewer slices, are left out.
LEAST_AREA, LEAST_SLICES = 40, 5


def follow(session: LocalSession, volume: Volume, truth: np.ndarray) -> float:
    """Dice over the whole volume from the structure's largest slice, drawn slice included."""
    largest = int(truth.sum((1, 2)).argmax())
    found = np.zeros_like(truth)
    found[largest] = truth[largest]
    session.set_supports(Support.from_masks(volume, {"structure": found}, axis="k"))
    for result in session.segment():
        found[result.index] = result.mask
    return dice(truth, found)


def walk(volume: Volume, image: np.ndarray, truth: np.ndarray) -> float:
    """The same by the baseline, which decides by its own rule where the structure ends."""
    baseline, spacing = BASELINES[BASELINE], volume.slice_spacing("k")
    largest = int(truth.sum((1, 2)).argmax())
    start = {largest: truth[largest]}
    gate = CycleGate(image, start, spacing, baseline.agreement)
    step = baseline.on(image, spacing)
    masks = propagate(step, start, gate, range(len(image)), sure=True)
    found = np.zeros_like(truth)
    for index, mask in {**masks, **start}.items():
        found[index] = mask
    return dice(truth, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    records: list[dict[str, Any]] = []
    for kind, (image, labels) in IMAGES.items():
        volume = Volume.read(options.folder / image)
        windowed = normalise(volume)
        layer = read_segmentation(options.folder / labels, like=volume).layers[0]
        sessions = {name: LocalSession(name, device="cpu") for name in GENERATORS}
        for session in sessions.values():
            session.set_image(volume)
        for value in sorted(set(np.unique(layer)) - TRAINED[kind] - {0}):
            truth = layer == value
            areas = truth.sum((1, 2))
            if areas.max() < LEAST_AREA or np.count_nonzero(areas) < LEAST_SLICES:
                continue
            scores = {name: follow(session, volume, truth) for name, session in sessions.items()}
            scores[BASELINE] = walk(volume, windowed, truth)
            rounded = {name: round(score, 4) for name, score in scores.items()}
            records.append({"image": kind, "label": int(value), "dice": rounded})
            print(records[-1], flush=True)
    means = {
        kind: {
            name: round(float(np.mean([r["dice"][name] for r in records if r["image"] == kind])), 4)
            for name in (*GENERATORS, BASELINE)
        }
        for kind in IMAGES
        if any(r["image"] == kind for r in records)
    }
    print(means)
    if options.json:
        document = {"means": means, "records": records}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
