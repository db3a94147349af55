"""What may befall a worker, at random moments; every round checks that nothing is lost or left.

``python Testing/unit/worker_faults.py --rounds 300 [--real] [--json FILE]`` runs many.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import phantom

from FoBSAMLib import FoBSAMError, Support, Volume, WorkerSession
from FoBSAMLib.worker.transport import SubprocessTransport, Transport

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
#: A worker without torch, at 10 ms a slice.
SCRIPTED = (sys.executable, str(HERE / "scripted_worker.py"), "0.01")
REAL = (sys.executable, "-m", "FoBSAMLib", "worker")
#: Longest that a round may take, beside so many starts of a worker.
LIMIT, STARTS = 30.0, 4


def volume() -> Volume:
    return Volume.from_array(phantom.voxels())


def support(image: Volume) -> Support:
    return Support.from_masks(
        image,
        {
            "ball": phantom.drawn() == phantom.BALL,
            "egg": phantom.drawn() == phantom.EGG,
        },
    )


def new_transport(command: tuple[str, ...]) -> Transport:
    return SubprocessTransport(command)


def pause() -> None:
    time.sleep(0.01)


def session(command: tuple[str, ...], **options: Any) -> WorkerSession:
    os.environ["PYTHONPATH"] = str(ROOT)
    return WorkerSession(transport=new_transport(command), **options)


def process_of(running: WorkerSession) -> subprocess.Popen[bytes]:
    transport = running._conversation._transport
    assert isinstance(transport, SubprocessTransport)
    assert transport._process is not None
    return transport._process


def pid_of(running: WorkerSession) -> int:
    """Of the worker of a session, whatever started it."""
    process: Any = running._conversation._transport._process  # type: ignore[attr-defined]
    return int(process.pid if isinstance(process, subprocess.Popen) else process.processId())


def left_behind(mark: str) -> list[str]:
    """Command lines of processes with a mark in their environment, but this one; zombies too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            marked = mark.encode() in (folder / "environ").read_bytes()
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        zombie = state == "Z" and int(parent) == os.getpid()
        if zombie or (marked and int(folder.name) != os.getpid()):
            found.append(line or "zombie")
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(true: Callable[[], bool], seconds: float) -> float:
    """How long it took; fails after so many seconds."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not so within {seconds} s"
        pause()
    return time.monotonic() - began


def kill_once(rng: random.Random, command: tuple[str, ...], sign: int = signal.SIGKILL) -> None:
    """One worker dies, or stops, in the middle: all results come, each once."""
    image = volume()
    with session(command, patience=0.6 if sign == signal.SIGSTOP else 30.0) as running:
        running.set_image(image)
        running.set_supports(support(image))
        expected = [(r.structure.name, r.index) for r in running.segment()]
        at, found = rng.randrange(len(expected)), []
        for number, result in enumerate(running.segment()):
            found.append((result.structure.name, result.index))
            if number == at:
                time.sleep(rng.random() * 0.02)
                os.kill(pid_of(running), sign)
        assert found == expected
        assert running.suggest("ball") is not None


def stop_once(rng: random.Random, command: tuple[str, ...]) -> None:
    kill_once(rng, command, signal.SIGSTOP)


def kill_always(rng: random.Random, command: tuple[str, ...]) -> None:
    """Each worker dies: an error says so, what was found stays, the next call works."""
    image = volume()
    with session(command) as running:
        running.set_image(image)
        running.set_supports(support(image))
        found = 0
        killed: set[int] = set()
        told = None
        try:
            for _ in running.segment():
                found += 1
                pid = pid_of(running)
                if pid not in killed:
                    killed.add(pid)
                    os.kill(pid, signal.SIGKILL)
                    wait_until(lambda pid=pid: is_gone(pid), 30.0)
        except FoBSAMError as error:
            told = error
        assert told is not None
        assert told.code == "worker_died"
        assert "SIGKILL" in told.message
        assert len(killed) == 2
        assert sum(len(running.results(name)) for name in ("ball", "egg")) == found
        assert list(running.segment(["ball"]))


def kill_idle(rng: random.Random, command: tuple[str, ...]) -> None:
    """A worker dies between two requests: the next one is answered all the same."""
    image = volume()
    with session(command) as running:
        running.set_image(image)
        running.set_supports(support(image))
        found = list(running.segment(["ball"]))
        os.kill(pid_of(running), signal.SIGKILL)
        time.sleep(rng.random() * 0.05)
        corrected = running.correct("ball", found[0].index, found[0].prompts)
        assert corrected.index == found[0].index
        assert running.suggest("ball") is not None


def relayed(*options: str) -> Callable[[random.Random, tuple[str, ...]], None]:
    """What a pipe does at a random place in what the worker says; each worker meets it, so that
    either all results come or an error does."""

    def round_(rng: random.Random, command: tuple[str, ...]) -> None:
        image = volume()
        fault = [*options, "--after", str(rng.randrange(600, 9000)), "--piece", "3000"]
        relay = (sys.executable, str(HERE / "relay.py"), *fault, "--", *command)
        found = set()
        told = None
        try:
            with session(relay, patience=0.8) as running:
                running.set_image(image)
                running.set_supports(support(image))
                for result in running.segment():
                    key = (result.structure.name, result.index)
                    assert key not in found
                    found.add(key)
        except FoBSAMError as error:
            told = error
        if told is not None:
            assert told.code == "worker_died", told
        else:
            assert len(found) == 2 * (phantom.SHAPE[0] - 1)

    return round_


def cancel(rng: random.Random, command: tuple[str, ...]) -> None:
    """Cancelled at any moment, the worker stays, and its next answer is whole."""
    image = volume()
    with session(command) as running:
        running.set_image(image)
        running.set_supports(support(image))
        whole = [(r.structure.name, r.index) for r in running.segment()]
        pid = pid_of(running)
        for _ in range(3):
            deadline = time.monotonic() + rng.random() * 0.2
            list(running.segment(cancel=lambda end=deadline: time.monotonic() > end))
            for number, _ in enumerate(running.segment()):
                if number >= rng.randrange(4):
                    break
        assert [(r.structure.name, r.index) for r in running.segment()] == whole
        assert pid_of(running) == pid


def parent_dies(rng: random.Random, command: tuple[str, ...]) -> None:
    """The client's process is killed: its worker is gone within two seconds."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import worker_faults as w\n"
        f"image = w.volume(); s = w.session({command!r})\n"
        "s.set_image(image); s.set_supports(w.support(image))\n"
        "print(w.process_of(s).pid, flush=True)\n"
        "while True: list(s.segment())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        time.sleep(rng.random() * 0.3)
        parent.kill()
    wait_until(lambda: is_gone(pid), 30.0)


def nobody_reads(rng: random.Random, command: tuple[str, ...]) -> None:
    """A client that takes no answers (its pipe is full) and goes: the worker goes too."""
    from FoBSAMLib.worker import messages as m
    from FoBSAMLib.worker import payloads

    noise = np.random.default_rng(rng.randrange(1000)).integers(0, 255, (60, 96, 96))
    image = Volume.from_array(noise.astype(np.uint8))
    mask = np.zeros(noise.shape, bool)
    mask[30] = noise[30] > 127
    drawn = Support.from_masks(image, {"noise": mask}, "k")
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    )
    assert process.stdin is not None
    with process:
        hello = m.Hello(1, generator="fob-lite", segmenter="compact", device="cpu")
        process.stdin.write(hello.frame())
        message = payloads.image_message(2, image, image.content_key(), select=True)
        for piece in payloads.image_pieces(message, image):
            process.stdin.write(piece)
        supports, packed = payloads.support_message(3, drawn)
        process.stdin.write(supports.frame(packed))
        for number in range(4, 40):
            process.stdin.write(m.Segment(number).frame())
        process.stdin.flush()
        time.sleep(0.5 + rng.random())
        assert process.poll() is None
        process.stdin.close()
        wait_until(lambda: process.poll() is not None, 30.0)


FAULTS: dict[str, Callable[[random.Random, tuple[str, ...]], None]] = {
    "kill -9, once": kill_once,
    "kill -9, every worker": kill_always,
    "kill -9, idle": kill_idle,
    "kill -STOP": stop_once,
    "cancel": cancel,
    "parent killed": parent_dies,
    "answers not read": nobody_reads,
    "answers end": relayed("--fault", "close"),
    "answers stop": relayed("--fault", "silence"),
    "garbage in the answers": relayed("--fault", "garbage"),
    "slow, in small pieces": relayed("--pause", "0.002"),
}


@functools.cache
def start_of(command: tuple[str, ...]) -> float:
    """Seconds that a worker takes to start here."""
    began = time.monotonic()
    session(command).close()
    return time.monotonic() - began


def run_round(name: str, seed: int, command: tuple[str, ...]) -> float:
    """One round, and whether it left a process behind; how long it took."""
    began = time.monotonic()
    mark = os.environ["FOBSAM_ROUND"] = uuid.uuid4().hex
    FAULTS[name](random.Random(seed), command)
    seconds = time.monotonic() - began
    limit = LIMIT + STARTS * start_of(command)
    assert seconds < limit, f"{name} took {seconds:.0f} s, at most {limit:.0f} are right"
    wait_until(lambda: not left_behind(mark), 30.0)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--real", action="store_true", help="the real worker, default model")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names = list(FAULTS)
    longest: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    failed = []
    for seed in range(given.rounds):
        name = names[seed % len(names)]
        try:
            seconds = run_round(name, seed, REAL if given.real else SCRIPTED)
        except (AssertionError, FoBSAMError, OSError) as error:
            failed.append({"fault": name, "seed": seed, "what": str(error)})
            continue
        counts[name] += 1
        longest[name] = max(longest[name], round(seconds, 2))  # type: ignore[assignment]
        print(f"{seed + 1} of {given.rounds}: {name}, {seconds:.1f} s", flush=True)
    document = {
        "command": "python " + " ".join(["Testing/unit/worker_faults.py", *sys.argv[1:]]),
        "worker": "default model" if given.real else "scripted, without torch",
        "rounds": given.rounds,
        "failed": failed,
        "went_well": counts,
        "longest_seconds": longest,
    }
    text = json.dumps(document, indent=1)
    print(text)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
