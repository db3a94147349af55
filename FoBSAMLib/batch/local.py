"""Cases in processes of this computer, each with its own models and its share of the cores."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait

from FoBSAMLib.batch.cases import Case, Options
from FoBSAMLib.batch.outcome import Outcome
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.memory import keep_freed_memory

Outcomes = Generator[Outcome, None, None]

#: Seconds that a process has to end its slice, or to write its files.
PATIENCE = 60.0
#: Seconds that it has where the process that began it was killed.
GRACE = 1.5
DIED = "The process died, most likely for want of memory: use fewer --workers, or a smaller image."


def run_local(cases: Sequence[Case], options: Options, workers: int) -> Outcomes:
    """Outcomes as they come. A process that dies takes its case with it, and another starts.

    Where the generator is closed, cases under way are left as they were.
    Raises FoBSAMError where the models cannot be loaded.
    """
    waiting = deque(cases)
    workers = min(workers, len(cases))
    processes: list[_Process] = []
    try:
        processes += [_Process(options, workers) for _ in range(workers)]
        while processes:
            ready = wait([process.connection for process in processes])
            for process in [one for one in processes if one.connection in ready]:
                answer = process.receive()
                if isinstance(answer, FoBSAMError):
                    raise answer
                if isinstance(answer, Outcome):
                    yield answer
                if process.died:
                    processes.remove(process)
                    if waiting:
                        process = _Process(options, workers)
                        processes.append(process)
                elif waiting:
                    process.send(waiting.popleft())
                else:
                    process.close()
                    processes.remove(process)
    finally:
        for process in processes:
            process.close()
        for process in processes:
            process.end()


class _Process:
    """A process that segments one case at a time, seen from outside."""

    def __init__(self, options: Options, workers: int) -> None:
        # Spawned: a forked process would inherit thread pools that no longer work.
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._case: Case | None = None
        self.died = False
        self._process = context.Process(
            target=_serve, args=(theirs, options, workers), name="fobsam batch", daemon=True
        )
        with _uninterrupted():
            self._process.start()
        theirs.close()

    def send(self, case: Case) -> None:
        """Give it a case; whether it lives is known when its answer is asked for."""
        self._case = case
        with contextlib.suppress(OSError):
            self.connection.send(case)

    def receive(self) -> Outcome | FoBSAMError | None:
        """The outcome of its case, or why it cannot work; None once its models are loaded."""
        try:
            answer: Outcome | FoBSAMError | None = self.connection.recv()
        except (EOFError, OSError):
            self.died = True
            self.end()
            if self._case is None:
                return FoBSAMError("worker_died", "A process died while it loaded the models.", "")
            return Outcome(self._case.name, "failed", error=DIED)
        self._case = None
        return answer

    def close(self) -> None:
        """Have it end; it is asked for nothing more."""
        self.connection.close()

    def end(self) -> None:
        """Wait for it, not forever, and not at all where it has no case to leave in order."""
        if self._case is None:
            self._process.kill()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process started meanwhile does not hear Ctrl-C, which is for the one that began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """Where the process that began is killed this one may be loading, and hears of it late."""
    if parent := parent_process():
        parent.join()
        time.sleep(GRACE)
        os._exit(1)


def _serve(connection: Connection, options: Options, workers: int) -> None:
    """What the process does: ends, between two slices, when the other side closes or is gone."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        try:
            import torch

            from FoBSAMLib.batch.worker import Worker

            keep_freed_memory()
            # As many as there are, or as OMP_NUM_THREADS says.
            worker = Worker(options, max(1, torch.get_num_threads() // workers))
        except FoBSAMError as error:
            connection.send(error)
            return
        connection.send(None)
        while True:
            connection.send(worker.run(connection.recv(), connection.poll))
