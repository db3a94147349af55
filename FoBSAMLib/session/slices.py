"""The slices of one image as a session uses them, each made once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from FoBSAMLib.generator.base import Generator
from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.registration import displacement
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.segmenters.base import Segmenter

#: Slices kept at once, and where memory is short: features of 160 slices take 336 MB.
KEPT, KEPT_SPARING = 160, 8
#: Bytes of the segmenter's embeddings kept at once, and where memory is short. A slice of SAM, of
#: whichever encoder, takes 2 MB in bfloat16 and 4 in float32; of SAM 2.1 8 and 16. One is kept.
EMBEDDED, EMBEDDED_SPARING = 512 << 20, 32 << 20
#: Slices encoded together. Measured on one and two threads: two take the least time a slice, 15 ms
#: on two threads, where one alone takes 18 ms and four together 22 ms each.
AHEAD = 2

T = TypeVar("T")


class _Kept(OrderedDict[Any, Any]):
    """The values used last, up to a number and, of values that have ``nbytes``, to a size."""

    def __init__(self, most: int, most_bytes: int | None = None) -> None:
        super().__init__()
        self._most = most
        self._most_bytes = most_bytes

    def obtain(self, key: Any, make: Callable[[], T]) -> T:
        value = self[key] if key in self else make()
        self.keep(key, value)
        return value

    def keep(self, key: Any, value: Any) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > 1 and (len(self) > self._most or self._too_large()):
            self.popitem(last=False)

    def _too_large(self) -> bool:
        if self._most_bytes is None:
            return False
        return sum(value.nbytes for value in self.values()) > self._most_bytes


class ImageSlices:
    """Normalised slices, their features, their segmenter's embeddings and the motion between
    neighbours, for one volume along one axis; shared by all structures.

    ``sparing``: with little memory, one slice is encoded at a time and few are kept.
    """

    def __init__(
        self,
        volume: Volume,
        axis: Axis,
        generator: Generator,
        segmenter: Segmenter,
        *,
        sparing: bool = False,
    ) -> None:
        self.volume = volume
        self.axis = axis
        self.count = volume.slice_count(axis)
        self.generator = generator
        self.segmenter = segmenter
        self._image = normalise(volume)
        first = self.image(0)
        self.grid = NetworkGrid(first.shape, volume.slice_spacing(axis))
        self._ahead = 1 if sparing else AHEAD
        most = KEPT_SPARING if sparing else KEPT
        self._networks = _Kept(most)
        self._features = _Kept(most)
        self._embeddings = _Kept(most, EMBEDDED_SPARING if sparing else EMBEDDED)
        self._embed_ahead = 1 if sparing else segmenter.ahead
        self._motions = _Kept(most)

    def image(self, index: int) -> np.ndarray:
        """A normalised slice, float32 [H, W]."""
        return self._image.take(index, axis=ARRAY_AXIS[self.axis])

    def network(self, index: int) -> np.ndarray:
        """A normalised slice on the network's grid, float32 [256, 256]."""
        return self._networks.obtain(index, lambda: self.grid.image_to_network(self.image(index)))

    def features(self, index: int, direction: int = 1) -> Any:
        """The generator's features of a slice; encodes the next ones of a direction with it."""
        if index not in self._features:
            ahead = [index + direction * step for step in range(self._ahead)]
            wanted = [n for n in ahead if 0 <= n < self.count and n not in self._features]
            encoded = self.generator.encode(np.stack([self.network(n) for n in wanted]))
            for n, features in zip(wanted, encoded, strict=True):
                self._features.keep(n, features)
        return self._features.obtain(index, lambda: None)

    def embedding(self, index: int, direction: int = 0) -> Any:
        """What the segmenter keeps of a slice; on a way in a direction, where the segmenter is
        faster for it, the next slices are embedded with it."""
        if index not in self._embeddings and direction and self._embed_ahead > 1:
            ahead = [index + direction * step for step in range(self._embed_ahead)]
            wanted = [n for n in ahead if 0 <= n < self.count and n not in self._embeddings]
            embedded = self.segmenter.embed_all([self._own(n) for n in wanted])
            # The slice at hand last, so that it stays whatever the others take.
            for n, embedding in reversed(list(zip(wanted, embedded, strict=True))):
                self._embeddings.keep(n, embedding)
        return self._embeddings.obtain(index, lambda: self.segmenter.embed(self._own(index)))

    def _own(self, index: int) -> np.ndarray:
        """A slice in its full resolution: [H, W] normalised, or the colours of a photograph."""
        if self.volume.array.ndim == 4:
            return self.volume.take(self.axis, index)
        return self.image(index)

    def motion(self, index: int, source: int) -> np.ndarray:
        """The deformation from a slice to the neighbour from which masks are carried to it."""
        return self._motions.obtain(
            (index, source), lambda: displacement(self.network(index), self.network(source))
        )
