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

CONFIG = {"steps": 10, "batch": 1, "warmup": 4}


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
    with safe_open(tmp_path / "run" / "fob-lite.safetensors", "pt") as weights:
        assert any(name.startswith("encoder.") for name in weights.keys())  # noqa: SIM118
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2
    assert (tmp_path / "run" / "curve.png").read_bytes().startswith(b"\x89PNG")
    trained_on = [file.name for file in (tmp_path / "run" / "prepared").iterdir()]
    assert trained_on == ["chaos_t2_image_1.npz"]


def test_ctrl_c_stops_training_with_one_line(tmp_path, data, environment):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "steps": 150}))
    arguments = ["train", "chaos", "data", "--output", "run", "--config", "config.json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "FoBSAMLib", *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "run" / "log.csv").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in shown
    assert "stopped" in shown


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
