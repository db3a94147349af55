"""The client's side of the protocol: requests over a transport, and whether the worker lives."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any, TypeVar

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.version import __version__
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.frames import Buffer, FrameError
from FoBSAMLib.worker.transport import SEPARATOR, Transport

#: Seconds for which nothing is waited for at a stretch, so that a caller can ask for a stop.
TICK = 0.05
#: Seconds between two looks of which no more count as silence: a machine that slept, or a caller
#: that did something else, says nothing about the worker.
LOOK = 0.1
#: Lines of a dead worker's log that an error shows, and bytes of what is no greeting.
SHOWN, SEEN = 8, 80


T = TypeVar("T")
#: Yields None while it waits, and returns what it waited for.
Waiting = Generator[None, None, T]


class WorkerDiedError(Exception):
    """The worker is gone. ``greeted``: it had been at work, so that another one may be, too."""

    def __init__(self, how: str, log: str, *, greeted: bool) -> None:
        super().__init__(how)
        self.how = how
        self.log = log
        self.greeted = greeted

    def to_error(self) -> FoBSAMError:
        """What the user is told."""
        own = self.log.rpartition(SEPARATOR)[2]
        lines = [line.strip() for line in own.splitlines() if line.strip()][-SHOWN:]
        said = f" It last said: {' / '.join(lines)}" if lines else ""
        return FoBSAMError(
            "worker_died",
            f"The worker {self.how}.{said}",
            "Try again; if it happens again, report it with the worker's log."
            if self.greeted
            else "Check the worker's command: run it by hand and see what it says.",
            retryable=self.greeted,
        )


class Client:
    """Talks to one worker, from its start to its end.

    What takes a while is a generator: it yields None where it waits for the worker.
    """

    def __init__(
        self,
        transport: Transport,
        patience: float,
        start_patience: float,
        tick: float = TICK,
    ) -> None:
        """Start the worker; raises FoBSAMError where it cannot be started.

        ``patience`` is how many seconds without any sign of life it is given, ``start_patience``
        how many until its models are loaded; ``tick`` is how many seconds are waited at a stretch.
        """
        self._transport = transport
        self._tick = tick
        self._closed = False
        self._patience = patience
        self._limit = start_patience
        self._decoder = m.Decoder(m.REPLIES)
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, deque[m.Received]] = {}
        self._greeting: m.Hello | None = None
        self._first_bytes = b""
        self._silent = 0.0
        self._looked = time.monotonic()
        self._written = 0
        self._pinged = False
        transport.start()

    def hello(self, generator: str, segmenter: str, device: str) -> Waiting[dict[str, Any]]:
        """Have the worker load the models; what its `Done` holds."""
        message = m.Hello(
            next(self._numbers),
            version=__version__,
            generator=generator,
            segmenter=segmenter,
            device=device,
        )
        loaded = yield from self.ask(message)
        self._limit = self._patience
        return loaded

    def number(self) -> int:
        """The next request's id."""
        return next(self._numbers)

    def send(self, message: m.Message, payload: bytes = b"") -> None:
        """Send a message; its replies come by `replies`."""
        self.send_pieces(message.id, [message.frame(payload)])

    def send_pieces(self, request: int, pieces: Iterable[Buffer]) -> None:
        """Send the bytes of a request, piece by piece."""
        self._inboxes[request] = deque()
        self._transport.write(pieces)

    def ask(self, message: m.Message, payload: bytes = b"") -> Waiting[dict[str, Any]]:
        """Send a request and wait for its `Done`; raises FoBSAMError for a `Failed`, and
        WorkerDiedError."""
        self.send(message, payload)
        return (yield from self.wait(message.id))

    def wait(self, request: int) -> Waiting[dict[str, Any]]:
        """The same for a request that was sent."""
        for received in self.replies(request):
            if received is None:
                yield None
            elif isinstance(received.message, m.Done):
                return received.message.values
        raise AssertionError("replies end with Done or an error")

    def cancel(self, request: int) -> None:
        """Stop a request before its next slice; its replies end with a `Failed`."""
        message = m.Cancel(self.number(), request)
        self._transport.write([message.frame()])  # nobody waits for its Done

    def replies(self, request: int) -> Iterator[m.Received | None]:
        """A request's replies up to its `Done`; None now and then while there are none.

        Those of other requests are kept for them. Once this iterator is closed, what still comes
        is dropped. Raises FoBSAMError for a `Failed`, and WorkerDiedError.
        """
        inbox = self._inboxes[request]
        try:
            while True:
                if not inbox:
                    self._receive()
                if not inbox:
                    yield None
                    continue
                received = inbox.popleft()
                if isinstance(received.message, m.Failed):
                    raise received.message.to_error()
                yield received
                if isinstance(received.message, m.Done):
                    return
        finally:
            del self._inboxes[request]

    def close(self) -> None:
        """End the worker; whoever still waits for a reply meets a WorkerDiedError."""
        self._closed = True
        self._transport.close()

    @property
    def log(self) -> str:
        """The end of what the worker has printed."""
        return self._transport.log()

    def _receive(self) -> None:
        """Take in what has come, after a tick at the latest; look whether the worker lives."""
        if self._closed:  # the transport has another worker, or none
            raise WorkerDiedError("was replaced", "", greeted=True)
        data = self._transport.read(self._tick)
        before, self._looked = self._looked, time.monotonic()
        if data is None:
            self._wait(min(self._looked - before, LOOK))
            return
        if not len(data):
            raise self._died()
        self._silent, self._pinged = 0.0, False
        if not self._greeting:
            self._first_bytes += bytes(data)
        try:
            for received in self._decoder.feed(data):
                if isinstance(received, m.Unknown):
                    continue  # a reply of a newer worker
                if isinstance(received, m.Failed):
                    raise self._senseless(received.message)
                if isinstance(received.message, m.Failed) and not received.message.id:
                    raise self._senseless(received.message.message)
                if isinstance(received.message, m.Hello):
                    self._greet(received.message)
                if received.message.id in self._inboxes:
                    self._inboxes[received.message.id].append(received)
        except FrameError as error:
            raise self._no_worker(error) from error

    def _greet(self, greeting: m.Hello) -> None:
        if not greeting.pid:
            raise FoBSAMError(
                "worker_died",
                "The worker's command hands back what it is given.",
                "Give a command that starts a worker, as in 'ssh host fobsam worker'.",
            )
        greeting.check("worker")
        self._greeting = greeting
        self._transport.know_pid(greeting.pid)

    def _wait(self, seconds: float) -> None:
        """Count the silence: bytes taken are a sign of life, and so is an answer to a ping."""
        written = self._transport.written()
        if written != self._written:
            self._written, self._silent = written, 0.0
        self._silent += seconds
        if self._greeting and not self._pinged and self._silent > self._patience / 3:
            self._pinged = True
            self._transport.write([m.Ping(self.number()).frame()])
        if self._silent > self._limit:
            self._transport.close(0.0)
            how = f"gave no sign of life for {self._silent:.0f} s, and was ended"
            raise WorkerDiedError(how, self._transport.log(), greeted=bool(self._greeting))

    def _died(self) -> WorkerDiedError:
        status = self._transport.close()
        how = f"ended unexpectedly ({status})"
        return WorkerDiedError(how, self._transport.log(), greeted=bool(self._greeting))

    def _senseless(self, problem: str) -> WorkerDiedError:
        """One of the two has sent what the other cannot read: no request would ever end."""
        self._transport.close(0.0)
        how = f"and FoBSAM do not understand each other: {problem}"
        return WorkerDiedError(how, self._transport.log(), greeted=bool(self._greeting))

    def _no_worker(self, error: FrameError) -> Exception:
        status = self._transport.close(0.0)
        if self._greeting:
            how = f"sent {error} ({status})"
            return WorkerDiedError(how, self._transport.log(), greeted=True)
        seen = " ".join(self._first_bytes.decode(errors="replace").split())[:SEEN]
        return FoBSAMError(
            "worker_died",
            f"The worker's command answers {seen!r}, which is no worker's greeting.",
            "Nothing but the worker may write to its standard output: no shell start-up file, "
            "no banner.",
        )
