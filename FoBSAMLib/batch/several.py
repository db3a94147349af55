"""One result from several annotated cases: of each structure the surest."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Segmentation
from FoBSAMLib.session.oneshot import OneShot


def combine(runs: Sequence[OneShot]) -> tuple[Segmentation, dict[str, Any]]:
    """The segmentation and the report of one image segmented from each of several supports.

    A structure, by its name, is taken whole from the run that is surest of it, see `_sureness`.
    Where structures of different runs meet, the surer one has the voxel.
    The report says of each structure which ``support`` it is from, counted from 1.
    """
    for run in runs:
        _check_names([structure.name for structure in run.support.structures])
    best: dict[str, tuple[tuple[bool, float], int]] = {}
    for number, run in enumerate(runs):
        for structure in run.support.structures:
            sure = _sureness(run, structure.name)
            if structure.name not in best or sure > best[structure.name][0]:
                best[structure.name] = sure, number
    masks = {}
    for number, run in enumerate(runs):
        for structure in run.segmentation.structures:
            if best[structure.name][1] == number:
                masks[structure.name] = structure, run.segmentation.mask(structure)
    taken = np.full(runs[0].volume.shape, -1)
    for name in sorted(best, key=lambda name: best[name][0], reverse=True):
        structure, mask = masks[name]
        number = best[name][1]
        mask = mask & ((taken < 0) | (taken == number))
        taken[mask] = number
        masks[name] = structure, mask
    segmentation = Segmentation.from_masks(
        runs[0].volume.ijk_to_ras, [masks[name] for name in best]
    )
    return segmentation, _report(runs, {name: number for name, (_, number) in best.items()})


def _check_names(names: list[str]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise FoBSAMError(
            "bad_request",
            f"Two structures of one support are named {twice[0]}.",
            "Rename one: with several supports structures are told by their names.",
        )


def _sureness(run: OneShot, name: str) -> tuple[bool, float]:
    """Drawn on the image itself comes first; then the mean confidence of the slices in which the
    structure was found, 0 for none."""
    own = run.volume.content_key() == run.support.volume.content_key()
    found = [r.confidence for r in run.results if r.structure.name == name and r.mask.any()]
    return own, fmean(found) if found else 0.0


def _report(runs: Sequence[OneShot], chosen: dict[str, int]) -> dict[str, Any]:
    reports = [run.report() for run in runs]
    by_name = [{one["name"]: one for one in report["structures"]} for report in reports]
    notes = [
        note
        for number, report in enumerate(reports)
        for note in report["notes"]
        # A note on a structure begins with its name; what another run said of it is void.
        if chosen.get(note.partition(": ")[0], number) == number
    ]
    return {
        **reports[0],
        "notes": list(dict.fromkeys(notes)),
        "seconds": round(sum(run.seconds for run in runs), 3),
        "structures": [
            {
                **by_name[number][name],
                "support": number + 1,
                "axis": runs[number].support.axis,
            }
            for name, number in chosen.items()
        ],
    }
