"""The main job in one call: an image and its support in, a segmentation out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.io import write_segmentation
from FoBSAMLib.image.segmentation import Segmentation
from FoBSAMLib.image.volume import ARRAY_AXIS, Volume
from FoBSAMLib.session.base import Session
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.version import __version__

#: Called after every slice with how many are done, how many there are, and the slice's result.
Progress = Callable[[int, int, SliceResult], None]


@dataclass(frozen=True)
class OneShot:
    """What `segment` found in ``volume`` from ``support``.

    ``segmentation`` holds the supports as drawn (where they are this volume's) and the results;
    ``models`` names the generator, the segmenter and their weights; ``notes`` say what the user
    should know, as that memory ran out; ``seconds`` is the whole run.
    """

    volume: Volume
    support: Support
    results: list[SliceResult]
    segmentation: Segmentation
    models: dict[str, str]
    notes: list[str]
    seconds: float

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the segmentation: ``.seg.nrrd``, ``.dcm`` (a DICOM segmentation of a volume that
        was read from DICOM) or any labelmap format, by the file's name."""
        self.support.check_writable_as(path)
        write_segmentation(
            path, self.segmentation, self.volume.name, source=self.volume, models=self.models
        )

    def report(self) -> dict[str, Any]:
        """The run as JSON-ready values: versions, models and every slice's figures."""
        return {
            "fobsam": __version__,
            "models": self.models,
            "notes": self.notes,
            "image": {
                "name": self.volume.name,
                "shape_kji": list(self.volume.shape),
                "spacing_ijk_mm": list(self.volume.spacing),
            },
            "axis": self.support.axis,
            "seconds": round(self.seconds, 3),
            "structures": [
                {
                    "name": structure.name,
                    "label": structure.label,
                    "support_slices": list(self.support.indices(structure)),
                    "absent_slices": list(self.support.absent.get(structure.name, ())),
                    "slices": [
                        _slice_report(result)
                        for result in sorted(self.results, key=lambda result: result.index)
                        if result.structure == structure
                    ],
                }
                for structure in self.support.structures
            ],
        }


def _slice_report(result: SliceResult) -> dict[str, Any]:
    return {
        "index": result.index,
        "presence": round(result.presence, 4),
        "confidence": round(result.confidence, 4),
        "pixels": int(result.mask.sum()),
        "background_xy": result.prompts.background.round(2).tolist(),
        "foreground_xy": result.prompts.foreground.round(2).tolist(),
        "milliseconds": round(result.milliseconds, 2),
    }


def segment(
    volume: Volume,
    support: Support,
    *,
    query: Volume | None = None,
    slices: range | None = None,
    generator: str = "fob-lite",
    segmenter: str = "compact",
    device: str = "auto",
    progress: Progress | None = None,
    session: Session | None = None,
) -> OneShot:
    """Find the support's structures in all other slices of a volume, or in another volume.

    Args:
        volume: the image the support was drawn on.
        query: the image to segment, if it is another one.
        slices: query slices along the support's axis; all for None.
        generator, segmenter: by name, see their registries.
        device: "auto", "cpu", "cuda" or "mps".
        progress: called after every slice.
        session: one with its models loaded, here or in a worker, instead of the three names.

    Raises:
        FoBSAMError: unknown names, missing weights, nothing to find.
    """
    began = time.perf_counter()
    session = session or _local(generator, segmenter, device)
    target = query if query is not None else volume
    session.set_image(target)
    session.set_supports(support)
    own = session.own
    total = _count_queries(target, support, slices, own=own)
    results = []
    for result in session.segment(slices=slices):
        results.append(result)
        if progress:
            progress(len(results), total, result)
    segmentation = _assemble(target, support, results, own=own)
    return OneShot(
        target,
        support,
        results,
        segmentation,
        session.models,
        session.notes,
        time.perf_counter() - began,
    )


def _local(generator: str, segmenter: str, device: str) -> Session:
    # torch comes with this one; a worker's session does without.
    from FoBSAMLib.session.local import LocalSession

    return LocalSession(generator, segmenter, device)


def _count_queries(volume: Volume, support: Support, slices: range | None, *, own: bool) -> int:
    wanted = slices if slices is not None else range(volume.slice_count(support.axis))
    total = support.count_queries(wanted, own=own)
    if not total:
        raise FoBSAMError(
            "bad_request",
            "Every slice asked for is annotated: nothing is left to find.",
            "Ask for other slices (--slices), or other images (--query).",
        )
    return total


def _assemble(
    volume: Volume, support: Support, results: list[SliceResult], *, own: bool
) -> Segmentation:
    """Supports as drawn and results together, on the volume's grid.

    Where structures do not overlap as drawn, neither do they here: what is drawn stays, and of
    two results the surer one has the pixel.
    """
    shape = volume.shape
    drawn = {
        structure: support.whole(structure) if own else np.zeros(shape, bool)
        for structure in support.structures
    }
    taken = np.any(list(drawn.values()), axis=0)
    exclusive = not (own and support.overlap())
    whole = {structure: mask.copy() for structure, mask in drawn.items()}
    along = {
        structure: np.moveaxis(mask, ARRAY_AXIS[support.axis], 0)
        for structure, mask in whole.items()
    }
    free = np.moveaxis(~taken, ARRAY_AXIS[support.axis], 0)
    for result in sorted(results, key=lambda result: -result.confidence):
        mask = result.mask
        if exclusive:
            mask = mask & free[result.index]
            free[result.index] &= ~mask
        along[result.structure][result.index] |= mask
    header = support.header if own else None
    return Segmentation.from_masks(volume.ijk_to_ras, list(whole.items()), header)
