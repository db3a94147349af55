"""``fobsam batch --ray`` on a real Ray, started here."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import phantom
import pytest

from FoBSAMLib.batch import cluster
from FoBSAMLib.batch.cases import Drawing, Options
from FoBSAMLib.batch.command import run
from FoBSAMLib.batch.outcome import Outcome


@pytest.fixture
def scans(tmp_path: Path) -> list[Drawing]:
    """An annotated scan, and a folder with four others, of which one cannot be read."""
    (tmp_path / "in").mkdir()
    for n in range(1, 5):
        phantom.save(tmp_path / "in" / f"c{n}.nii.gz", phantom.voxels(seed=n))
    (tmp_path / "in" / "c4.nii.gz").write_bytes(b"no image")
    image = phantom.save(tmp_path / "mr.nii.gz", phantom.voxels(seed=9))
    return [Drawing(image, phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn()))]


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """By which the processes of a test's own Ray are known."""
    pytest.importorskip("ray", reason="ray is not installed")
    name = f"FOBSAM_TEST={uuid.uuid4().hex}"
    monkeypatch.setenv(*name.split("="))
    return name.encode()


def actors(mark: bytes, doing: str = "") -> list[int]:
    """Processes of the actors, all or those that run a method."""
    title = f"ray::RayWorker{doing}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            started = (folder / "cmdline").read_bytes().startswith(title)
            if started and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # gone, or not ours
            continue
    return found


class KillOne:
    """Kills an actor that is at a case, once another case is done."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self.killed = 0

    def __call__(self, done: int, total: int, outcome: Outcome | None) -> None:
        if self.killed or outcome is None or outcome.state != "done":
            return
        deadline = time.monotonic() + 30
        while not (busy := actors(self._mark, ".run")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.killed = busy[0]
        os.kill(self.killed, signal.SIGKILL)


def test_the_case_of_an_actor_that_dies_is_done_by_another(scans, mark, tmp_path):
    kill_one = KillOne(mark)
    outcomes = run(
        tmp_path / "in",
        tmp_path / "out",
        scans,
        Options(labels=("2",)),
        workers=2,
        ray="local",
        progress=kill_one,
    )
    assert kill_one.killed
    assert {one.case: one.state for one in outcomes} == {
        "c1": "done",
        "c2": "done",
        "c3": "done",
        "c4": "failed",
    }
    assert "cannot be read" in outcomes[-1].error
    deadline = time.monotonic() + 30
    while actors(mark):  # nothing is left running
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_case_that_kills_its_actors_is_given_up(scans, mark, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ATTEMPTS", 1)
    kill_one = KillOne(mark)
    (tmp_path / "in" / "c4.nii.gz").unlink()
    outcomes = run(
        tmp_path / "in",
        tmp_path / "out",
        scans,
        Options(labels=("2",)),
        ray="local",
        progress=kill_one,
    )
    assert [one.state for one in outcomes] == ["done", "failed", "done"]
    assert "workers died of it" in outcomes[1].error


def test_models_that_cannot_be_loaded_end_it(scans, mark, fobsam):
    arguments = ("--support-image", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out")
    result = fobsam("batch", "in", *arguments, "--ray", "local", "--segmenter", "no")
    assert result.returncode == 1
    assert "no segmenter" in result.stderr


def test_what_no_node_has_is_told(scans, mark, fobsam):
    drawing = scans[0]
    shared = ("--support-image", drawing.image, "--support", drawing.support)
    result = fobsam(
        "batch", "in", *shared, "--output", "out", "--ray", "local", "--gpus-per-worker", 64
    )
    assert result.returncode == 1
    assert "No node of the cluster has 1 CPUs and 64 GPUs" in result.stderr


def test_a_cluster_that_does_not_answer(scans, mark, fobsam):
    arguments = ("--support-image", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out")
    result = fobsam("batch", "in", *arguments, "--ray", "127.0.0.1:1")
    assert result.returncode == 1
    assert "No Ray cluster answers at 127.0.0.1:1" in result.stderr


def test_without_ray_it_says_how_to_get_it(scans, fobsam, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ("--support-image", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out")
    result = fobsam("batch", "in", *arguments, "--ray", "local")
    assert result.returncode == 1
    assert "--ray needs the package ray" in result.stderr
