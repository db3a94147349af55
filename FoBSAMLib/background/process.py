"""A worker as a QProcess: `FoBSAMLib.worker.transport.Transport` for Slicer's event loop.

Slicer's main thread holds Python's lock while it waits for events, so that threads of Python
would hardly run there; a QProcess needs none.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import qt

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.worker.frames import Buffer
from FoBSAMLib.worker.transport import (
    CHUNK,
    GRACE,
    Log,
    describe_status,
    worker_command,
    worker_environment,
)


class ProcessTransport:
    """A worker as a child process that no call but `kill` and a patient `read` waits for.

    That there is no such program is told by `read`: finding out takes a while on some systems.

    ``on_ready`` is called when something has come: then `read` gives it. It should only note that,
    since the process must outlive its own signal.
    """

    def __init__(
        self, command: Sequence[str] | None = None, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """``command`` starts the worker; None stands for a worker under this Python."""
        self.command = command
        self.on_ready = on_ready
        self._process: qt.QProcess | None = None
        self._pid: int | None = None
        self._log = Log()
        self._ending: list[_Ending] = []
        self._failure = ""
        self._given = 0
        self._outgoing: deque[Iterator[Buffer]] = deque()
        self._rest = memoryview(b"")

    def start(self) -> None:
        """See `Transport.start`; nothing is waited for."""
        program, *arguments = self.command or worker_command()
        process = qt.QProcess()
        if self.command is None:
            environment = qt.QProcessEnvironment.systemEnvironment()
            for name, value in worker_environment().items():
                environment.insert(name, value)
            process.setProcessEnvironment(environment)
        process.connect("readyReadStandardOutput()", self._come)
        process.connect("readyReadStandardError()", self._keep_log)
        process.connect("bytesWritten(qint64)", self._sent)
        process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        process.connect("started()", self._feed)
        process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._process = process
        self._pid = None
        self._failure = ""
        self._given = 0
        self._log.begin()
        process.start(program, arguments)

    def write(self, pieces: Iterable[Buffer]) -> None:
        """See `Transport.write`. No more is taken from ``pieces`` than the worker takes soon."""
        self._outgoing.append(iter(pieces))
        self._feed()

    def read(self, timeout: float) -> Buffer | None:
        """See `Transport.read`; raises ``bad_request`` where the program cannot be started."""
        process = self._process
        if process is None:
            return b""
        self._feed()
        if timeout > 0 and process.state() == qt.QProcess.Starting:
            process.waitForStarted(int(1000 * timeout))
        if self._failure:
            raise FoBSAMError(
                "bad_request",
                f"The worker cannot be started: {self._failure}.",
                "Check the worker's command, in the section Computing.",
            )
        data = process.readAllStandardOutput().data()
        if not data and timeout > 0:
            process.waitForReadyRead(int(1000 * timeout))
            self._keep_log()
            data = process.readAllStandardOutput().data()
        if data:
            return bytes(data)
        return b"" if process.state() == qt.QProcess.NotRunning else None

    def written(self) -> int:
        """See `Transport.written`."""
        waiting = self._process.bytesToWrite() if self._process is not None else 0
        return self._given - waiting

    def log(self) -> str:
        """See `Transport.log`."""
        return self._log.text()

    def know_pid(self, pid: int) -> None:
        """See `Transport.know_pid`. Told by another machine, it means nothing here."""
        self._pid = pid if self.command is None else None

    def close(self, grace: float = GRACE) -> str:
        """End the worker, by force after ``grace`` seconds, which are not waited for.

        Says how it ended where it has; ``grace`` 0 ends it at once.
        """
        process, self._process = self._process, None
        self._outgoing.clear()
        self._rest = memoryview(b"")
        self._ending = [ending for ending in self._ending if not ending.ended]
        if process is None:
            return "not started"
        self._log.add(process.readAllStandardError().data())
        if process.state() == qt.QProcess.NotRunning:
            return describe_status(_status(process))
        self._ending.append(_Ending(process, self._pid, grace))
        return "told to end"

    def kill(self) -> None:
        """End the worker, and those that were told to, now: the application exits."""
        self.close(0.0)
        for ending in self._ending:
            ending.kill()
        for ending in self._ending:
            ending.wait()

    def _feed(self) -> None:
        """Hand on as much as keeps the worker busy; the rest follows when that is taken."""
        process = self._process
        if process is None or process.state() != qt.QProcess.Running:
            return
        while process.bytesToWrite() < CHUNK:
            if not self._rest:
                if not self._outgoing:
                    return
                piece = next(self._outgoing[0], None)
                if piece is None:
                    self._outgoing.popleft()
                    continue
                self._rest = memoryview(piece).cast("B")
            part, self._rest = self._rest[:CHUNK], self._rest[CHUNK:]
            # As a QByteArray: of bytes alone Qt's write could take what stands before a zero.
            array = qt.QByteArray(bytes(part))
            if process.write(array) != len(part):
                return  # the worker is gone: `read` tells

            self._given += len(part)

    def _come(self) -> None:
        self.on_ready()

    def _sent(self, count: int) -> None:
        self._feed()

    def _finished(self, code: int, status: int) -> None:
        self._keep_log()
        self.on_ready()

    def _failed(self, error: int) -> None:
        if self._process is not None and error == qt.QProcess.FailedToStart:
            program = (self.command or worker_command())[0]
            self._failure = f"{program}: {self._process.errorString()}"
            self.on_ready()

    def _keep_log(self) -> None:
        if self._process is not None:
            self._log.add(self._process.readAllStandardError().data())


class _Ending:
    """A worker whose input is closed: it ends by itself, or is killed when its time is up."""

    def __init__(self, process: qt.QProcess, pid: int | None, grace: float) -> None:
        self._process = process
        self._pid = pid
        process.closeWriteChannel()
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self.kill)
        if grace > 0:
            self._timer.start(int(1000 * grace))
        else:
            self.kill()

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return bool(self._process.state() == qt.QProcess.NotRunning)

    def kill(self) -> None:
        """Kill it where it lives, and what it is the launcher of, as Slicer's Python is."""
        self._timer.stop()
        if self.ended:
            return
        if self._pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.kill()

    def wait(self) -> None:
        """Wait for a process that was killed to be gone; it takes some milliseconds."""
        self._process.waitForFinished(int(1000 * GRACE))


def _status(process: qt.QProcess) -> int:
    """As subprocess gives it: negative for the signal that ended it."""
    code = int(process.exitCode())
    crashed = process.exitStatus() == qt.QProcess.CrashExit
    return -code if crashed and sys.platform != "win32" else code
