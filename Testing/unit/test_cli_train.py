"""``fobsam train`` and ``fobsam evaluate``: what they read and leave behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import phantom
import pytest
from safetensors import safe_open

from FoBSAMLib.models.checkpoints import training_record

CONFIG = {"steps": 4, "batch": 1, "warmup": 2}
TRAIN = ["train", "chaos", "data", "--config", "config.json"]


@pytest.fixture
def data(tmp_path):
    """A data set of two subjects, as CHAOS is laid out."""
    folder = tmp_path / "data" / "chaos_t2"
    folder.mkdir(parents=True)
    for n in (1, 19):
        phantom.save(folder / f"image_{n}.nii.gz", phantom.voxels(seed=n))
        phantom.save(folder / f"label_{n}.nii.gz", phantom.labels())
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return folder.parent


def test_training_leaves_weights_log_and_curve(fobsam, tmp_path, data):
    result = fobsam("train", "chaos", data, "--output", "run", "--config", "config.json")
    assert result.returncode == 0, result.stderr
    assert "wrote run/fob-lite.safetensors" in result.stdout
    weights = tmp_path / "run" / "fob-lite.safetensors"
    with safe_open(weights, "pt") as file:
        assert any(name.startswith("encoder.") for name in file.keys())  # noqa: SIM118
    assert training_record(weights) == {
        "model": "fob-lite",
        "trained_on": {"chaos": [1]},
        "labels": {},
        "leave_out": {},
        "steps": 4,
        "command": "fobsam train chaos DIR --model fob-lite --setting I --no-labels",
    }
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    trained_on = [file.name for file in (tmp_path / "run" / "prepared").iterdir()]
    assert trained_on == ["chaos_1.npz"]


def test_another_run_in_the_output_is_told_before_anything_is_prepared(fobsam, tmp_path, data):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({**CONFIG, "steps": 9, "seed": 3}))
    (run / "state.pt").write_bytes(b"")
    result = fobsam("train", "chaos", data, "--output", "run", "--config", "config.json")
    assert result.returncode == 1
    assert "run holds a run with another steps, seed." in result.stderr
    assert not (run / "prepared").exists()


def test_torchrun_trains_in_several_processes(tmp_path, data, environment):
    arguments = [*TRAIN, "--output", "run"]
    arguments += ["--setting", "II", "--test-organ", "spleen"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "FoBSAMLib", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote run/fob-lite.safetensors") == 1
    record = training_record(tmp_path / "run" / "fob-lite.safetensors")
    assert record["leave_out"] == {"chaos": ["spleen"]}
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2


def test_ctrl_c_stops_training_with_one_line(tmp_path, data, environment):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "steps": 1000}))
    arguments = [*TRAIN, "--output", "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "FoBSAMLib", *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "run" / "config.json").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(2)  # into the first steps
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in shown
    assert "stopped" in shown


def test_setting_two_needs_slices_without_the_test_organ(fobsam, data):
    result = fobsam(*TRAIN, "--setting", "II", "--test-organ", "liver")
    assert result.returncode == 1
    assert "nothing is left to train on" in result.stderr.splitlines()[-1]
    assert "hold liver" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "chas", "data"], "chaos"),
        (["train", "sabs", "nowhere"], "nowhere"),
        (["train", "chaos", "data", "--config", "nowhere.json"], "nowhere.json"),
        (
            ["train", "chaos", "data", "--config", "config.json", "--output", "config.json/run"],
            "config.json/run",
        ),
        (["train", "chaos", "data", "--setting", "II"], "--test-organ"),
        (["train", "chaos", "data", "--test-organ", "liver"], "--setting II"),
        ([*TRAIN, "--setting", "II", "--test-organ", "brain"], "brain"),
        (["train", "chaos", "data", "--fold", "9"], "1 to 5"),
        (["train", "chaos", "data", "--fold", "1"], "No subject of chaos is left"),
        (["train", "chaos", "data", "--initial", "config.json"], "--model fob-paper"),
        (["train", "chaos", "data", "--model", "fob-paper", "--initial", "no.pth"], "no.pth"),
        (["evaluate", "chas", "data"], "chaos"),
        (["evaluate", "sabs", "nowhere"], "nowhere"),
        (["evaluate", "chaos", "data", "--subject", "7"], "7"),
        (["evaluate", "chaos", "data", "--subject", "19", "--organ", "brain"], "brain"),
        (["evaluate", "chaos", "data", "--subject", "19", "--method", "magic"], "magic"),
        (["evaluate", "chaos", "data", "--subject", "19", "--json", "no/where.json"], "no/where"),
    ],
)
def test_bad_input_is_one_line(fobsam, tmp_path, data, arguments, word):
    result = fobsam(*arguments)
    assert result.returncode in (1, 2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert word in line
    assert "bug" not in line
