"""A worker that fails as it is told to: ``python failing_worker.py die|memory|weights [SLICES]``.

It is the one of ``scripted_worker.py`` up to so many slices.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from scripted_worker import ScriptedSession

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.session.base import Cancel
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.worker.server import serve_standard_streams


class FailingSession(ScriptedSession):
    """Fails in its own way after some slices."""

    def __init__(self, how: str, count: int) -> None:
        super().__init__()
        self.how, self.count = how, count
        if how == "weights":
            raise FoBSAMError("weights_missing", "The weights are missing.", "Get them.")

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
        *,
        holding: bool = False,
    ) -> Iterator[SliceResult]:
        for number, result in enumerate(super().segment(structures, slices, cancel)):
            if number == self.count:
                if self.how == "die":
                    os._exit(3)
                raise MemoryError
            yield result


if __name__ == "__main__":
    failure, after = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    serve_standard_streams(lambda *names: FailingSession(failure, after), idle=600.0)
