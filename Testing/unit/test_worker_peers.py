"""What a client and a worker make of a peer that is none, is of another version, or errs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import worker_faults

from FoBSAMLib import FoBSAMError, Support, Volume, WorkerSession
from FoBSAMLib.worker import frames
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.frames import MAGIC, PREFIX

SCRIPTED = worker_faults.SCRIPTED


@pytest.fixture
def scan() -> tuple[Volume, Support]:
    volume = worker_faults.volume()
    return volume, worker_faults.support(volume)


@pytest.fixture(autouse=True)
def path_of_this_checkout(monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-program-here"], r"cannot be started: no-such-program-here"),
        (
            ["sh", "-c", "echo no fobsam on host17 >&2; exit 127"],
            r"status 127.*no fobsam on host17",
        ),
        (["sh", "-c", "kill -9 $$"], r"signal 9 \(SIGKILL\)"),
        (["echo", "Welcome to host17, today is Monday"], r"answers 'Welcome to host1"),
        (["true"], r"ended unexpectedly \(exit status 0\)"),
        (["cat"], r"hands back"),
    ],
)
def test_commands_that_start_no_worker(command, says):
    began = time.monotonic()
    with pytest.raises(FoBSAMError, match=says) as caught:
        WorkerSession(command=command)
    assert time.monotonic() - began < 60
    assert caught.value.hint


def test_a_banner_before_the_worker_speaks_is_named(environment):
    relay = str(Path(worker_faults.__file__).with_name("relay.py"))
    command = [sys.executable, relay, "--fault", "banner", "--", *SCRIPTED]
    with pytest.raises(FoBSAMError, match="Welcome to host17") as caught:
        WorkerSession(command=command)
    assert "start-up file" in caught.value.hint


@pytest.mark.parametrize(
    "reply",
    [
        b'{"type":"done","id":1,"values":[1]}',
        b'{"type":"error","id":0,"code":"bad_request","message":"What?"}',
    ],
)
def test_replies_that_make_no_sense_end_the_worker(reply):
    said = m.Hello(1, version="1", pid=1).frame() + PREFIX.pack(MAGIC, len(reply), 0) + reply
    code = f"import sys; sys.stdout.buffer.write({said!r}); sys.stdout.flush(); sys.stdin.read()"
    with pytest.raises(FoBSAMError, match="do not understand each other") as caught:
        WorkerSession(command=[sys.executable, "-c", code], start_patience=5)
    assert caught.value.code == "worker_died"


@pytest.mark.parametrize("command", ["ssh host fobsam worker", []])
def test_a_command_is_a_list(command):
    with pytest.raises(FoBSAMError, match="command"):
        WorkerSession(command=command)


def test_refused_supports_are_forgotten_on_both_sides(scan, monkeypatch):
    volume, support = scan
    with WorkerSession(command=SCRIPTED) as session:
        session.set_image(volume)
        session.set_supports(support)
        with monkeypatch.context() as patch:
            patch.setattr(m, "SMALL_PAYLOAD", 0)
            patch.setattr(frames, "MAX_HEADER", 100)
            with pytest.raises(FoBSAMError, match="too much"):
                session.set_supports(support)
        with pytest.raises(FoBSAMError, match="no support"):
            list(session.segment())
        session.set_supports(support)
        assert len(list(session.segment())) == 22


def test_out_of_memory_in_a_worker_is_no_bug(scan, environment):
    volume, support = scan
    code = (
        "import scripted_worker as s, worker_faults\n"
        "def full(*a, **k): raise RuntimeError('CUDA out of memory. Tried to allocate 9 GB')\n"
        "s.ScriptedSession.suggest = full\n"
        "s.serve_standard_streams(lambda *n: s.ScriptedSession(0), idle=60)"
    )
    here = str(Path(worker_faults.__file__).parent)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{code}"]
    with WorkerSession(command=command) as session:
        session.set_image(volume)
        session.set_supports(support)
        with pytest.raises(FoBSAMError) as caught:
            session.suggest("ball")
        assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)


def test_a_restart_is_told(scan):
    volume, support = scan
    with WorkerSession(command=SCRIPTED) as session:
        session.set_image(volume)
        session.set_supports(support)
        for number, _ in enumerate(session.segment()):
            if number == 4:
                worker_faults.process_of(session).kill()
        assert "SIGKILL" in session.notes[0]
        assert "another worker" in session.log
        list(session.segment())
        assert session.notes == []


def test_a_worker_that_never_greets_is_given_up():
    with pytest.raises(FoBSAMError, match="no sign of life") as caught:
        WorkerSession(command=["sleep", "60"], start_patience=0.5)
    assert caught.value.code == "worker_died"


def test_a_worker_of_another_protocol_is_refused():
    hello = m.Hello(1, protocol=7, oldest=6, version="9.9", pid=1).frame()
    code = f"import sys, time; sys.stdout.buffer.write({hello!r}); sys.stdout.flush(); input()"
    with pytest.raises(FoBSAMError, match=r"FoBSAM 9\.9") as caught:
        WorkerSession(command=[sys.executable, "-c", code])
    assert caught.value.code == "version_mismatch"


def test_a_client_of_another_protocol_is_refused(environment):
    process = subprocess.run(
        SCRIPTED,
        input=m.Hello(5, protocol=7, oldest=6, version="9.9").frame(),
        env=environment,
        capture_output=True,
        timeout=120,
    )
    answers = [a.message for a in m.Decoder(m.REPLIES).feed(process.stdout)]
    assert [(a.id, a.code) for a in answers if isinstance(a, m.Failed)] == [(5, "version_mismatch")]


def test_requests_that_make_no_sense_are_answered_one_by_one(environment):
    requests = [
        m.Segment(1).frame(),
        m.Hello(2, generator="x", segmenter="y").frame(),
        m.Suggest(3, "x").frame(),
        m.SetSupports(4, "unknown", "k", (), (), {}).frame(),
        m.Restore(5, 0, 0, (0, 0, 0, 0), (), (), 1.0, 1.0, 1.0).frame(),
        m.SetImage(6, "key", (1, 2, 3), "<i2", (1.0,) * 16).frame(),
        m.SetImage(7, "key", (6,), "|u1", (1.0,) * 16).frame(b"123456"),
        m.SetImage(8, "key", (1, 2, 3), "|u1", (1.0,) * 16, modality="xray").frame(b"123456"),
        m.Segment(9, slices=(1, 2, 0)).frame(),
        m.Correct(10, "ball", 3, (), ()).frame(),
        m.Progress(11, 1, 2).frame(),
        m.Ping(12).frame(),
    ]
    process = subprocess.Popen(
        SCRIPTED,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    with process:
        process.stdin.write(b"".join(requests))
        process.stdin.flush()
        decoder, ends = m.Decoder(m.REPLIES), {}
        while len(ends) < len(requests):
            for answer in decoder.feed(process.stdout.read1()):
                if not isinstance(answer.message, m.Hello):
                    ends[answer.message.id] = getattr(answer.message, "code", "done")
        process.stdin.close()
    assert ends.pop(10) == "internal"  # the scripted session's own mistake, as any bug would be
    assert {number for number, end in ends.items() if end == "done"} == {2, 3, 12}
    assert set(ends.values()) == {"done", "bad_request"}


def test_garbage_ends_the_worker_and_is_told(environment):
    process = subprocess.run(
        SCRIPTED, input=b"GET / HTTP/1.1\r\n\r\n", env=environment, capture_output=True, timeout=120
    )
    (answer,) = m.Decoder(m.REPLIES).feed(process.stdout)
    assert (answer.message.id, answer.message.code) == (0, "bad_request")
    assert b"no message of this protocol" in process.stderr
