"""How a client reaches a worker: two streams of bytes and a log.

`Transport` is the seam: `SubprocessTransport` here, Slicer's QProcess in
`FoBSAMLib.background.process`, a recorded transcript in `FoBSAMLib.worker.transcript`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Protocol

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.worker.frames import Buffer

#: Bytes read or written at once.
CHUNK = 1 << 20
#: Lines of the log kept.
LOG_LINES = 400
#: Seconds for a worker to end by itself, then by being told to, before it is killed.
GRACE = 2.0


class Transport(Protocol):
    """A worker that runs somewhere, by its standard input, output and error.

    No method but `close` waits longer than it is told to. After `close`, `start` gives a new
    worker.
    """

    def start(self) -> None:
        """Start a worker; raises FoBSAMError where that cannot be."""

    def write(self, pieces: Iterable[Buffer]) -> None:
        """Send bytes, now or little by little; some pieces may take a while to be there."""

    def read(self, timeout: float) -> Buffer | None:
        """Bytes that have come, at the latest after ``timeout`` seconds: None for none so far,
        empty at their end."""

    def written(self) -> int:
        """How many of the bytes have been taken by the worker."""

    def log(self) -> str:
        """The end of what the worker has printed to its standard error."""

    def know_pid(self, pid: int) -> None:
        """The process id that the worker reports: what was started may have started it."""

    def close(self, grace: float = GRACE) -> str:
        """End the worker, by force after ``grace`` seconds; says how it ended, as in "signal 9"."""


def worker_command() -> list[str]:
    """What starts a worker under this Python."""
    return [sys.executable, "-m", "FoBSAMLib", "worker"]


def worker_environment() -> dict[str, str]:
    """What must be in its environment: it takes this very package, whatever lies in the current
    folder (Python 3.10 knows no PYTHONSAFEPATH: there modules of the folder come first)."""
    here = str(Path(__file__).resolve().parents[2])
    others = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([here, others] if others else [here])
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


#: Between the lines of one worker and those of the next.
SEPARATOR = "--- another worker"


class Log:
    """The last lines of what workers have printed, one after the other."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._rest = b""

    def begin(self) -> None:
        """Another worker prints from here on."""
        self.add(b"\n")
        if self._lines:
            self._lines.append(SEPARATOR)

    def add(self, data: bytes | None) -> None:
        """Take what has been printed, whole lines or not."""
        *lines, self._rest = re.split(rb"[\r\n]+", (self._rest + (data or b""))[-CHUNK:])
        self._lines.extend(line.decode(errors="replace") for line in lines if line)

    def text(self) -> str:
        """The lines."""
        rest = [self._rest.decode(errors="replace")] if self._rest else []
        return "\n".join([*list(self._lines), *rest])


class SubprocessTransport:
    """A worker as a child process: this Python's own, or whatever a command starts.

    The command may be ``["ssh", "host", "fobsam", "worker"]``: what it reads and writes is all that
    counts. The child never outlives the transport.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """None stands for a worker under this Python."""
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log = Log()

    def start(self) -> None:
        """See `Transport.start`; raises ``bad_request`` where there is no such program."""
        command = list(self.command or worker_command())
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                env={**os.environ, **worker_environment()} if self.command is None else None,
            )
        except OSError as error:
            raise FoBSAMError(
                "bad_request",
                f"The worker cannot be started: {command[0]}: {error.strerror}.",
                "Check the command, as in --worker 'ssh host fobsam worker'.",
            ) from error
        self._outgoing: queue.SimpleQueue[Iterable[Buffer] | None] = queue.SimpleQueue()
        self._end = weakref.finalize(self, _end_process, process, self._outgoing, 0.0)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        _widen(process.stdin)
        self._process = process
        self._pid = None
        self._log.begin()
        self._incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._written = [0]
        # Threads that know the transport would keep it alive, and the child with it.
        self._threads = [
            threading.Thread(target=target, args=arguments, daemon=True)
            for target, arguments in (
                (_send, (process.stdin, self._outgoing, self._written)),
                (_receive, (process.stdout, self._incoming)),
                (_keep_log, (process.stderr, self._log)),
            )
        ]
        for thread in self._threads:
            thread.start()

    def write(self, pieces: Iterable[Buffer]) -> None:
        """See `Transport.write`."""
        self._outgoing.put(pieces)

    def read(self, timeout: float) -> Buffer | None:
        """See `Transport.read`."""
        try:
            return self._incoming.get(timeout=timeout) if timeout > 0 else self._incoming.get(False)
        except queue.Empty:
            return None

    def written(self) -> int:
        """See `Transport.written`."""
        return self._written[0]

    def log(self) -> str:
        """See `Transport.log`."""
        return self._log.text()

    def know_pid(self, pid: int) -> None:
        """See `Transport.know_pid`. Told by another machine, it means nothing here."""
        self._pid = pid if self.command is None else None

    def close(self, grace: float = GRACE) -> str:
        """See `Transport.close`."""
        process = self._process
        if process is None:
            return "not started"
        self._process = None
        self._end.detach()
        status = _end_process(process, self._outgoing, grace)
        if status and self._pid is not None and self._pid != process.pid:
            # What was started was a launcher, as Slicer's Python is: the worker itself may live.
            with contextlib.suppress(OSError):
                os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        # What the worker printed last says why it ended.
        self._threads[-1].join(GRACE)
        return describe_status(status)


def describe_status(status: int) -> str:
    """A process's exit status in words, as subprocess gives it."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status} ({signal.Signals(-status).name})"
    return f"signal {-status}"


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold a whole piece, where the system can: images pass several times faster. A
    user has room for a number of such pipes, so that a plain one must do, too."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)


def _send(
    stream: IO[bytes], outgoing: queue.SimpleQueue[Iterable[Buffer] | None], written: list[int]
) -> None:
    """Write what is put into the queue, then close the stream: the worker's sign to end."""
    with contextlib.suppress(OSError, ValueError), stream:  # a worker that is gone reads nothing
        while (pieces := outgoing.get()) is not None:
            # In a function, so that no large image is kept until the next message.
            _send_pieces(stream, pieces, written)
            del pieces


def _send_pieces(stream: IO[bytes], pieces: Iterable[Buffer], written: list[int]) -> None:
    for piece in pieces:
        rest = memoryview(piece).cast("B")
        while rest:
            count = stream.write(rest[:CHUNK])
            written[0] += count
            rest = rest[count:]


def _receive(stream: IO[bytes], incoming: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while data := stream.read(CHUNK):
            incoming.put(data)
    incoming.put(b"")


def _keep_log(stream: IO[bytes], log: Log) -> None:
    with contextlib.suppress(OSError, ValueError), stream:
        while data := stream.read(1 << 16):
            log.add(data)


def _end_process(
    process: subprocess.Popen[bytes],
    outgoing: queue.SimpleQueue[Iterable[Buffer] | None],
    grace: float,
) -> int:
    """Close its stdin, then ask, then kill; the status with which it ended."""
    outgoing.put(None)
    deadline = time.monotonic() + grace
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    for end in (process.terminate, process.kill):
        if process.poll() is None:
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(grace / 2)
    return process.wait()
