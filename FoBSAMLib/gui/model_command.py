"""``fobsam models …`` in a process of its own, which may wait for a server or read gigabytes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from FoBSAMLib.worker.transport import GRACE, worker_environment


class ModelCommand:
    """One call of ``fobsam models``, by what it prints; it has the proxies of Slicer's
    environment."""

    def __init__(
        self,
        arguments: Sequence[str],
        on_line: Callable[[dict[str, Any]], None],
        on_ended: Callable[[str], None],
    ) -> None:
        """``on_line`` gets each line of JSON, ``on_ended`` the error in the end, or nothing."""
        self._on_line, self._on_ended = on_line, on_ended
        self._pid: int | None = None
        self._rest = b""
        #: Whether the user has stopped it.
        self.interrupted = False
        environment = qt.QProcessEnvironment.systemEnvironment()
        for name, value in worker_environment().items():
            environment.insert(name, value)
        self._process = qt.QProcess()
        self._process.setProcessEnvironment(environment)
        self._process.connect("readyReadStandardOutput()", self._read)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        self._arguments = ["-m", "FoBSAMLib", "models", *arguments]

    def start(self) -> None:
        """Begin; where that fails ``on_ended`` is called at once."""
        self._process.start(sys.executable, self._arguments)

    def interrupt(self) -> None:
        """As Ctrl-C does; as soon as it has told its number, since Slicer's Python is a launcher,
        which would die alone."""
        self.interrupted = True
        if self._pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGINT if os.name == "posix" else signal.SIGTERM)

    def end(self) -> None:
        """Stop it now, and tell nobody; what has come of a download stays for the next time."""
        self._on_line, self._on_ended = lambda told: None, lambda error: None
        self.interrupt()
        if self._pid is None or not self._process.waitForFinished(int(1000 * GRACE)):
            if self._pid is not None:
                with contextlib.suppress(OSError):
                    os.kill(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            # One that is still starting ends when it finds that nobody listens.
            self._process.kill()
            self._process.waitForFinished(int(1000 * GRACE))

    def _read(self) -> None:
        *lines, self._rest = (
            self._rest + bytes(self._process.readAllStandardOutput().data())
        ).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):  # a sentence for people
                told = json.loads(line)
                if "pid" in told:
                    self._pid = told["pid"]
                    if self.interrupted:
                        self.interrupt()
                self._on_line(told)

    def _finished(self, status: int, _how: Any = None) -> None:
        self._read()
        said = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        last = (said.strip().splitlines() or [""])[-1].removeprefix("error: ")
        self._on_ended("" if status == 0 else last or _("It ended without a word."))

    def _failed(self, error: int) -> None:
        if error == qt.QProcess.FailedToStart:
            self._on_ended(
                _("{program} cannot be started: {reason}. Install FoBSAM again.").format(
                    program=sys.executable, reason=self._process.errorString()
                )
            )
