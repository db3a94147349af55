"""A session whose models live in a worker: `LocalSession`'s methods, in another process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, TypeVar

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts, check_prompts
from FoBSAMLib.session.base import Cancel
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.state import SessionState
from FoBSAMLib.session.support import Support
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker import payloads
from FoBSAMLib.worker.client import Client, WorkerDiedError
from FoBSAMLib.worker.transport import SubprocessTransport, Transport

T = TypeVar("T")


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
        self._chosen = (generator, segmenter, device)
        self._transport = transport or SubprocessTransport(command)
        self._patience = (patience, start_patience)
        self._client: Client | None = None
        self._state = SessionState()
        self._held: frozenset[str] = frozenset()
        self._running: set[int] = set()
        self._worker: dict[str, Any] = {}
        self._notes: list[str] = []
        self._run(lambda client: None)

    @property
    def models(self) -> dict[str, str]:
        """See `Session.models`."""
        return dict(self._worker["models"])

    @property
    def notes(self) -> list[str]:
        """See `Session.notes`."""
        return list(self._notes)

    @property
    def versions(self) -> dict[str, str]:
        """Of FoBSAM, Python and the libraries, where the worker runs."""
        return dict(self._worker["versions"])

    @property
    def log(self) -> str:
        """The end of what the worker has printed: its own words, tracebacks, and what libraries
        print."""
        return self._transport.log()

    @property
    def own(self) -> bool:
        """See `Session.own`."""
        return self._state.own

    def devices(self) -> list[dict[str, Any]]:
        """See `Session.devices`; as they were when the worker started."""
        return list(self._worker["devices"])

    def set_image(self, volume: Volume) -> str:
        """See `Session.set_image`. Voxels that the worker has are not sent again."""
        self._state.set_image(volume)
        self._stop_running()
        try:
            self._run(lambda client: self._send_image(client, volume, select=True))
        except BaseException:
            # The worker may hold another one: it is told anew, and nothing that was refused.
            self._state.set_image(None)
            self.release()
            raise
        return volume.content_key()

    def set_supports(self, support: Support) -> None:
        """See `Session.set_supports`."""
        self._state.set_supports(support)
        self._stop_running()
        try:
            self._run(lambda client: self._send_support(client, support))
        except BaseException:
            self._state.set_supports(None)
            self.release()
            raise

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
    ) -> Iterator[SliceResult]:
        """See `Session.segment`. Given up early, the worker stops too and stays warm."""
        names = [structure.name for structure in self._state.structures(structures)]
        wanted = self._state.query_slices(slices)
        self._notes = []
        seen: set[tuple[Structure, int]] = set()
        found = self._state.found
        for last in (False, True):
            try:
                with closing(self._stream(self._connect(), names, wanted, cancel)) as results:
                    for result in results:
                        # What came before a worker died is not given again by the next one.
                        if (result.structure, result.index) not in seen:
                            seen.add((result.structure, result.index))
                            self._state.add(result)
                            yield result
                        if self._state.found is not found:
                            return  # another image, or other supports
                if last:  # the next worker has found again what is corrected here
                    self._run(self._send_corrections)
                return
            except WorkerDiedError as death:
                self._bury(death, last)

    def correct(self, structure: str, index: int, prompts: Prompts) -> SliceResult:
        """See `Session.correct`."""
        self._state.original(self._state.structure(structure), index)
        given = check_prompts(prompts)
        self._notes = []
        result = self._run(lambda client: self._correct(client, structure, index, given))
        self._state.corrected.add(result)
        return result

    def suggest(self, structure: str) -> int | None:
        """See `Session.suggest`."""
        self._state.structure(structure)
        values = self._run(lambda client: client.ask(m.Suggest(client.number(), structure)))
        found: int | None = values["slice"]
        return found

    def results(self, structure: str) -> dict[int, SliceResult]:
        """See `Session.results`."""
        return self._state.results(structure)

    def restore(self, results: Iterable[SliceResult]) -> None:
        """See `Session.restore`."""
        taken = self._state.restore(results)
        self._run(lambda client: self._send_results(client, taken))

    def release(self) -> None:
        """See `Session.release`: the worker ends, the next call starts another one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End the worker."""
        self.release()
        self._state = SessionState(closed=True)

    def __enter__(self) -> WorkerSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Callable[[Client], T]) -> T:
        """Do something with the worker, at most twice."""
        for last in (False, True):
            try:
                return work(self._connect())
            except WorkerDiedError as death:
                self._bury(death, last)
        raise AssertionError("burying the second worker raises")

    def _stop_running(self) -> None:
        """Runs for an image or supports that are no more must not be waited for."""
        if self._client is not None:
            for request in self._running:
                self._client.cancel(request)

    def _bury(self, death: WorkerDiedError, last: bool) -> None:
        """Forget a dead worker; raises FoBSAMError where another one is not to be tried."""
        self.release()
        if last or not death.greeted:
            raise death.to_error() from death
        self._notes.append(f"The worker {death.how}; another one went on.")

    def _connect(self) -> Client:
        """The worker, started and told what this session holds where it was not."""
        if self._client is None:
            client = Client(self._transport, *self._patience)
            try:
                self._worker = client.hello(*self._chosen)
                self._held = frozenset()
                self._tell(client)
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    def _tell(self, client: Client) -> None:
        """What an earlier worker knew; corrections are made again, from what was found."""
        if self._state.image is not None:
            self._send_image(client, self._state.image, select=True)
        if self._state.support is not None:
            self._send_support(client, self._state.support)
        self._send_results(client, self._state.found.all())
        self._send_corrections(client)

    def _send_image(self, client: Client, volume: Volume, *, select: bool) -> None:
        # Where the worker holds none, the key need not be known before.
        key = volume.content_key() if self._held else ""
        message = payloads.image_message(client.number(), volume, key, select=select)
        if key in self._held:
            client.send(message)
        else:
            client.send_pieces(message.id, payloads.image_pieces(message, volume))
        self._held = frozenset(client.wait(message.id)["held"])

    def _send_support(self, client: Client, support: Support) -> None:
        if support.volume.content_key() not in self._held:
            self._send_image(client, support.volume, select=False)
        client.ask(*payloads.support_message(client.number(), support))

    def _send_results(self, client: Client, results: Iterable[SliceResult]) -> None:
        sent = []
        for result in results:
            message, payload = payloads.result_message(
                m.Restore, client.number(), result, self._state.structures()
            )
            client.send(message, payload)
            sent.append(message.id)
        for request in sent:  # not one by one: that takes a round trip each
            client.wait(request)

    def _send_corrections(self, client: Client) -> None:
        for result in self._state.corrected.all():
            self._correct(client, result.structure.name, result.index, result.prompts)

    def _correct(self, client: Client, structure: str, index: int, prompts: Prompts) -> SliceResult:
        points = map(payloads.points_to_json, (prompts.background, prompts.foreground))
        message = m.Correct(client.number(), structure, int(index), *points)
        client.send(message)
        (result,) = self._results_of(client.replies(message.id))
        return result

    def _stream(
        self,
        client: Client,
        structures: list[str],
        slices: range,
        cancel: Cancel,
    ) -> Generator[SliceResult]:
        message = m.Segment(
            client.number(),
            tuple(structures),
            (slices.start, slices.stop, slices.step),
        )
        client.send(message)
        self._running.add(message.id)
        stopped = False

        def watch(replies: Iterator[m.Received | None]) -> Iterator[m.Received | None]:
            nonlocal stopped
            for received in replies:
                yield received
                if self._client is not client:
                    # While the caller had the last result, another call met a dead worker.
                    raise WorkerDiedError("was replaced", "", greeted=True)
                if not stopped and cancel():
                    stopped = True
                    client.cancel(message.id)

        try:
            yield from self._results_of(watch(client.replies(message.id)))
        except WorkerDiedError:
            raise
        except FoBSAMError as error:
            if not (stopped and error.code == "cancelled"):  # before it began
                raise
        except BaseException:
            # Given up, interrupted, or ``cancel`` itself failed: nobody waits for the rest.
            if self._client is client:
                client.cancel(message.id)
            raise
        finally:
            self._running.discard(message.id)

    def _results_of(self, replies: Iterator[m.Received | None]) -> Iterator[SliceResult]:
        for received in replies:
            if received is None:
                continue
            if isinstance(received.message, m.Result):
                image, support = self._state.chosen()
                yield payloads.read_result(received.message, received.payload, support, image)
            elif isinstance(received.message, m.Done):
                values = received.message.values
                self._notes += values.get("notes", ())
                self._worker = {**self._worker, "models": values.get("models", self.models)}
