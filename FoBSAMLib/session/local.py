"""A session in this process: one image, its supports and its results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.generator.base import Generator
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.models.device import choose_device, devices, explain_device, is_out_of_memory
from FoBSAMLib.models.memory import give_memory_back
from FoBSAMLib.prompts import Prompts, check_prompts
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.segmenters.base import Segmenter
from FoBSAMLib.session.correct import Guide, correct
from FoBSAMLib.session.follow import Outcome, follow
from FoBSAMLib.session.foreign import ForeignSupport, follow_foreign
from FoBSAMLib.session.presence import Verdict
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.slices import ImageSlices
from FoBSAMLib.session.state import SessionState
from FoBSAMLib.session.suggest import suggest_slice
from FoBSAMLib.session.support import Support
from FoBSAMLib.session.warning import warn_of_volume

#: Features are kept for this many images: the query's and the support's.
IMAGES = 2


class LocalSession:
    """Finds structures drawn on a few slices in the others; models stay loaded between calls.

    Where memory runs out it goes on with less: one slice at a time, then on the CPU. ``notes``
    says so, and what is to be known of the weights, a sentence each, for the last `segment` or
    `correct`. ``device`` is where it computes.
    """

    #: Whether a structure is followed in two directions at once.
    threaded = True

    def __init__(
        self, generator: str = "fob-lite", segmenter: str = "compact", device: str = "auto"
    ) -> None:
        """Load the models. Raises ``FoBSAMError`` for unknown names and missing weights."""
        self._names = generator, segmenter
        self._wanted_device = device
        self._sparing = False
        self.notes: list[str] = []
        self._about_weights: list[str] = []
        self._state = SessionState()
        self._slices: dict[tuple[str, Axis], ImageSlices] = {}
        self._loaded: tuple[Generator, Segmenter] | None = None
        self._load(device)

    def __enter__(self) -> LocalSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def devices(self) -> list[dict[str, Any]]:
        """Where can be computed; see `FoBSAMLib.models.device.devices`."""
        return devices()

    def set_image(self, volume: Volume) -> str:
        """Choose the image to segment; returns its content key."""
        self._state.set_image(volume)
        self._prepare()
        return volume.content_key()

    def set_supports(self, support: Support) -> None:
        """Set the annotated slices, of the image itself or of another one."""
        self._state.set_supports(support)
        self._prepare()

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Callable[[], bool] = lambda: False,
        *,
        holding: bool = False,
    ) -> Iterator[SliceResult]:
        """Find the structures in the query slices; each result comes as soon as it is known.

        Args:
            structures: names of those to find; all for None.
            slices: query slices along the support's axis; all for None. Annotated slices are
                never queries.
            cancel: asked between slices; True ends the run, features are kept.
            holding: the structures are known to be in every wanted slice: none is judged empty
                for want of presence.

        Raises:
            FoBSAMError: no image or supports set, nothing to find (``bad_request``), or too
                little memory whatever was tried (``out_of_memory``).
        """
        image, support = self._state.chosen()
        wanted = self._state.query_slices(slices)
        chosen = self._state.structures(structures)
        self.notes = list(self._about_weights)
        found, stopped = self._state.found, False

        def stop() -> bool:  # also where image or supports became others in the meantime
            nonlocal stopped
            stopped = stopped or cancel() or self._state.found is not found
            return stopped

        for structure in chosen:
            confidences: list[float] = []
            run = partial(self._outcomes, image, support, structure, wanted, stop, holding)
            for result in self._results_of(structure, run):
                if stop():
                    return
                self._state.add(result)
                confidences += [result.confidence] if result.mask.any() else []
                yield result
            warning = warn_of_volume(structure.name, confidences)
            if warning and not stop():
                self.notes.append(warning)

    def correct(self, structure: str, index: int, prompts: Prompts) -> SliceResult:
        """The mask of one slice again, from its prompts as the user edited them.

        It starts from what was found automatically, not from earlier corrections: the same
        prompts always give the same mask, the original ones the original mask.

        Args:
            structure: its name.
            index: a slice for which there is a result.
            prompts: all points of the slice, float [n, 2] each, in its pixels; points outside
                the slice are left out. Where the mask is drawn from the generator's probability
                (``compact``), points added or moved act on the mask near them, and taking one
                away does nothing.

        Returns:
            The session's result for the slice from now on. The user has seen it: presence is 1.0,
            or 0.0 where the mask is empty, and confidence 1.0.

        Raises:
            FoBSAMError: no such structure, no result for the slice, points that are NaN or not
                [n, 2] (``bad_request``), or too little memory (``out_of_memory``).
        """
        image, support = self._state.chosen()
        chosen = self._state.structure(structure)
        original = self._state.original(chosen, index)
        given = check_prompts(prompts)
        self.notes = []

        def run() -> Iterator[Outcome]:
            slices = self._slices_of(image, support.axis)
            mask = correct(slices, index, original, given, self._guide(chosen, index))
            yield Outcome(index, mask, given, Verdict(float(mask.any()), 1.0))

        (result,) = self._results_of(chosen, run)
        self._state.corrected.add(result)
        return result

    def suggest(self, structure: str) -> int | None:
        """The slice to annotate next for a structure, after `segment`; None if none is left."""
        _, support = self._state.chosen()
        chosen = self._state.structure(structure)
        drawn = support.indices(chosen) if self._state.own else ()
        absent = support.absent.get(chosen.name, ()) if self._state.own else ()
        return suggest_slice(drawn, absent, self.results(structure))

    def results(self, structure: str) -> dict[int, SliceResult]:
        """The results of a structure by slice index, corrected where they were corrected."""
        return self._state.results(structure)

    def restore(self, results: Iterable[SliceResult]) -> None:
        """Take results found earlier, by a session that is gone, for this one's own.

        `correct` starts from them. Those of slices that are annotated by now are left out.
        Raises FoBSAMError (``bad_request``) for results that are not of this image and support;
        none is taken then.
        """
        self._state.restore(results)

    def release(self) -> None:
        """Give memory back: features and models go, image, supports and results stay.

        The next call that needs the models loads them again.
        """
        self._loaded = None
        self._sparing = False
        self._slices.clear()
        _give_memory_back()

    def close(self) -> None:
        """Release and forget image, supports and results."""
        self._state = SessionState(closed=True)
        self.release()

    @property
    def own(self) -> bool:
        """Whether the supports were drawn on the image itself."""
        return self._state.own

    def _load(self, device: str) -> tuple[Generator, Segmenter]:
        self.device = str(choose_device(device))
        generator = generators.create(self._names[0], device)
        segmenter = segmenters.create(self._names[1], device)
        self._loaded = generator, segmenter
        self._about_weights = list(getattr(generator, "notes", ()))
        #: What computes: names, weights' checksums, the precision of a large segmenter's encoder,
        #: the device and why it was chosen.
        self.models: dict[str, str] = {
            "generator": generator.name,
            "generator_sha256": generator.weights,
            "segmenter": segmenter.name,
            "segmenter_sha256": getattr(segmenter, "weights_sha256", ""),
            "segmenter_precision": getattr(segmenter, "precision", ""),
            "device": self.device,
            "device_reason": explain_device(device),
            "torch": torch.__version__,
        }
        return self._loaded

    def _prepare(self) -> None:
        """What needs neither drawing nor models is done before `segment` is called."""
        image, support = self._state.image, self._state.support
        if image is None or support is None:
            return
        for volume in (support.volume, image):
            self._slices_of(volume, support.axis)

    def _guide(self, structure: Structure, index: int) -> Guide:
        """The nearest slice that holds the structure, drawn or found automatically."""
        image, support = self._state.chosen()
        known = {n: r.mask for n, r in self._state.found.of(structure).items() if r.mask.any()}
        drawn = {n: support.mask(structure, n) for n in support.indices(structure)}
        if self._state.own:
            known |= drawn
        if not known:  # nothing in this image: as large as drawn in the other
            return Guide(_radius(next(iter(drawn.values())), support.volume, support.axis))
        nearest = min(known, key=lambda n: abs(n - index))
        mask = known[nearest]
        return Guide(_radius(mask, image, support.axis), nearest, mask)

    def _outcomes(
        self,
        image: Volume,
        support: Support,
        structure: Structure,
        wanted: range,
        cancel: Callable[[], bool],
        holding: bool,
    ) -> Iterator[Outcome]:
        annotated = {n: support.mask(structure, n) for n in support.indices(structure)}
        slices = self._slices_of(image, support.axis)
        if self._state.own:
            absent = set(support.absent.get(structure.name, ()))
            yield from follow(slices, annotated, absent, wanted, cancel, holding=holding)
            return
        other = self._slices_of(support.volume, support.axis)
        supports = [ForeignSupport(other, n, mask) for n, mask in annotated.items()]
        yield from follow_foreign(slices, supports, wanted, cancel, holding=holding)

    def _results_of(
        self, structure: Structure, run: Callable[[], Iterator[Outcome]]
    ) -> Iterator[SliceResult]:
        """What a run finds, each slice once; out of memory, it is run again with less."""
        _, support = self._state.chosen()
        done: set[int] = set()
        began = time.perf_counter()
        while True:
            try:
                for outcome in run():
                    if outcome.index in done:
                        continue
                    done.add(outcome.index)
                    yield SliceResult(
                        structure,
                        support.axis,
                        outcome.index,
                        outcome.mask,
                        outcome.prompts,
                        outcome.verdict.presence,
                        outcome.verdict.confidence,
                        1000 * (time.perf_counter() - began),
                        outcome.doubt,
                    )
                    began = time.perf_counter()
                return
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Not in the except clause: there the error still holds what filled the memory.
            self._spare_memory()

    def _spare_memory(self) -> None:
        """Take the next step to need less memory, and note it; raise where none is left."""
        self._slices.clear()
        if not self._sparing:
            self._sparing = True
            self.notes.append(f"Out of memory on {self.device}: went on with one slice at a time.")
            _give_memory_back()
        elif self.device != "cpu":
            self.notes.append(f"Out of memory on {self.device}: went on on the CPU.")
            self._loaded = None
            _give_memory_back()
            full = self.device
            self._load("cpu")
            self.models["device_reason"] = f"Memory ran out on {full}."
        else:
            _give_memory_back()
            raise FoBSAMError(
                "out_of_memory",
                "Not enough memory, even with one slice at a time on the CPU.",
                "Close other programs or give a smaller image.",
                retryable=True,
            )

    def _slices_of(self, volume: Volume, axis: Axis) -> ImageSlices:
        generator, segmenter = self._loaded or self._load(self._wanted_device)
        key = (volume.content_key(), axis)
        if key not in self._slices:
            while len(self._slices) >= IMAGES:
                self._slices.pop(next(iter(self._slices)))
            self._slices[key] = ImageSlices(
                volume,
                axis,
                generator,
                segmenter,
                sparing=self._sparing,
                # Apple's GPUs are not known to serve two threads at once.
                threaded=self.threaded and self.device != "mps",
            )
        # The image used last goes last: the support's features outlive many queries.
        self._slices[key] = self._slices.pop(key)
        return self._slices[key]


def _radius(mask: np.ndarray, volume: Volume, axis: Axis) -> float:
    """In mm, of a disc as large as the mask of a slice, bool [H, W]."""
    return math.sqrt(mask.sum() * math.prod(volume.slice_spacing(axis)) / math.pi)


def _give_memory_back() -> None:
    """Memory that nothing uses any more goes back to the device and the system."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    give_memory_back()
