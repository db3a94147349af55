"""``fobsam worker``: a session on this process's standard input and output."""

from __future__ import annotations

from typing import NoReturn

from FoBSAMLib.session.base import Session
from FoBSAMLib.worker.server import serve_standard_streams


def run(idle: float) -> NoReturn:
    """Serve until the client is gone."""
    serve_standard_streams(_create, idle)


def _create(generator: str, segmenter: str, device: str) -> Session:
    # torch comes with it: the greeting has left by now.
    from FoBSAMLib.models.device import divide_cores
    from FoBSAMLib.session.local import LocalSession

    divide_cores()
    return LocalSession(generator, segmenter, device)
