"""A session in this process: one image, its supports and its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.session.follow import Outcome, follow
from FoBSAMLib.session.foreign import ForeignSupport, follow_foreign
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
        self._results: dict[Structure, dict[int, SliceResult]] = {}

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
        count = image.slice_count(support.axis)
        wanted = slices if slices is not None else range(count)
        if not (len(wanted) and wanted[0] >= 0 and wanted[-1] < count and wanted.step == 1):
            raise FoBSAMError(
                "bad_request",
                f"There are no slices {wanted} along {support.axis}.",
                f"Slices run from 0 to {count - 1}, one by one.",
            )
        known = [structure.name for structure in support.structures]
        unknown = set(structures or ()) - set(known)
        if unknown:
            raise FoBSAMError(
                "bad_request",
                f"There is no structure {', '.join(sorted(unknown))} in the support.",
                f"It holds {', '.join(known)}.",
            )
        for structure in support.structures:
            if structures is not None and structure.name not in structures:
                continue
            began = time.perf_counter()
            for outcome in self._outcomes(image, support, structure, wanted, cancel):
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
                self._results.setdefault(structure, {})[outcome.index] = result
                yield result
                began = time.perf_counter()

    def suggest(self, structure: str) -> int | None:
        """The slice to annotate next for a structure, after `segment`; None if none is left."""
        image, support = self._chosen()
        (chosen,) = support.segmentation.select([structure])
        drawn = support.indices(chosen) if self.own else ()
        absent = support.absent.get(chosen.name, ()) if self.own else ()
        results = self._results.get(chosen, {})
        return suggest_slice(image.slice_count(support.axis), drawn, absent, results)

    def _chosen(self) -> tuple[Volume, Support]:
        if self._image is None or self._support is None:
            raise FoBSAMError(
                "bad_request",
                "There is no image or no support.",
                "Call set_image and set_supports.",
            )
        return self._image, self._support

    @property
    def own(self) -> bool:
        """Whether the supports were drawn on the image itself."""
        image, support = self._chosen()
        return image.content_key() == support.volume.content_key()

    def _outcomes(
        self,
        image: Volume,
        support: Support,
        structure: Structure,
        wanted: range,
        cancel: Callable[[], bool],
    ) -> Iterator[Outcome]:
        annotated = {n: support.mask(structure, n) for n in support.indices(structure)}
        slices = self._slices_of(image, support.axis)
        if self.own:
            absent = set(support.absent.get(structure.name, ()))
            yield from follow(slices, annotated, absent, wanted, cancel)
            return
        other = self._slices_of(support.volume, support.axis)
        supports = [ForeignSupport(other, n, mask) for n, mask in annotated.items()]
        yield from follow_foreign(slices, supports, wanted, cancel)

    def _slices_of(self, volume: Volume, axis: Axis) -> ImageSlices:
        key = (volume.content_key(), axis)
        if key not in self._slices:
            while len(self._slices) >= IMAGES:
                self._slices.pop(next(iter(self._slices)))
            self._slices[key] = ImageSlices(volume, axis, self.generator, self.segmenter)
        # The image used last goes last: the support's features outlive many queries.
        self._slices[key] = self._slices.pop(key)
        return self._slices[key]
