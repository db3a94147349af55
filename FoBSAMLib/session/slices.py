"""The slices of one image as a session uses them, each made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from FoBSAMLib.generator.base import Generator
from FoBSAMLib.image.grid import NetworkGrid
from FoBSAMLib.image.registration import displacement
from FoBSAMLib.image.volume import ARRAY_AXIS, Axis, Volume
from FoBSAMLib.image.windows import normalise
from FoBSAMLib.segmenters.base import Segmenter
from FoBSAMLib.session.kept import Kept

#: Slices kept at once, and where memory is short: features of 160 slices take 336 MB.
KEPT, KEPT_SPARING = 160, 8
#: Bytes of the segmenter's embeddings kept at once, and where memory is short. A slice of SAM, of
#: whichever encoder, takes 2 MB in bfloat16 and 4 in float32; of SAM 2.1 8 and 16. One is kept.
EMBEDDED, EMBEDDED_SPARING = 512 << 20, 32 << 20


class ImageSlices:
    """Normalised slices, their features, their segmenter's embeddings and the motion between
    neighbours, for one volume along one axis; shared by all structures, and by several threads.

    ``sparing``: with little memory, one slice is encoded at a time and few are kept. ``threaded``:
    several threads may use it at once, unless memory is short.
    """

    def __init__(
        self,
        volume: Volume,
        axis: Axis,
        generator: Generator,
        segmenter: Segmenter,
        *,
        sparing: bool = False,
        threaded: bool = True,
    ) -> None:
        self.volume = volume
        self.axis = axis
        self.count = volume.slice_count(axis)
        self.generator = generator
        self.segmenter = segmenter
        self._image = normalise(volume)
        first = self.image(0)
        self.grid = NetworkGrid(first.shape, volume.slice_spacing(axis))
        self.threaded = threaded and not sparing
        self._ahead = 1 if sparing else generator.ahead
        self._embed_ahead = 1 if sparing else segmenter.ahead
        most = KEPT_SPARING if sparing else KEPT
        self._networks: Kept[np.ndarray] = Kept(most)
        self._features: Kept[Any] = Kept(most)
        self._embeddings: Kept[Any] = Kept(most, EMBEDDED_SPARING if sparing else EMBEDDED)
        self._motions: Kept[np.ndarray] = Kept(most)

    def image(self, index: int) -> np.ndarray:
        """A normalised slice, float32 [H, W]."""
        return self._image.take(index, axis=ARRAY_AXIS[self.axis])

    def network(self, index: int) -> np.ndarray:
        """A normalised slice on the network's grid, float32 [256, 256]."""
        return self._networks.obtain(index, lambda: self.grid.image_to_network(self.image(index)))

    def features(self, index: int, direction: int = 1) -> Any:
        """The generator's features of a slice; where that is faster, it encodes the next ones of a
        direction with it."""

        def encode(wanted: Sequence[int]) -> list[Any]:
            return self.generator.encode(np.stack([self.network(n) for n in wanted]))

        return self._features.obtain_all(self._next(index, direction, self._ahead), encode)

    def embedding(self, index: int, direction: int = 0) -> Any:
        """What the segmenter keeps of a slice; on a way in a direction, where the segmenter is
        faster for it, the next slices are embedded with it."""

        def embed(wanted: Sequence[int]) -> list[Any]:
            return self.segmenter.embed_all([self._own(n) for n in wanted])

        together = self._embed_ahead if direction else 1
        return self._embeddings.obtain_all(self._next(index, direction, together), embed)

    def _next(self, index: int, direction: int, together: int) -> list[int]:
        """A slice and those after it, as far as there are any."""
        ahead = [index + direction * step for step in range(together)]
        return [n for n in ahead if 0 <= n < self.count]

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
