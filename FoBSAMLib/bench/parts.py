"""Where the time of a session goes, measured from outside."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from FoBSAMLib.session import chain, follow, slices
from FoBSAMLib.session.local import LocalSession


class Parts:
    """Seconds within each part, less those within parts that it calls, and numbers of calls.

    Of several threads the seconds add up, waiting included.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def watching(self, session: LocalSession) -> Iterator[None]:
        """Within it, what a session computes is measured."""
        generator, segmenter = session._loaded or session._load(session.device)
        watched: list[tuple[Any, str, str]] = [
            (slices.ImageSlices, "network", "resample"),
            (generator, "encode", "encode"),
            (generator, "propose", "prompts"),
            (generator, "carry", "way back"),
            (segmenter, "embed_all", "segment"),
            (segmenter, "segment", "segment"),
            (slices, "displacement", "registration"),
            (chain.Chain, "_moved", "watch"),
            (chain.Chain, "step", "chain"),
            (follow, "clean", "clean-up"),
        ]
        with ExitStack() as stack:
            for owner, name, part in watched:
                timed = self._timed(getattr(owner, name), part)
                stack.enter_context(mock.patch.object(owner, name, timed))
            yield

    def _timed(self, work: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*given: Any, **named: Any) -> Any:
            outer, self._here.within = getattr(self._here, "within", 0.0), 0.0
            began = time.perf_counter()
            try:
                return work(*given, **named)
            finally:
                taken = time.perf_counter() - began
                with self._lock:
                    self.seconds[part] += taken - self._here.within
                    self.calls[part] += 1
                self._here.within = outer + taken

        return timed
