"""What a session and its workers say to each other, step by step.

`WorkerSession` waits for every step; in Slicer the event loop goes on between them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
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
from FoBSAMLib.worker.client import TICK, Client, Waiting, WorkerDiedError
from FoBSAMLib.worker.transport import Transport

T = TypeVar("T")
#: Yields each result when it is known and None while it waits; its value comes at the end.
Steps = Generator[SliceResult | None, None, T]


class Conversation:
    """A session's methods as steps: generators that yield results, and None where they wait.

    Several may be under way, each step of one between two of another: a correction during a run.
    A worker that dies is started anew once a request, and told again what it needs to go on; then
    the request fails with ``worker_died``.
    """

    def __init__(
        self,
        models: tuple[str, str, str],
        transport: Transport,
        *,
        patience: float = 30.0,
        start_patience: float = 120.0,
        tick: float = TICK,
    ) -> None:
        """Nothing is started before the first step.

        Args:
            models: generator, segmenter and device by name, as for `LocalSession`.
            transport: how a worker is reached.
            patience: seconds without any sign of life after which a worker is taken for dead.
            start_patience: the same until its models are loaded.
            tick: seconds that a step waits for the worker; 0 where steps must not take time.
        """
        #: Generator, segmenter and device by name, as they were asked for.
        self.models = models
        self._transport = transport
        self._patience = (patience, start_patience, tick)
        self._client: Client | None = None
        self._connecting = False
        self._held: frozenset[str] = frozenset()
        self._running: set[int] = set()
        self.state = SessionState()
        #: What `Done` of the hello holds: models, devices and versions; empty before.
        self.worker: dict[str, Any] = {}
        #: See `Session.notes`.
        self.notes: list[str] = []

    @property
    def connected(self) -> bool:
        """Whether there is a worker that has loaded its models."""
        return self._client is not None

    @property
    def running(self) -> bool:
        """Whether slices are being looked at."""
        return bool(self._running)

    @property
    def log(self) -> str:
        """The end of what the worker has printed."""
        return self._transport.log()

    def start(self) -> Steps[None]:
        """Start a worker and have it load the models."""
        return self._run(_nothing)

    def set_image(self, volume: Volume) -> Steps[str]:
        """See `Session.set_image`."""
        self.state.set_image(volume)
        self._stop_running()
        try:
            yield from self._run(lambda client: self._send_image(client, volume, select=True))
        except BaseException:
            # The worker may hold another one: it is told anew, and nothing that was refused.
            self.state.set_image(None)
            self.release()
            raise
        return volume.content_key()

    def set_supports(self, support: Support) -> Steps[None]:
        """See `Session.set_supports`."""
        self.state.set_supports(support)
        self._stop_running()
        try:
            yield from self._run(lambda client: self._send_support(client, support))
        except BaseException:
            self.state.set_supports(None)
            self.release()
            raise

    def segment(
        self,
        structures: list[str] | None = None,
        slices: range | None = None,
        cancel: Cancel = lambda: False,
        *,
        holding: bool = False,
    ) -> Steps[None]:
        """See `Session.segment`. Closed early, the worker stops too and stays warm."""
        names = [structure.name for structure in self.state.structures(structures)]
        wanted = self.state.query_slices(slices)
        self.notes = []
        seen: set[tuple[Structure, int]] = set()
        found = self.state.found
        for last in (False, True):
            client = None
            try:
                client = yield from self._connect()
                run = self._stream(client, names, wanted, cancel, holding)
                with closing(run) as results:
                    for result in results:
                        # What came before a worker died is not given again by the next one.
                        if result is None:
                            yield None
                        elif (result.structure, result.index) not in seen:
                            seen.add((result.structure, result.index))
                            self.state.add(result)
                            yield result
                        if self.state.found is not found:
                            return  # another image, or other supports
                if last:  # the next worker has found again what is corrected here
                    yield from self._run(self._send_corrections)
                return
            except WorkerDiedError as death:
                self._bury(client, death, last)

    def correct(self, structure: str, index: int, prompts: Prompts) -> Steps[SliceResult]:
        """See `Session.correct`."""
        self.state.original(self.state.structure(structure), index)
        given = check_prompts(prompts)
        self.notes = []
        corrected = self.state.corrected  # another one by then, with another image
        result = yield from self._run(lambda client: self._correct(client, structure, index, given))
        corrected.add(result)
        return result

    def suggest(self, structure: str) -> Steps[int | None]:
        """See `Session.suggest`."""
        self.state.structure(structure)
        values = yield from self._run(
            lambda client: client.ask(m.Suggest(client.number(), structure))
        )
        found: int | None = values["slice"]
        return found

    def restore(self, results: Iterable[SliceResult]) -> Steps[None]:
        """See `Session.restore`."""
        taken = self.state.restore(results)
        yield from self._run(lambda client: self._send_results(client, taken))

    def release(self) -> None:
        """End the worker; the next step starts another one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End the worker, and know nothing any more."""
        self.release()
        self.state = SessionState(closed=True)

    def _run(self, work: Callable[[Client], Steps[T]]) -> Steps[T]:
        """Do something with the worker, at most twice."""
        for last in (False, True):
            client = None
            try:
                client = yield from self._connect()
                return (yield from work(client))
            except WorkerDiedError as death:
                self._bury(client, death, last)
        raise AssertionError("burying the second worker raises")

    def _stop_running(self) -> None:
        """Runs for an image or supports that are no more must not be waited for."""
        if self._client is not None:
            for request in self._running:
                self._client.cancel(request)

    def _bury(self, client: Client | None, death: WorkerDiedError, last: bool) -> None:
        """Forget a dead worker; raises FoBSAMError where another one is not to be tried."""
        if self._client is client:  # else somebody else has met its death before
            self.release()
            self.notes.append(f"The worker {death.how}; another one went on.")
        if last or not death.greeted:
            raise death.to_error() from death

    def _connect(self) -> Steps[Client]:
        """The worker, started and told what this session holds where it was not."""
        while self._connecting:
            yield None
        if self._client is not None:
            return self._client
        self._connecting = True
        try:
            client = Client(self._transport, *self._patience)
            try:
                self.worker = yield from client.hello(*self.models)
                self._held = frozenset()
                yield from self._tell(client)
            except BaseException:
                client.close()
                raise
            self._client = client
        finally:
            self._connecting = False
        return client

    def _tell(self, client: Client) -> Steps[None]:
        """What an earlier worker knew; corrections are made again, from what was found."""
        if self.state.image is not None:
            yield from self._send_image(client, self.state.image, select=True)
        if self.state.support is not None:
            yield from self._send_support(client, self.state.support)
        yield from self._send_results(client, self.state.found.all())
        yield from self._send_corrections(client)

    def _send_image(self, client: Client, volume: Volume, *, select: bool) -> Steps[None]:
        # Where the worker holds none, the key need not be known before.
        key = (yield from volume.key_steps()) if self._held else ""
        message = payloads.image_message(client.number(), volume, key, select=select)
        if key in self._held:
            client.send(message)
        else:
            client.send_pieces(message.id, payloads.image_pieces(message, volume))
        self._held = frozenset((yield from client.wait(message.id))["held"])

    def _send_support(self, client: Client, support: Support) -> Steps[None]:
        if (yield from support.volume.key_steps()) not in self._held:
            yield from self._send_image(client, support.volume, select=False)
        yield from client.ask(*payloads.support_message(client.number(), support))

    def _send_results(self, client: Client, results: Iterable[SliceResult]) -> Steps[None]:
        sent = []
        for result in results:
            message, payload = payloads.result_message(
                m.Restore, client.number(), result, self.state.structures()
            )
            client.send(message, payload)
            sent.append(message.id)
        for request in sent:  # not one by one: that takes a round trip each
            yield from client.wait(request)

    def _send_corrections(self, client: Client) -> Steps[None]:
        for result in self.state.corrected.all():
            yield from self._correct(client, result.structure.name, result.index, result.prompts)

    def _correct(
        self, client: Client, structure: str, index: int, prompts: Prompts
    ) -> Steps[SliceResult]:
        points = map(payloads.points_to_json, (prompts.background, prompts.foreground))
        message = m.Correct(client.number(), structure, int(index), *points)
        client.send(message)
        corrected = None
        for result in self._results_of(client.replies(message.id)):
            corrected = result or corrected
            yield None
        assert corrected is not None  # else the worker had said why
        return corrected

    def _stream(
        self,
        client: Client,
        structures: list[str],
        slices: range,
        cancel: Cancel,
        holding: bool,
    ) -> Steps[None]:
        message = m.Segment(
            client.number(),
            tuple(structures),
            (slices.start, slices.stop, slices.step),
            holding,
        )
        client.send(message)
        self._running.add(message.id)
        stopped = False
        try:
            for result in self._results_of(client.replies(message.id)):
                yield result
                if not stopped and cancel():
                    stopped = True
                    client.cancel(message.id)
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

    def _results_of(self, replies: Iterator[m.Received | None]) -> Iterator[SliceResult | None]:
        image, support = self.state.chosen()  # as asked; others may be chosen before the reply
        for received in replies:
            if received is None:
                yield None
            elif isinstance(received.message, m.Result):
                yield payloads.read_result(received.message, received.payload, support, image)
            elif isinstance(received.message, m.Done):
                values = received.message.values
                self.notes += values.get("notes", ())
                models = values.get("models", self.worker["models"])
                self.worker = {**self.worker, "models": models}


def _nothing(client: Client) -> Waiting[None]:
    yield from ()
