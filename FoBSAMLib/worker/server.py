"""The worker's side: requests in, a session's answers out.

One thread reads, so that cancel, ping and the end of the input are noticed at once; one computes
(the main thread); one writes, so that a client which does not read holds up neither; one watches
whether the parent process lives.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import IO, Any, NoReturn

from FoBSAMLib.errors import FoBSAMError, is_out_of_memory
from FoBSAMLib.image.volume import Volume
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.base import Session
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.support import Support
from FoBSAMLib.version import __version__
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker import payloads
from FoBSAMLib.worker.frames import FrameError

#: Images kept: the one to segment, and the one that supports were drawn on.
IMAGES = 2
#: Seconds in which a worker that was told to end does so by itself; then it is ended.
GRACE = 1.0
#: Seconds from one sign of life to the next while much is read.
ALIVE = 1.0
#: Seconds from one look at the parent process to the next.
WATCH = 0.5

#: Makes the session of a generator, a segmenter and a device.
Create = Callable[[str, str, str], Session]


class Server:
    """Serves one client until its bytes end, its process dies or it says so."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes], create: Create, idle: float) -> None:
        """``reading`` and ``writing`` are unbuffered binary streams; after ``idle`` seconds
        without a request the session gives its memory back."""
        self._reading = reading
        self._writing = writing
        self._create = create
        self._idle = idle
        # Asked before anything is answered: a parent that has had an answer may die at once.
        self._parent = os.getppid()
        self._session: Session | None = None
        self._chosen: tuple[str, str, str] | None = None
        self._images: OrderedDict[str, Volume] = OrderedDict()
        self._support: Support | None = None
        self._image: Volume | None = None
        self._inbox: queue.SimpleQueue[m.Received | None] = queue.SimpleQueue()
        self._later: deque[m.Received | None] = deque()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._open: set[int] = set()
        self._cancelled: set[int] = set()
        self._closing = threading.Event()
        self._ended = threading.Event()

    def run(self) -> None:
        """Serve; returns when the client is gone and what was under way is stopped."""
        targets = (self._write, self._read, self._watch_parent)
        threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in threads:
            thread.start()
        while (received := self._next()) is not None:
            self._answer(received)
        if self._session is not None:
            self._session.close()
        self._outbox.put(None)
        threads[0].join(GRACE)
        self._ended.set()

    # The reading thread

    def _read(self) -> None:
        decoder = m.Decoder(m.REQUESTS)
        told = time.monotonic()
        try:
            while count := self._reading.readinto(decoder.buffer()):  # type: ignore[attr-defined]
                if time.monotonic() - told > ALIVE:
                    # A ping may queue behind a large image for long: this tells that it comes.
                    self._send(m.Progress(0, 0, 0))
                    told = time.monotonic()
                received = decoder.advance(count)
                if isinstance(received, m.Failed):
                    self._send(received)
                elif received is not None:
                    self._sort(received)
        except FrameError as error:
            _log(f"the client sent no message of this protocol: {error}")
            problem = f"This is {error}."
            self._send(m.Failed(0, "bad_request", problem, "Start the worker anew."))
        except OSError as error:
            _log(f"reading ended: {error}")
        finally:
            self._close()

    def _sort(self, received: m.Received) -> None:
        """Answer at once what can be; the rest waits for the computing thread."""
        message = received.message
        if isinstance(message, m.Ping):
            self._send(m.Done(message.id))
        elif isinstance(message, m.Cancel):
            if message.target in self._open:
                self._cancelled.add(message.target)
            self._send(m.Done(message.id))
        elif isinstance(message, m.Shutdown):
            self._send(m.Done(message.id))
            self._close()
        else:
            if isinstance(message, m.Hello):
                self._send(m.Hello(message.id, version=__version__, pid=os.getpid()))
                try:
                    message.check("client")
                except FoBSAMError as error:
                    self._send(m.Failed.from_error(message.id, error))
                    return
            self._open.add(message.id)
            self._inbox.put(received)

    def _close(self) -> None:
        """Have the computing thread stop before its next slice; if it does not, end without it."""
        self._closing.set()
        self._inbox.put(None)
        if not self._ended.wait(GRACE):
            os._exit(0)

    def _watch_parent(self) -> None:
        """End with the process that started this one, also where the pipe lives on elsewhere."""
        while not self._closing.wait(WATCH):
            if os.getppid() != self._parent:
                _log("the parent process is gone")
                self._close()

    # The writing thread

    def _send(self, message: m.Message, payload: bytes = b"") -> None:
        self._outbox.put(message.frame(payload))

    def _write(self) -> None:
        try:
            while (frame := self._outbox.get()) is not None:
                rest = memoryview(frame)
                while rest:
                    rest = rest[self._writing.write(rest) :]
        except OSError as error:
            _log(f"writing ended: {error}")
            self._close()

    # The computing thread

    def _next(self) -> m.Received | None:
        if self._closing.is_set():
            return None
        if self._later:
            return self._later.popleft()
        try:
            return self._inbox.get(timeout=self._idle)
        except queue.Empty:
            if self._session is not None:
                self._session.release()
                _log(f"no request for {self._idle:g} s: memory given back")
            return self._inbox.get()

    def _answer_between(self) -> None:
        """Between two slices a correction or a suggestion need not wait for the last one."""
        while not self._later and not self._inbox.empty():
            received = self._inbox.get()
            if received is not None and isinstance(received.message, (m.Correct, m.Suggest)):
                self._answer(received)
            else:  # nor does any overtake what is asked for before it
                self._later.append(received)

    def _answer(self, received: m.Received) -> None:
        request = received.message.id
        try:
            if self._is_cancelled(request):
                raise _cancelled()
            values = self._handle(received.message, received.payload)
            reply: m.Message = m.Done(request, values)
        except FoBSAMError as error:
            reply = m.Failed.from_error(request, error)
        except Exception as error:
            reply = _failed(request, error)
        self._open.discard(request)
        self._cancelled.discard(request)
        if not self._closing.is_set():  # a client that lives asks the next worker
            self._send(reply)

    def _is_cancelled(self, request: int) -> bool:
        return request in self._cancelled or self._closing.is_set()

    def _handle(self, message: m.Message, payload: memoryview) -> dict[str, Any]:
        """Do what a request asks for; what `Done` says of it."""
        if isinstance(message, m.Hello):
            return self._hello(message)
        session = self._session
        if session is None:
            raise FoBSAMError("bad_request", "The worker has loaded no models.", "Say hello first.")
        if isinstance(message, m.SetImage):
            return self._set_image(session, message, payload)
        if isinstance(message, m.SetSupports):
            support = payloads.read_support(message, payload, self._held(message.image))
            session.set_supports(support)
            self._support = support
        elif isinstance(message, m.Restore):
            session.restore([self._known(message, payload)])
        elif isinstance(message, m.Segment):
            return self._segment(session, message)
        elif isinstance(message, m.Correct):
            points = (
                payloads.points_from_json(p) for p in (message.background, message.foreground)
            )
            result = session.correct(message.structure, message.index, Prompts(*points))
            self._send_result(message.id, result)
            return _told(session)
        elif isinstance(message, m.Suggest):
            return {"slice": session.suggest(message.structure)}
        return {}

    def _hello(self, message: m.Hello) -> dict[str, Any]:
        chosen = (message.generator, message.segmenter, message.device)
        if self._session is None or chosen != self._chosen:
            if self._session is not None:
                self._session.close()
            self._session = None
            self._session = self._create(*chosen)
            self._chosen = chosen
        return {
            "models": self._session.models,
            "devices": self._session.devices(),
            "versions": _versions(),
        }

    def _set_image(
        self, session: Session, message: m.SetImage, payload: memoryview
    ) -> dict[str, Any]:
        key = message.key
        if len(payload):
            sent = payloads.read_image(message, payload)
            key = sent.content_key()
            self._images[key] = sent
        image = self._held(key)
        while len(self._images) > IMAGES:
            self._images.popitem(last=False)
        if message.select:
            self._image = image
            session.set_image(image)
        return {"held": list(self._images)}

    def _held(self, key: str) -> Volume:
        if key not in self._images:
            raise FoBSAMError(
                "bad_request", "The worker does not hold this image.", "Send its voxels."
            )
        self._images.move_to_end(key)
        return self._images[key]

    def _known(self, message: m.Restore, payload: memoryview) -> SliceResult:
        if self._support is None or self._image is None:
            raise FoBSAMError("bad_request", "A result came before image and supports.")
        return payloads.read_result(message, payload, self._support, self._image)

    def _segment(self, session: Session, message: m.Segment) -> dict[str, Any]:
        request = message.id
        structures = None if message.structures is None else list(message.structures)
        slices = None if message.slices is None else _range(*message.slices)
        total = self._count(structures, slices, own=session.own)
        results = session.segment(
            structures,
            slices,
            lambda: self._is_cancelled(request),
            holding=message.holding,
        )
        self._send(m.Progress(request, 0, total))
        for done, result in enumerate(results, 1):
            self._send_result(request, result)
            self._send(m.Progress(request, done, total))
            self._answer_between()
        return {"cancelled": self._is_cancelled(request), **_told(session)}

    def _count(self, structures: list[str] | None, slices: range | None, *, own: bool) -> int:
        """How many results a run will have; what makes no sense is not told here."""
        assert self._support is not None  # else the session had not known whose it is
        assert self._image is not None
        wanted = (
            slices if slices is not None else range(self._image.slice_count(self._support.axis))
        )
        return self._support.count_queries(wanted, structures, own=own)

    def _send_result(self, request: int, result: SliceResult) -> None:
        assert self._support is not None  # no result comes without
        message, payload = payloads.result_message(
            m.Result, request, result, self._support.structures
        )
        self._send(message, payload)


_FREE = "Close other programs that use memory, or choose a smaller image or model."


def _failed(request: int, error: Exception) -> m.Failed:
    """What tells of an error that nobody foresaw."""
    if is_out_of_memory(error):
        return m.Failed(request, "out_of_memory", "The worker ran out of memory.", _FREE, True)
    traceback.print_exception(error)
    problem = f"{type(error).__name__}: {error} - this is a bug in FoBSAM."
    return m.Failed(request, "internal", problem, "Report it with the worker's log.")


def _told(session: Session) -> dict[str, Any]:
    """What a run may have changed: out of memory, it goes on elsewhere."""
    return {"notes": list(session.notes), "models": session.models}


def _cancelled() -> FoBSAMError:
    return FoBSAMError("cancelled", "The request was cancelled.", "Ask again.", retryable=True)


def _range(start: int, stop: int, step: int) -> range:
    if not step or max(abs(start), abs(stop)) >= 1 << 31:
        raise FoBSAMError("bad_request", f"There are no slices from {start} to {stop}.")
    return range(start, stop, step)


def _versions() -> dict[str, str]:
    """What computes here, for reports."""
    found = {"fobsam": __version__, "python": sys.version.split()[0]}
    for name in ("torch", "numpy", "scipy", "scikit-image"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _log(text: str) -> None:
    print(f"fobsam worker {os.getpid()}: {text}", file=sys.stderr, flush=True)


def serve_standard_streams(create: Create, idle: float) -> NoReturn:
    """Be a worker on this process's standard input and output until the client is gone.

    Whatever prints, Python or not, prints to standard error from here on; whatever reads standard
    input finds it at its end.
    """
    reading, writing = os.dup(0), os.dup(1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (reading, writing):
            msvcrt.setmode(descriptor, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    # Ctrl-C in a terminal reaches the worker too; what it means is the client's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as sink:
        Server(source, sink, create, idle).run()
        # Not through the interpreter's end: the libraries' own can hang, and nothing is left to do.
        sys.stderr.flush()
        os._exit(0)
