"""The tool as the evaluation runs it: sessions that share models, and what they find."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.evaluation.settings import Pair, Settings
from FoBSAMLib.generator import registry as generators
from FoBSAMLib.generator.base import Generator
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.models.device import choose_device
from FoBSAMLib.segmenters import registry as segmenters
from FoBSAMLib.segmenters.base import Segmenter
from FoBSAMLib.session.local import LocalSession
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.slices import ImageSlices
from FoBSAMLib.session.support import Support

#: Organs by the groups of Setting II, whose slices are left out of training together.
GROUPS = {
    "liver": "upper",
    "spleen": "upper",
    "right kidney": "lower",
    "left kidney": "lower",
}


class Found(NamedTuple):
    """What the tool found: masks bool [K, J, I], its results, and the seconds it took."""

    masks: np.ndarray
    results: list[SliceResult]
    seconds: float

    @property
    def holding(self) -> set[int]:
        """The slices that have a mask: where, in the tool's answer, the structure is."""
        return set(np.flatnonzero(self.masks.any(axis=(1, 2))).tolist())


class Tools:
    """The sessions of one stretch of work; each model is loaded once.

    Where several sessions share a model, each slice is encoded once for all of them; their seconds
    count as if each had done it alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[tuple[str, str, str], Any] = {}
        self._sessions: dict[Pair, ToolSession] = {}

    def session(self, pair: Pair, fold: str | None, organ: str) -> ToolSession:
        """The session of a pair, with the weights for a fold and an organ."""
        key = Pair(resolve(pair.generator, fold, organ), pair.segmenter)
        if key not in self._sessions:
            self._sessions[key] = ToolSession(self, key, self._settings.device)
        return self._sessions[key]

    def generator(self, name: str, device: str) -> Any:
        """A generator by its name in the registry."""
        key = ("generator", name, device)
        if key not in self._models:
            made = generators.create(name, device)
            shared = len(self._settings.segmenters) > 1
            self._models[key] = _SharedGenerator(made) if shared else made
        return self._models[key]

    def segmenter(self, name: str, device: str) -> Any:
        """A segmenter by its name in the registry."""
        key = ("segmenter", name, device)
        if key not in self._models:
            made = segmenters.create(name, device)
            shared = len(self._settings.generators) > 1
            self._models[key] = _SharedSegmenter(made) if shared else made
        return self._models[key]

    def forget(self) -> None:
        """Give back what is kept of images; models stay."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()
        for model in self._models.values():
            if isinstance(model, _Shared):
                model.kept.clear()


class ToolSession(LocalSession):
    """A session whose models belong to `Tools`. It has one thread, as the other methods have, so
    that its seconds can be compared with theirs."""

    threaded = False

    def __init__(self, tools: Tools, pair: Pair, device: str) -> None:
        self._tools = tools
        self.preparing = 0.0
        super().__init__(pair.generator, pair.segmenter, device)

    def _load(self, device: str) -> tuple[Generator, Segmenter]:
        self.device = str(choose_device(device))
        names = self._names
        self._loaded = (
            self._tools.generator(names[0], device),
            self._tools.segmenter(names[1], device),
        )
        return self._loaded

    def look_at(self, volume: Volume) -> None:
        """Choose the image, unless it is the chosen one; ``preparing`` are the seconds it took."""
        if self._state.image is not volume:
            started = time.perf_counter()
            self.set_image(volume)
            self.preparing = time.perf_counter() - started

    def slices(self, volume: Volume) -> ImageSlices:
        """The slices of a volume along k, with what the models keep of them."""
        return self._slices_of(volume, "k")

    @property
    def spared(self) -> float:
        """Seconds of encoding that other sessions have spared this one so far."""
        models = self._loaded or ()
        return sum(model.spared for model in models if isinstance(model, _Shared))

    def find(
        self,
        annotated_volume: Volume,
        organ: str,
        annotated: Mapping[int, np.ndarray],
        query: Volume,
        within: range | None = None,
    ) -> Found:
        """Find an organ in the image, ``query``, from its annotated slices.

        ``annotated`` maps slices of ``annotated_volume`` to bool [J, I] masks, empty for "absent".
        ``within``: only these slices, every one of which is known to hold the organ.
        """
        drawn = np.zeros(annotated_volume.shape, bool)
        for index, mask in annotated.items():
            drawn[index] = mask
        absent = tuple(index for index, mask in annotated.items() if not mask.any())
        masks = drawn if query is annotated_volume else np.zeros(query.shape, bool)
        started, spared = time.perf_counter(), self.spared
        self.set_supports(
            Support.from_masks(annotated_volume, {organ: drawn}, axis="k", absent={organ: absent})
        )
        results = list(self.segment(slices=within, holding=within is not None))
        for result in results:
            masks[result.index] = result.mask
        seconds = time.perf_counter() - started + self.spared - spared
        return Found(masks, results, seconds)


def resolve(generator: str, fold: str | None, organ: str) -> str:
    """The name of a generator with ``{fold}``, ``{cv}`` (the fold from 0 on, as in the names of
    released weights) and ``{group}`` filled in.

    Raises `FoBSAMError` (bad_request) where there is no fold.
    """
    if fold is None and ("{fold}" in generator or "{cv}" in generator):
        raise FoBSAMError(
            "bad_request",
            f"The weights {generator} are of a fold, and no fold is evaluated.",
            "Choose folds (--fold), or name one weights file.",
        )
    group = GROUPS.get(organ, organ.replace(" ", "-"))
    values = {"{fold}": str(fold), "{cv}": str(int(fold or 1) - 1), "{group}": group}
    for key, value in values.items():
        generator = generator.replace(key, value)
    return generator


class _Shared:
    """A model that several sessions use; ``spared`` are the seconds that remembering has saved."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.kept: dict[bytes, tuple[Any, float]] = {}
        self.spared = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _recall(
        self, images: Sequence[np.ndarray], make: Callable[[list[np.ndarray]], list[Any]]
    ) -> list[Any]:
        """What ``make`` gives for each image, made anew for those not seen before."""
        keys = [hashlib.blake2b(image.tobytes()).digest() for image in images]
        new = {key: one for key, one in zip(keys, images, strict=True) if key not in self.kept}
        self.spared += sum(self.kept[key][1] for key in keys if key in self.kept)
        if new:
            started = time.perf_counter()
            made = make(list(new.values()))
            each = (time.perf_counter() - started) / len(made)
            self.kept.update((key, (one, each)) for key, one in zip(new, made, strict=True))
        return [self.kept[key][0] for key in keys]


class _SharedGenerator(_Shared):
    def encode(self, slices: np.ndarray) -> list[Any]:
        """See `Generator.encode`."""
        return self._recall(list(slices), lambda new: self.inner.encode(np.stack(new)))


class _SharedSegmenter(_Shared):
    def embed(self, image: np.ndarray) -> Any:
        """See `Segmenter.embed`."""
        return self._recall([image], lambda new: [self.inner.embed(one) for one in new])[0]

    def embed_all(self, images: list[np.ndarray]) -> list[Any]:
        """See `Segmenter.embed_all`."""
        return self._recall(images, self.inner.embed_all)
