"""A session whose models live in a worker: `LocalSession`'s methods, in another process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.base import Cancel
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker.conversation import Conversation, Steps
from FoBSAMLib.worker.transport import SubprocessTransport, Transport

T = TypeVar("T")


def finish(steps: Steps[T]) -> T:
    """Take steps to their end, waiting wherever they wait; returns their value."""
    with closing(steps):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                value: T = end.value
                return value


class WorkerSession:
    """Finds structures like `LocalSession`, through a worker; torch is not imported here.

    A worker that dies is started anew once a request, and told again what it needs to go on;
    then the request fails with ``worker_died``. Not for use by several threads at a time.
    """

    def __init__(
        self,
        generator: str = "fob-lite",
        segmenter: str = "compact",
        device: str = "auto",
        *,
        command: Sequence[str] | None = None,
        transport: Transport | None = None,
        patience: float = 30.0,
        start_patience: float = 120.0,
    ) -> None:
        """Start a worker and have it load the models.

        Args:
            generator, segmenter, device: by name, as for `LocalSession`.
            command: what starts the worker, as in ``["ssh", "host", "fobsam", "worker"]``; this
                Python's own for None.
            transport: instead of a command, another way to reach a worker.
            patience: seconds without any sign of life after which a worker is taken for dead.
            start_patience: the same until its models are loaded.

        Raises:
            FoBSAMError: unknown names, missing weights, ``worker_died``, ``version_mismatch``.
        """
        if command is not None and (isinstance(command, str) or not command):
            raise FoBSAMError(
                "bad_request",
                f"The worker's command is {command!r}.",
                "Give it as a list, as in ['ssh', 'host', 'fobsam', 'worker'].",
            )
        self._conversation = Conversation(
            (generator, segmenter, device),
            transport or SubprocessTransport(command),
            patience=patience,
            start_patience=start_patience,
        )
        finish(self._conversation.start())

    @property
    def models(self) -> dict[str, str]:
        """See `Session.models`."""
        return dict(self._conversation.worker["models"])

    @property
    def notes(self) -> list[str]:
        """See `Session.notes`."""
        return list(self._conversation.notes)

    @property
    def versions(self) -> dict[str, str]:
        """Of FoBSAM, Python and the libraries, where the worker runs."""
        return dict(self._conversation.worker["versions"])

    @property
    def log(self) -> str:
        """The end of what the worker has printed: its own words, tracebacks, and what libraries
        print."""
        return self._conversation.log

    @property
    def own(self) -> bool:
        """See `Session.own`."""
        return self._conversation.state.own

    def devices(self) -> list[dict[str, Any]]:
        """See `Session.devices`; as they were when the worker started."""
        return list(self._conversation.worker["devices"])

    def set_image(self, volume: Volume) -> str:
        """See `Session.set_image`. Voxels that the worker has are not sent again."""
        return finish(self._conversation.set_image(volume))

    def set_supports(self, support: Support) -> None:
        """See `Session.set_supports`."""
        finish(self._conversation.set_supports(support))

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
        *,
        holding: bool = False,
    ) -> Iterator[SliceResult]:
        """See `Session.segment`. Given up early, the worker stops too and stays warm."""
        run = self._conversation.segment(structures, slices, cancel, holding=holding)
        with closing(run) as steps:
            for result in steps:
                if result is not None:
                    yield result

    def correct(self, structure: str, index: int, prompts: Prompts) -> SliceResult:
        """See `Session.correct`."""
        return finish(self._conversation.correct(structure, index, prompts))

    def suggest(self, structure: str) -> int | None:
        """See `Session.suggest`."""
        return finish(self._conversation.suggest(structure))

    def results(self, structure: str) -> dict[int, SliceResult]:
        """See `Session.results`."""
        return self._conversation.state.results(structure)

    def restore(self, results: Iterable[SliceResult]) -> None:
        """See `Session.restore`."""
        finish(self._conversation.restore(results))

    def release(self) -> None:
        """See `Session.release`: the worker ends, the next call starts another one."""
        self._conversation.release()

    def close(self) -> None:
        """End the worker."""
        self._conversation.close()

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
