"""A worker as a QProcess: real processes, on Qt's event loop and without it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import standin
import worker_faults

standin.require()
standin.install()

from FoBSAMLib import FoBSAMError, WorkerSession  # noqa: E402
from FoBSAMLib.background.process import ProcessTransport  # noqa: E402
from FoBSAMLib.worker import transport as seam  # noqa: E402

HERE = Path(__file__).resolve().parent
#: A program that hands back what it is given, in pieces of any size.
ECHO = "import os\nwhile d := os.read(0, 1 << 16): os.write(1, d)"
#: Where processes are counted.
linux = pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def made() -> Iterator[Callable[..., ProcessTransport]]:
    """Makes transports that are ended with the test."""
    transports: list[ProcessTransport] = []

    def make(*arguments: object) -> ProcessTransport:
        transports.append(ProcessTransport(*arguments))
        return transports[-1]

    yield make
    for transport in transports:
        transport.kill()
    standin.raise_caught()


def hear(transport: ProcessTransport, size: int, seconds: float = 20.0) -> bytes:
    """What comes, up to ``size`` bytes or the end, while the event loop runs."""
    heard = bytearray()

    def enough() -> bool:
        while (data := transport.read(0.0)) is not None:
            if not data:
                return True
            heard.extend(data)
        return len(heard) >= size

    standin.wait_until(enough, seconds)
    return bytes(heard)


def pid_of(transport: ProcessTransport) -> int:
    return int(transport._process.processId())


def gone(*pids: int) -> Callable[[], bool]:
    return lambda: all(map(worker_faults.is_gone, pids))


def voxels() -> np.ndarray:
    """20 MB, a third of it zeros, as images are."""
    values = np.random.default_rng(0).integers(-1000, 1000, (40, 512, 512)).astype(np.int16)
    values[values < -350] = 0
    return values


@pytest.mark.parametrize("patient", [False, True])
def test_voxels_arrive_as_they_were_sent(made, patient):
    transport = made(python(ECHO))
    transport.start()
    sent = voxels()
    transport.write([b"head\0", *sent, memoryview(b"\0"), b"tail"])
    size = sent.nbytes + 10
    heard = bytearray() if patient else hear(transport, size)
    while patient and len(heard) < size:  # without an event loop, as in a script
        heard += transport.read(0.05) or b""
    assert heard == b"head\0" + sent.tobytes() + b"\0tail"
    assert transport.written() == size


def test_no_more_pieces_are_taken_than_are_sent_soon(made):
    transport = made(python("import time; time.sleep(60)"))
    transport.start()
    taken = []
    transport.write(taken.append(n) or bytes(1 << 18) for n in range(1000))
    standin.wait(0.1)
    assert len(taken) <= 6
    assert transport.written() <= 1 << 20


def test_it_is_told_that_something_has_come(made):
    told = []
    transport = made(python(ECHO), lambda: told.append(transport.read(0.0)))
    transport.start()
    transport.write([b"one"])
    standin.wait_until(lambda: b"one" in told)
    os.kill(pid_of(transport), signal.SIGKILL)
    standin.wait_until(lambda: told[-1] == b"")


def test_a_program_that_is_not_there(made):
    transport = made(["no-such-program-here"])
    transport.start()
    with pytest.raises(FoBSAMError, match="no-such-program-here") as caught:
        standin.wait_until(lambda: transport.read(0.0))
    assert caught.value.code == "bad_request"
    transport.close()
    assert transport.read(0.0) == b""
    transport.command = python(ECHO)
    transport.start()
    transport.write([b"after all"])
    assert hear(transport, 9) == b"after all"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('Welcome to host17'); import time; time.sleep(60)", "'Welcome to host17'"),
        ("import sys; sys.exit('no torch here')", r"exit status 1.*no torch here"),
        ("import os; os.kill(os.getpid(), 9)", r"SIGKILL"),
        (ECHO, "hands back what it is given"),
    ],
)
def test_a_program_that_is_no_worker(made, code, says):
    with pytest.raises(FoBSAMError, match=says) as caught:
        WorkerSession(transport=made(python(code)))
    assert caught.value.code == "worker_died"


def test_the_log_is_kept_apart_and_does_not_grow(made):
    code = "import sys\nfor n in range(100000): print(n, file=sys.stderr)\n"
    code += "print('said', end='', flush=True)\nsys.stderr.write('x' * 5_000_000)"
    transport = made(python(code))
    transport.start()
    assert hear(transport, 10) == b"said"
    lines = transport.log().splitlines()
    assert lines[-2] == "99999"
    assert len(lines) <= seam.LOG_LINES + 1
    assert len(transport.log()) <= seam.CHUNK + 7 * seam.LOG_LINES
    assert transport.close() == "exit status 0"


def test_what_a_worker_says_last_is_heard(made):
    transport = made(python("import os; os.write(1, bytes(3_000_000)); os.write(2, b'bye')"))
    transport.start()
    assert len(hear(transport, 4_000_000)) == 3_000_000
    assert transport.close() == "exit status 0"
    assert transport.log() == "bye"


def stopped(made: Callable[..., ProcessTransport]) -> ProcessTransport:
    """A worker that takes nothing and hears nothing, with much to be sent."""
    transport = made(python(ECHO))
    transport.start()
    os.kill(pid_of(transport), signal.SIGSTOP)
    transport.write(voxels())
    standin.wait(0.05)
    return transport


@linux
def test_a_worker_that_hangs_holds_up_nothing(made):
    transport = stopped(made)
    pid = pid_of(transport)
    began = time.perf_counter()
    assert transport.close(1.0) == "told to end"
    assert time.perf_counter() - began < 1.0, "it was not waited for"
    assert not gone(pid)()
    with standin.Responsiveness() as loop:
        standin.wait_until(gone(pid), 30.0)
    assert loop.longest < 1.0, "it was killed when its time was up, and not waited for"


@linux
def test_a_worker_ends_by_itself_once_nobody_wants_it(made):
    transport = made(python(ECHO + "\nimport time; time.sleep(0.2); print('saved')"))
    transport.start()
    pid = pid_of(transport)
    assert transport.close(20.0) == "told to end"
    standin.wait_until(gone(pid), 30.0)


@linux
def test_no_process_outlives_the_application(made):
    transport = stopped(made)
    pids = [pid_of(transport)]
    transport.close()
    transport.start()  # the next one, while the first is still being waited for
    pids.append(pid_of(transport))
    transport.kill()
    assert gone(*pids)()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), "and no zombies"


@linux
@pytest.mark.parametrize("killed_by", ["kill", "close"])
def test_the_worker_behind_a_launcher_ends_with_it(made, tmp_path, monkeypatch, killed_by):
    launcher = tmp_path / "launcher.sh"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit 7\n')
    launcher.chmod(0o755)
    # Its parent's death would end the real worker: here it has to be killed.
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    monkeypatch.setattr(
        "FoBSAMLib.background.process.worker_command", lambda: [str(launcher), "-c", code]
    )
    transport = made()
    transport.start()
    worker, shell = int(hear(transport, 2)), pid_of(transport)
    assert worker != shell
    transport.know_pid(worker)
    getattr(transport, killed_by)(*[0.2] * (killed_by == "close"))
    standin.wait_until(gone(worker, shell), 30.0)


@linux
def test_the_process_id_of_another_machine_is_left_alone(made):
    transport = made(python(ECHO))
    bystander = made(python(ECHO))
    transport.start()
    bystander.start()
    transport.know_pid(pid_of(bystander))
    transport.kill()
    assert not gone(pid_of(bystander))()


@linux
def test_many_workers_one_after_the_other_leave_nothing(made, monkeypatch):
    monkeypatch.setenv("FOBSAM_ROUND", "many workers")
    transport = made(python(ECHO))

    def cycle(n: int) -> None:
        transport.start()
        transport.write([b"here"])
        assert hear(transport, 4) == b"here"
        transport.close(*[[], [0.0], [0.01]][n % 3])

    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    cycle(0)
    standin.wait_until(lambda: not worker_faults.left_behind("many workers"))
    before = files()
    for n in range(30):
        cycle(n)
    standin.wait_until(lambda: not worker_faults.left_behind("many workers"))

    def nothing_left() -> bool:
        transport.close()  # forgets those whose end Qt has noticed
        return not transport._ending and files() <= before

    standin.wait_until(nothing_left)


@linux
@pytest.mark.parametrize("fault", [f for f in worker_faults.FAULTS if f != "parent killed"])
def test_faults_of_a_worker(fault, monkeypatch, environment):
    monkeypatch.setattr(worker_faults, "new_transport", ProcessTransport)
    monkeypatch.setattr(worker_faults, "pause", lambda: standin.wait(0.01))
    worker_faults.run_round(fault, 1, worker_faults.SCRIPTED)
