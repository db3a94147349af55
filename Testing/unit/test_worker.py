"""The worker as a process: how it starts, stays, is told to stop, and what befalls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import phantom
import pytest
import worker_faults

from FoBSAMLib import Support, Volume, WorkerSession
from FoBSAMLib.image.io import read_segmentation
from FoBSAMLib.worker import messages as m
from FoBSAMLib.worker.transport import SubprocessTransport

SCRIPTED, REAL = worker_faults.SCRIPTED, worker_faults.REAL


@pytest.fixture
def scan() -> tuple[Volume, Support]:
    volume = worker_faults.volume()
    return volume, worker_faults.support(volume)


@pytest.fixture(autouse=True)
def path_of_this_checkout(monkeypatch, environment):
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])


def memory_of(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_client_needs_no_torch(environment):
    code = (
        "import sys; from FoBSAMLib import WorkerSession, segment, Support, Volume\n"
        "import FoBSAMLib.session.oneshot, FoBSAMLib.worker.transcript\n"
        "print([m for m in ('torch', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout.strip() == b"[]", done.stderr


def test_voxels_are_sent_once(scan):
    volume, support = scan
    large = Volume.from_array(np.random.default_rng(0).integers(0, 99, (40, 200, 200)))
    transport = SubprocessTransport(SCRIPTED)
    with WorkerSession(transport=transport) as session:

        def sent(*volumes: Volume) -> int:
            before = transport.written()
            for one in volumes:
                session.set_image(one)
            time.sleep(0.05)
            return transport.written() - before

        size = large.array.nbytes
        assert size < sent(large) < size + 2000
        assert sent(large, Volume.from_array(large.array.copy(), name="again")) < 2000
        assert sent(volume) > volume.array.nbytes
        assert sent(large, volume, large) < 3000  # it keeps two
        session.set_image(volume)
        session.set_supports(support)
        # After a crash the voxels are sent again by themselves.
        worker_faults.process_of(session).kill()
        assert len(list(session.segment(["ball"]))) == 11


def test_masks_are_small_on_the_way(scan):
    volume, support = scan
    recorded = SubprocessTransport(SCRIPTED)
    taken = []
    read = recorded.read
    recorded.read = lambda timeout: taken.append(read(timeout)) or taken[-1]  # type: ignore[method-assign]
    with WorkerSession(transport=recorded) as session:
        session.set_image(volume)
        session.set_supports(support)
        taken.clear()
        found = list(session.segment())
    assert sum(map(len, filter(None, taken))) < 500 * len(found) < sum(r.mask.size for r in found)


def test_what_libraries_print_is_the_log_and_disturbs_nothing(scan):
    volume, support = scan
    with WorkerSession(command=SCRIPTED) as session:
        session.set_image(volume)
        session.set_supports(support)
        assert list(session.segment(["egg"]))
        assert "looking for ['egg']" in session.log


def test_a_cancelled_worker_stays(scan):
    volume, support = scan
    with WorkerSession() as session:
        session.set_image(volume)
        session.set_supports(support)
        pid = worker_faults.process_of(session).pid
        found = []
        for result in session.segment(cancel=lambda: len(found) >= 2):
            found.append(result)
        assert len(found) < 22
        assert len(list(session.segment())) == 22
        assert worker_faults.process_of(session).pid == pid


def test_a_worker_answers_while_it_computes(scan):
    volume, support = scan
    with WorkerSession(command=(*SCRIPTED[:2], "1.0"), patience=0.5) as session:
        session.set_image(volume)
        session.set_supports(support)
        # A slice takes longer than the client's patience: pings tell that the worker lives.
        assert len(list(session.segment(["ball"], range(5, 8)))) == 2


def test_corrections_survive_the_worker_in_which_they_were_made(scan):
    volume, support = scan
    with WorkerSession() as session:
        session.set_image(volume)
        session.set_supports(support)
        found = {(r.structure.name, r.index): r for r in session.segment()}
        original = found["ball", 5]
        middle = np.argwhere(original.mask).mean(0)[::-1][None].astype(np.float32)
        edited = type(original.prompts)(middle, original.prompts.foreground)
        corrected = session.correct("ball", 5, edited)
        suggested = session.suggest("egg")
        worker_faults.process_of(session).kill()
        assert session.suggest("egg") == suggested
        np.testing.assert_array_equal(session.results("ball")[5].mask, corrected.mask)
        again = session.correct("ball", 5, original.prompts)
        np.testing.assert_array_equal(again.mask, original.mask)


def test_a_correction_does_not_wait_for_the_run_under_way(scan):
    volume, support = scan
    with WorkerSession(command=(*SCRIPTED[:2], "0.5")) as session:
        session.set_image(volume)
        session.set_supports(support)
        run = session.segment()
        first = next(run)
        began = time.monotonic()
        session.correct(first.structure.name, first.index, first.prompts)
        assert time.monotonic() - began < 8.0  # the run takes more than ten seconds
        # A new image stops the run before its next slice.
        session.set_image(volume)
        assert time.monotonic() - began < 10.0
        assert list(run) == []


def test_a_worker_that_dies_while_the_caller_holds_a_result(scan):
    volume, support = scan
    with WorkerSession(command=SCRIPTED) as session:
        session.set_image(volume)
        session.set_supports(support)
        found = []
        for result in session.segment():
            found.append((result.structure.name, result.index))
            if len(found) == 5:
                worker_faults.process_of(session).kill()
                session.correct(result.structure.name, result.index, result.prompts)
        assert len(found) == len(set(found)) == 22


@pytest.mark.parametrize("fault", list(worker_faults.FAULTS))
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_faults_of_a_scripted_worker(fault, seed):
    worker_faults.run_round(fault, seed, SCRIPTED)


@pytest.mark.parametrize("fault", ["kill -9, once", "kill -STOP", "parent killed", "cancel"])
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
def test_faults_of_the_real_worker(fault):
    worker_faults.run_round(fault, 7, REAL)


@pytest.mark.parametrize("command", [SCRIPTED, REAL])
def test_the_end_of_its_input_ends_the_worker(command, environment):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    )
    with process:
        hello = m.Hello(1, generator="fob-lite", segmenter="compact", device="cpu")
        process.stdin.write(hello.frame())
        process.stdin.flush()
        decoder = m.Decoder(m.REPLIES)
        answers = []
        while not any(isinstance(a.message, m.Done) for a in answers):
            answers += decoder.feed(process.stdout.read1())
        assert answers[0].message.pid == process.pid
        process.stdin.close()
        assert process.wait(30) == 0


def test_the_death_of_its_parent_ends_the_worker_though_its_pipes_live_on(environment):
    keeper = "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1)\n"
    keeper += "print(p.pid, file=sys.stderr, flush=True); time.sleep(60)"
    # The test holds the worker's pipes, the process in between is its parent.
    command = [sys.executable, "-c", keeper, *SCRIPTED]
    pipe = subprocess.PIPE
    parent = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    with parent:
        pid = int(parent.stderr.readline())
        parent.stdin.write(m.Ping(1).frame())
        parent.stdin.flush()
        assert parent.stdout.read1()
        parent.kill()
        worker_faults.wait_until(lambda: worker_faults.is_gone(pid), 30.0)


def test_a_worker_can_be_told_to_end(environment):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        SCRIPTED, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
    )
    with process:
        process.stdin.write(m.Shutdown(3).frame())
        process.stdin.flush()
        (answer,) = m.Decoder(m.REPLIES).feed(process.stdout.read())
        assert answer.message == m.Done(3)
        assert process.wait(30) == 0


def test_ctrl_c_is_for_the_client_alone(scan):
    volume, support = scan
    with WorkerSession(command=REAL) as session:
        os.kill(worker_faults.process_of(session).pid, signal.SIGINT)
        session.set_image(volume)
        session.set_supports(support)
        pid = worker_faults.process_of(session).pid
        assert len(list(session.segment(["ball"], range(5, 8)))) == 2
        assert worker_faults.process_of(session).pid == pid


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_worker_gives_its_memory_back_and_goes_on():
    large = Volume.from_array(phantom.voxels((60, 200, 200)))
    masks = {"ball": phantom.labels((60, 200, 200)) == phantom.BALL}
    masks["ball"][:30] = masks["ball"][31:] = False
    with WorkerSession(command=(*REAL, "--idle", "1")) as session:
        session.set_image(large)
        session.set_supports(Support.from_masks(large, masks, "k"))
        found = list(session.segment())
        pid = worker_faults.process_of(session).pid
        busy = memory_of(pid)
        worker_faults.wait_until(lambda: "memory given back" in session.log, 30.0)
        assert memory_of(pid) < busy - 50e6
        again = list(session.segment())
        assert worker_faults.process_of(session).pid == pid
        assert [r.mask.sum() for r in again] == [r.mask.sum() for r in found]


def test_nothing_is_written_to_disk(scan, tmp_path, environment, monkeypatch):
    volume, support = scan
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with WorkerSession() as session:
        session.set_image(volume)
        session.set_supports(support)
        list(session.segment(["ball"], range(4, 8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no safe path")
def test_a_folder_with_modules_of_its_own_does_not_mislead_the_worker(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    monkeypatch.chdir(tmp_path)
    with WorkerSession() as session:
        assert session.models["generator"] == "fob-lite"


def test_the_command_line_through_a_worker(fobsam, tmp_path):
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--report", "r.json")
    here = fobsam(*arguments, "--output", "here.seg.nrrd")
    assert here.returncode == 0, here.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    command = f"'{sys.executable}' -m FoBSAMLib worker"
    there = fobsam(*arguments, "--output", "there.seg.nrrd", "--worker", command)
    assert there.returncode == 0, there.stderr
    np.testing.assert_array_equal(
        read_segmentation(tmp_path / "here.seg.nrrd").layers,
        read_segmentation(tmp_path / "there.seg.nrrd").layers,
    )
    again = json.loads((tmp_path / "r.json").read_text())
    assert again["models"] == report["models"]
    assert "found in" in there.stdout


@pytest.mark.parametrize("command", ["", "'unclosed", "no-such-program-here"])
def test_the_command_line_with_a_wrong_worker(fobsam, tmp_path, command):
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.nii.gz")
    done = fobsam(*arguments, "--worker", command)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "worker" in done.stderr
    assert not (tmp_path / "out.nii.gz").exists()


def test_ctrl_c_stops_the_command_and_its_worker(tmp_path, environment):
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels((900, 128, 128)))
    drawn = phantom.labels((900, 128, 128))
    drawn[:450] = drawn[451:] = 0
    phantom.save(tmp_path / "drawn.nii.gz", drawn)
    worker = f"'{sys.executable}' -m FoBSAMLib worker"
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.nii.gz")
    process = subprocess.Popen(
        [sys.executable, "-m", "FoBSAMLib", *arguments, "--worker", worker],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        time.sleep(10)  # of a minute
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the worker, too
        assert process.wait(60) == 130
    assert not (tmp_path / "out.nii.gz").exists()


def test_a_worker_is_for_programs(fobsam, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    done = fobsam("worker")
    assert done.returncode == 2
    assert "--worker" in done.stderr
