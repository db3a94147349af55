"""Fit the rules of presence and confidence on labelled subjects that the weights never saw.

    python Testing/benchmarks/fit_presence.py ../shared/data --json FILE

Structures are followed from their largest slice beyond their ends, and between three annotated
slices. The weights printed are those of ``FoBSAMLib/session/presence.py``. AUROC is that of rules
fitted on the other subjects; *threshold* shows which `PRESENT` gives the best mean Dice. *in use*
has the same of the rules that stand there now.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from scipy.optimize import minimize
from scipy.special import expit

from FoBSAMLib.evaluation.confidence import auroc
from FoBSAMLib.evaluation.datasets import find_dataset
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.session import follow as following
from FoBSAMLib.session.chain import Chain, dice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.presence import (
    BETWEEN,
    CONFIDENCE,
    PRESENCE,
    features,
    features_between,
)
from FoBSAMLib.session.slices import ImageSlices

SUBJECTS = {"chaos": (15,), "sabs": (10, 11)}
#: Slices followed beyond an end.
BEYOND = 6
GOOD = 0.7
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8)
RIDGE = 0.0003

Row = dict[str, Any]


def collect(folder: Path, generator: str) -> list[Row]:
    """A row for every slice followed."""
    model = generators.create(generator, "cpu")
    rows: list[Row] = []
    for name, subjects in SUBJECTS.items():
        dataset = find_dataset(name, folder)
        for subject in subjects:
            case = dataset.read(subject)
            slices = ImageSlices(
                case.volume, "k", model, segmenters.create("compact"), threaded=False
            )
            for organ, truth in case.masks.items():
                found = [*outward(slices, truth), *between(slices, truth)]
                rows += [{"case": f"{name} {subject}", "organ": organ, **row} for row in found]
                print(name, subject, organ, len(found), flush=True)
    return rows


def outward(slices: ImageSlices, truth: np.ndarray) -> Iterator[Row]:
    """The structure followed from its largest slice, and farther than it goes."""
    areas = truth.sum((1, 2))
    held, top = np.flatnonzero(areas), int(areas.argmax())
    ends = {-1: max(0, held[0] - BEYOND), 1: min(len(truth) - 1, held[-1] + BEYOND)}
    for direction, end in ends.items():
        chain = Chain(slices, top, truth[top], [])
        for index in range(top + direction, int(end) + direction, direction):
            mask = clean(chain.step(index).probability >= 0.5)
            if not mask.any():
                break
            yield {
                "kind": f"outward {direction}",
                "x": features(chain.weigh()).tolist(),
                "rest": int(areas.sum() - areas[top]),
                **_overlap(mask, truth[index]),
            }


def between(slices: ImageSlices, truth: np.ndarray) -> Iterator[Row]:
    """The structure followed between its slices at 1/6, 1/2 and 5/6."""
    held = np.flatnonzero(truth.any((1, 2)))
    at = sorted({int(held[int(share * len(held))]) for share in (1 / 6, 1 / 2, 5 / 6)})
    seen: list[np.ndarray] = []
    judged = following.judge_between

    def listen(evidence: Any, *, held: bool) -> Any:
        seen.append(features_between(evidence))
        return judged(evidence, held=held)

    following.judge_between = listen
    try:
        annotated = {index: truth[index] for index in at}
        for outcome in following.follow(slices, annotated, set(), range(at[0], at[-1] + 1)):
            overlap = _overlap(outcome.mask, truth[outcome.index])
            yield {"kind": "between", "x": seen[-1].tolist(), **overlap}
    finally:
        following.judge_between = judged


def _overlap(mask: np.ndarray, truth: np.ndarray) -> Mapping[str, Any]:
    return {
        "dice": dice(mask, truth),
        "common": int((mask & truth).sum()),
        "found": int(mask.sum()),
        "truth": int(truth.sum()),
    }


def fit(x: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Weights of a logistic rule; distance never speaks for a mask, all else never against it."""
    for_it, distance, free = (0, None), (None, 0), (None, None)
    bounds = {
        6: [for_it, distance, free] + [for_it] * 3,
        4: [for_it, distance, free, for_it],  # between two annotated slices
    }[x.shape[1]]

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w
        value = np.mean(np.logaddexp(0, -np.where(good, z, -z))) + RIDGE * w @ w
        return float(value), x.T @ (expit(z) - good) / len(x) + 2 * RIDGE * w

    start = np.zeros(x.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def rule(rows: list[Row], good: np.ndarray) -> dict[str, Any]:
    """A rule fitted on all rows, and its AUROC where each subject is judged by the others'."""
    x = np.array([row["x"] for row in rows])
    cases = np.array([row["case"] for row in rows])
    score = np.zeros(len(rows))
    for case in set(cases):
        score[cases == case] = x[cases == case] @ fit(x[cases != case], good[cases != case])
    return {
        "weights": np.round(fit(x, good), 2).tolist(),
        "auroc": round(auroc(~good, score) or 0.0, 4),
        "good": round(float(good.mean()), 4),
        "rows": len(rows),
    }


def in_use(rows: list[Row], good: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """The AUROC of a rule as it is."""
    x = np.array([row["x"] for row in rows])
    return {"weights": weights.tolist(), "auroc": round(auroc(~good, x @ weights) or 0.0, 4)}


def thresholds(rows: list[Row], weights: np.ndarray) -> dict[str, float]:
    """Mean Dice outward by the presence below which a way ends."""
    return {str(t): round(dice_at(rows, weights, t), 4) for t in THRESHOLDS}


def dice_at(rows: list[Row], weights: np.ndarray, threshold: float) -> float:
    """Mean Dice of the slices outward where the first of less presence ends the way."""
    ways: dict[tuple[str, str], list[Row]] = {}
    over: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        key = (row["case"], row["organ"])
        ways.setdefault(key, [])
        ended = over.setdefault(key, set())
        if row["kind"] in ended:
            continue
        if expit(np.array(row["x"]) @ weights) < threshold:
            ended.add(row["kind"])
            continue
        ways[key].append(row)
    rest = {(row["case"], row["organ"]): row["rest"] for row in rows}
    return float(
        np.mean(
            [
                2 * sum(r["common"] for r in way) / (sum(r["found"] for r in way) + rest[key])
                for key, way in ways.items()
                if rest[key]
            ]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generator", default="fob-lite")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path, help="keep what was followed, or take it from there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if options.rows and options.rows.exists():
        rows = json.loads(options.rows.read_text())
    else:
        rows = collect(options.folder, options.generator)
        if options.rows:
            options.rows.write_text(json.dumps(rows))
    outward_rows = [row for row in rows if row["kind"] != "between"]
    between_rows = [row for row in rows if row["kind"] == "between"]
    there = np.array([row["truth"] > 0 for row in outward_rows])
    right = np.array([row["dice"] >= GOOD for row in outward_rows])
    right_between = np.array([row["dice"] >= GOOD for row in between_rows])
    presence = rule(outward_rows, there)
    document = {
        "subjects": SUBJECTS,
        "presence": presence,
        "confidence": rule(outward_rows, right),
        "between": rule(between_rows, right_between),
        "threshold": thresholds(outward_rows, np.array(presence["weights"])),
        "in use": {
            "presence": in_use(outward_rows, there, PRESENCE),
            "confidence": in_use(outward_rows, right, CONFIDENCE),
            "between": in_use(between_rows, right_between, BETWEEN),
            "threshold": thresholds(outward_rows, PRESENCE),
        },
    }
    text = json.dumps(document, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
