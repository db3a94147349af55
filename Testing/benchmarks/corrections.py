"""How much a user's points mend: one point after another in the middle of the largest mistake.

One slice of an organ is annotated, its largest, and the others are segmented, as in `fobsam
evaluate --protocol interactive`. In every slice with a Dice below 0.9, a point is put on the
deepest pixel of the largest connected mistake, a background point where the mask is too large
and a foreground point where it is too small; then a second and a third one.

Constants of `FoBSAMLib.session.correct` were chosen by this simulation, so only development
subjects may be named here; it does not say how well corrections work on others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from FoBSAMLib import LocalSession, Prompts, Support
from FoBSAMLib.evaluation.datasets import Subject, find_dataset
from FoBSAMLib.evaluation.metrics import dice
from FoBSAMLib.session import correct
from FoBSAMLib.session.results import SliceResult

DEVELOPMENT = {"chaos": (13, 15), "sabs": (6, 10)}
ORGANS = ("liver", "right kidney", "left kidney", "spleen")
GOOD = 0.9
POINTS = 3
#: A Dice that falls by more than this counts as worse.
WORSE = 0.005


def next_point(mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """The next click as (x, y) [1, 2], and whether it is foreground; None where all is right."""
    mistakes, count = ndimage.label(mask != truth)
    if not count:
        return None
    largest = mistakes == 1 + np.argmax(np.bincount(mistakes.ravel())[1:])
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(np.argmax(depth), depth.shape)
    return np.array([[column, row]], np.float32), bool(truth[row, column])


def mend(session: LocalSession, found: SliceResult, truth: np.ndarray) -> dict[str, object]:
    """Dice of a slice with 0, 1, … points, and the milliseconds of each correction."""
    name, index = found.structure.name, found.index
    scores, times = [dice(truth, found.mask)], []
    prompts, mask = found.prompts, found.mask
    for _ in range(POINTS):
        point = next_point(mask, truth)
        if point is not None:
            xy, foreground = point
            prompts = Prompts(
                prompts.background if foreground else np.concatenate([prompts.background, xy]),
                np.concatenate([prompts.foreground, xy]) if foreground else prompts.foreground,
            )
            corrected = session.correct(name, index, prompts)
            mask = corrected.mask
            times.append(round(corrected.milliseconds, 1))
        scores.append(dice(truth, mask))
    return {
        "slice": index,
        "found": bool(found.mask.any()),
        "held": bool(truth.any()),
        "dice": [round(score, 4) for score in scores],
        "milliseconds": times,
    }


def simulate(session: LocalSession, subject: Subject, organ: str) -> list[dict[str, object]]:
    """Every slice of an organ that needs correction, mended."""
    truth = subject.masks[organ]
    drawn = np.zeros_like(truth)
    largest = int(np.argmax(truth.sum(axis=(1, 2))))
    drawn[largest] = truth[largest]
    session.set_image(subject.volume)
    session.set_supports(Support.from_masks(subject.volume, {organ: drawn}, axis="k"))
    found = list(session.segment())
    poor = [r for r in found if dice(truth[r.index], r.mask) < GOOD]
    return [mend(session, result, truth[result.index]) for result in poor]


def summarise(slices: list[dict]) -> dict[str, object]:
    """Mean Dice with 0, 1, … points, the share of points that made it worse, and times."""
    scores = np.array([entry["dice"] for entry in slices])
    times = np.concatenate([entry["milliseconds"] for entry in slices])
    return {
        "slices": len(slices),
        "mean_dice": scores.mean(axis=0).round(4).tolist(),
        "worse": float((np.diff(scores) < -WORSE).mean().round(4)),
        "milliseconds_median": float(np.median(times).round(1)),
        "milliseconds_95": float(np.percentile(times, 95).round(1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="holds the data sets, as for `fobsam evaluate`")
    parser.add_argument("--segmenter", default="compact")
    parser.add_argument("--reach", type=float, default=correct.REACH)
    parser.add_argument("--sure", type=float, default=correct.SURE)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    correct.REACH, correct.SURE = options.reach, options.sure
    session = LocalSession(segmenter=options.segmenter, device="cpu")
    volumes = []
    for name, subjects in DEVELOPMENT.items():
        dataset = find_dataset(name, options.folder)
        for number in subjects:
            subject = dataset.read(number)
            for organ in ORGANS:
                slices = simulate(session, subject, organ)
                print(name, number, organ, len(slices), "slices", flush=True)
                volumes.append(
                    {"dataset": name, "subject": number, "organ": organ, "slices": slices}
                )
    summary = {
        name: summarise([s for v in volumes if v["dataset"] == name for s in v["slices"]])
        for name in DEVELOPMENT
    }
    print(json.dumps(summary, indent=1))
    if options.json:
        document = {
            "subjects": "development subjects, on which the constants were chosen",
            "segmenter": options.segmenter,
            "reach": options.reach,
            "sure": options.sure,
            "summary": summary,
            "volumes": volumes,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
