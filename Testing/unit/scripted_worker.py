"""A worker without torch: the real server over a session that only copies what was drawn.

Run as a program it takes the seconds a slice costs, and starts in a tenth of the time of a real
worker: hundreds of them can be killed in a test.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import numpy as np

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.base import Cancel
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.server import serve_standard_streams


class ScriptedSession:
    """Finds in every slice what was drawn in the first annotated one; forgets nothing."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.models = {"generator": "scripted", "segmenter": "copy", "device": "none"}
        self.notes: list[str] = []
        self._found: dict[Structure, dict[int, SliceResult]] = {}
        self._image: Volume | None = None
        self._support: Support | None = None

    @property
    def own(self) -> bool:
        if self._image is None or self._support is None:
            raise FoBSAMError("bad_request", "There is no image or no support.")
        return True

    def devices(self) -> list[dict[str, Any]]:
        return [{"name": "none"}]

    def set_image(self, volume: Volume) -> str:
        self._image, self._found = volume, {}
        return volume.content_key()

    def set_supports(self, support: Support) -> None:
        self._support, self._found = support, {}

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
        *,
        holding: bool = False,
    ) -> Iterator[SliceResult]:
        print("looking for", structures)  # a library that prints
        image, support = self._image, self._support
        assert image is not None
        assert support is not None
        chosen = [s for s in support.structures if structures is None or s.name in structures]
        for structure in chosen:
            drawn = support.indices(structure)
            mask = support.mask(structure, drawn[0])
            for index in slices or range(image.slice_count(support.axis)):
                if index in drawn:
                    continue
                time.sleep(self.seconds)
                if cancel():
                    return
                prompts = Prompts(foreground=np.array([[index, 1]], np.float32))
                result = SliceResult(structure, support.axis, index, mask, prompts, 1.0, 0.5, 1.0)
                self._found.setdefault(structure, {})[index] = result
                yield result

    def correct(self, structure: str, index: int, prompts: Prompts) -> SliceResult:
        (known,) = [s for s in self._found if s.name == structure]
        before = self._found[known][index]
        return SliceResult(known, before.axis, index, ~before.mask, prompts, 1.0, 1.0, 1.0)

    def suggest(self, structure: str) -> int | None:
        return max((n for found in self._found.values() for n in found), default=None)

    def results(self, structure: str) -> dict[int, SliceResult]:
        return {}

    def restore(self, results: Iterable[SliceResult]) -> None:
        for result in results:
            self._found.setdefault(result.structure, {})[result.index] = result

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> ScriptedSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


if __name__ == "__main__":
    pause = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    serve_standard_streams(lambda *names: ScriptedSession(pause), idle=600.0)
