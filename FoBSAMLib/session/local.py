"""A session in this process: one image, its supports and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.session.follow import Outcome, follow
from FoBSAMLib.session.foreign import ForeignSupport, find_anchor
from FoBSAMLib.session.presence import Verdict
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.slices import ImageSlices
from FoBSAMLib.session.suggest import suggest_slice
from FoBSAMLib.session.support import Support

#: Features are kept for this many images: the query's and the support's.
IMAGES = 2


class LocalSession:
    """Finds structures drawn on a few slices in the others; models stay loaded between calls."""

    def __init__(
        self, generator: str = "fob-lite", segmenter: str = "compact", device: str = "auto"
    ) -> None:
        """Load the models. Raises ``FoBSAMError`` for unknown names and missing weights."""
        self.device = str(choose_device(device))
        self.generator = generators.create(generator, device)
        self.segmenter = segmenters.create(segmenter, device)
        self._image: Volume | None = None
        self._support: Support | None = None
        self._slices: dict[tuple[str, Axis], ImageSlices] = {}
        self._results: dict[str, dict[int, SliceResult]] = {}

    @property
    def models(self) -> dict[str, str]:
        """What computes: names, weights' checksums and device."""
        return {
            "generator": self.generator.name,
            "generator_sha256": self.generator.weights,
            "segmenter": self.segmenter.name,
            "segmenter_sha256": getattr(self.segmenter, "weights_sha256", ""),
            "device": self.device,
            "torch": torch.__version__,
        }

    def set_image(self, volume: Volume) -> str:
        """Choose the image to segment; returns its content key."""
        self._image = volume
        self._results = {}
        return volume.content_key()

    def set_supports(self, support: Support) -> None:
        """Set the annotated slices, of the image itself or of another one."""
        self._support = support
        self._results = {}

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Callable[[], bool] = lambda: False,
    ) -> Iterator[SliceResult]:
        """Find the structures in the query slices; each result comes as soon as it is known.

        Args:
            structures: names of those to find; all for None.
            slices: query slices along the support's axis; all for None. Annotated slices are
                never queries.
            cancel: asked between slices; True ends the run, features are kept.

        Raises:
            FoBSAMError: no image or supports set, or nothing to find.
        """
        image, support = self._chosen()
        wanted = slices if slices is not None else range(image.slice_count(support.axis))
        for structure in support.structures:
            if structures is not None and structure.name not in structures:
                continue
            began = time.perf_counter()
            for outcome in self._outcomes(image, support, structure, wanted):
                if cancel():
                    return
                now = time.perf_counter()
                result = SliceResult(
                    structure,
                    support.axis,
                    outcome.index,
                    outcome.mask,
                    outcome.prompts,
                    outcome.verdict.presence,
                    outcome.verdict.confidence,
                    1000 * (now - began),
                )
                self._results.setdefault(structure.name, {})[outcome.index] = result
                yield result
                began = time.perf_counter()

    def suggest(self, structure: str) -> int | None:
        """The slice to annotate next for a structure, after `segment`; None if none is left."""
        image, support = self._chosen()
        (chosen,) = support.segmentation.select([structure])
        drawn = support.indices(chosen) if self._is_own(image, support) else ()
        return suggest_slice(
            image.slice_count(support.axis),
            drawn,
            support.absent.get(chosen.name, ()),
            self._results.get(chosen.name, {}),
        )

    def _chosen(self) -> tuple[Volume, Support]:
        if self._image is None or self._support is None:
            raise FoBSAMError(
                "bad_request",
                "There is no image or no support.",
                "Call set_image and set_supports.",
            )
        return self._image, self._support

    def _is_own(self, image: Volume, support: Support) -> bool:
        return image is support.volume or image.content_key() == support.volume.content_key()

    def _outcomes(
        self, image: Volume, support: Support, structure: Structure, wanted: range
    ) -> Iterator[Outcome]:
        annotated = {n: support.mask(structure, n) for n in support.indices(structure)}
        own = self._slices_of(image, support.axis)
        if self._is_own(image, support):
            absent = set(support.absent.get(structure.name, ()))
            yield from follow(own, annotated, absent, wanted)
            return
        other = self._slices_of(support.volume, support.axis)
        supports = [ForeignSupport(other, n, mask) for n, mask in annotated.items()]
        anchor = find_anchor(own, supports, wanted)
        if anchor is None:
            empty = np.zeros(own.image(0).shape, bool)
            yield from (Outcome(n, empty, Prompts(), Verdict(0.0, 0.5)) for n in wanted)
            return
        verdict = Verdict(anchor.score, anchor.score)
        yield Outcome(anchor.at, anchor.mask, anchor.prompts, verdict)
        for outcome in follow(own, {anchor.at: anchor.mask}, set(), wanted):
            # No slice is surer than the anchor from which it was reached.
            presence, confidence = outcome.verdict
            confidence = min(confidence, anchor.score) if outcome.mask.any() else confidence
            yield replace(outcome, verdict=Verdict(presence, confidence))

    def _slices_of(self, volume: Volume, axis: Axis) -> ImageSlices:
        key = (volume.content_key(), axis)
        if key not in self._slices:
            while len(self._slices) >= IMAGES:
                self._slices.pop(next(iter(self._slices)))
            self._slices[key] = ImageSlices(volume, axis, self.generator, self.segmenter)
        return self._slices[key]
