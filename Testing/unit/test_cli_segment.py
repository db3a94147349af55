"""``fobsam segment`` on scans and photographs: what it writes, and how it stops."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import phantom
import pytest
import SimpleITK as sitk

from FoBSAMLib.generator import registry
from FoBSAMLib.image.io import read_segmentation, read_volume


@pytest.fixture(autouse=True)
def scan(tmp_path: Path) -> None:
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())


def done(result) -> str:
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def dice(found: np.ndarray, known: np.ndarray) -> float:
    return float(2 * (found & known).sum() / (found.sum() + known.sum()))


def test_one_slice_segments_the_scan(fobsam_process, tmp_path):
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.seg.nrrd")
    done(fobsam_process(*arguments, "--report", "out.json", "--figure", "out.png"))
    volume = read_volume(tmp_path / "mr.nii.gz")
    found = read_segmentation(tmp_path / "out.seg.nrrd", like=volume)
    assert len(found.structures) == 2
    for structure in found.structures:
        mask, known = found.mask(structure), phantom.labels() == structure.label
        np.testing.assert_array_equal(mask[phantom.DRAWN], known[phantom.DRAWN])
        assert dice(mask, known) > 0.8

    report = json.loads((tmp_path / "out.json").read_text())
    text = json.dumps(report)
    for word in ("presence", "confidence", "foreground", "background", "sha256", "torch"):
        assert word in text
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "drawn.nii.gz",
        "mr.nii.gz",
        "out.json",
        "out.png",
        "out.seg.nrrd",
    ]


@pytest.mark.parametrize("output", ["out.nii.gz", "out.nrrd", "out.mha"])
def test_labelmap_has_the_geometry_of_the_image(fobsam, tmp_path, output):
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", output)
    done(fobsam(*arguments, "--label", phantom.EGG, "--slices", "5:8"))
    image, found = (sitk.ReadImage(str(tmp_path / n)) for n in ("mr.nii.gz", output))
    assert found.GetSize() == image.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(found, what)(), getattr(image, what)(), atol=1e-4)
    assert set(np.unique(sitk.GetArrayFromImage(found))) == {0, phantom.EGG}


def test_only_the_slices_asked_for(fobsam, tmp_path):
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.nii.gz")
    done(fobsam(*arguments, "--slices", "4:8"))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert set(np.flatnonzero(found.any(axis=(1, 2)))) <= {4, 5, 6, 7}
    assert found[5].any()


def test_a_slice_said_not_to_hold_a_structure_stays_empty(fobsam, tmp_path):
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.nii.gz")
    done(fobsam(*arguments, "--absent", f"{phantom.BALL}:8", "--slices", "7:9"))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert not (found[8] == phantom.BALL).any()
    assert (found[7] == phantom.BALL).any()


def test_other_images(fobsam, tmp_path):
    (tmp_path / "found").mkdir()
    for name, seed in (("second", 1), ("third", 2)):
        phantom.save(tmp_path / f"{name}.nii.gz", phantom.voxels(seed=seed))
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "found")
    arguments += ("--label", phantom.BALL, "--slices", "5:8")
    queries = ("--query", "second.nii.gz", "--query", "third.nii.gz")
    done(fobsam(*arguments, *queries, "--report", "found/r.json", "--figure", "found/f.png"))
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == [
        "f-second.png",
        "f-third.png",
        "r-second.json",
        "r-third.json",
        "second.seg.nrrd",
        "third.seg.nrrd",
    ]
    found = read_segmentation(tmp_path / "found/third.seg.nrrd")
    mask, known = found.mask(found.structures[0]), phantom.labels() == phantom.BALL
    assert not mask[:5].any()
    assert dice(mask[5:8], known[5:8]) > 0.6


def test_models_are_loaded_once_for_all_queries(fobsam, tmp_path, monkeypatch):
    (tmp_path / "found").mkdir()
    for name in ("second", "third"):
        phantom.save(tmp_path / f"{name}.nii.gz", phantom.voxels(seed=1))
    loaded = []
    create = registry.create
    monkeypatch.setattr(registry, "create", lambda *a: loaded.append(a) or create(*a))
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "found")
    queries = ("--query", "second.nii.gz", "--query", "third.nii.gz")
    done(fobsam(*arguments, "--label", phantom.BALL, "--slices", "6:7", *queries))
    assert len(loaded) == 1


@pytest.mark.parametrize("unsure", [0.6, 1.01])
def test_unsure_slices_are_named(unsure, fobsam, tmp_path, monkeypatch):
    monkeypatch.setattr("FoBSAMLib.session.warning.UNSURE", unsure)
    arguments = ("segment", "mr.nii.gz", "--support", "drawn.nii.gz", "--output", "out.nii.gz")
    told = done(fobsam(*arguments, "--label", phantom.BALL, "--report", "out.json"))
    (structure,) = json.loads((tmp_path / "out.json").read_text())["structures"]
    assert any(s["pixels"] == 0 for s in structure["slices"])
    ranges = re.search(r"look at ([\d, -]+) \(|$", told)[1]
    bounds = [[int(n) for n in part.split("-")] for part in (ranges or "").split(", ") if part]
    named = [n for b in bounds for n in range(b[0], b[-1] + 1)]
    # With every slice unsure, those where nothing was found are named with the others.
    assert named == [s["index"] for s in structure["slices"] if s["confidence"] < unsure]


def test_a_photograph_from_another(fobsam, tmp_path):
    (tmp_path / "found").mkdir()
    row, column = np.mgrid[:120, :160]
    for name, x in (("a", 60), ("b", 90)):
        spot = (row - 60) ** 2 + (column - x) ** 2 < 30**2
        colours = np.where(spot[..., None], [120, 70, 60], [220, 180, 160])
        noisy = colours + np.random.default_rng(x).normal(0, 6, (120, 160, 3))
        photograph = sitk.GetImageFromArray(noisy.clip(0, 255).astype(np.uint8), isVector=True)
        sitk.WriteImage(photograph, str(tmp_path / f"{name}.png"))
        mask = sitk.GetImageFromArray(255 * spot.astype(np.uint8))
        sitk.WriteImage(mask, str(tmp_path / f"{name}_mask.png"))
    arguments = ("segment", "a.png", "--support", "a_mask.png", "--output", "found")
    done(fobsam(*arguments, "--query", "b.png", "--figure", "found/b.png"))
    found = read_segmentation(tmp_path / "found/b.seg.nrrd")
    known = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b_mask.png"))) > 0
    assert dice(found.mask(found.structures[0])[0], known) > 0.8


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda s: s.__setitem__((32, 32), 1), id="one voxel"),
        pytest.param(lambda s: s.__setitem__(..., 1), id="fills the slice"),
        pytest.param(lambda s: s.__setitem__((slice(0, 9), slice(20, 40)), 1), id="at the border"),
    ],
)
def test_unusual_structures_are_segmented(fobsam, tmp_path, draw):
    support = np.zeros(phantom.SHAPE, np.uint8)
    draw(support[phantom.DRAWN])
    phantom.save(tmp_path / "odd.nii.gz", support)
    arguments = ("segment", "mr.nii.gz", "--support", "odd.nii.gz", "--output", "out.nii.gz")
    done(fobsam(*arguments, "--axis", "k", "--slices", "4:9"))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    np.testing.assert_array_equal(found[phantom.DRAWN], support[phantom.DRAWN])


def test_ctrl_c_stops_at_once_and_leaves_nothing(tmp_path, environment):
    """In a terminal: the bar shows, Ctrl-C ends it with one line and status 130."""
    shape = (60, 256, 256)
    folder = tmp_path / "found"
    folder.mkdir()
    support = np.zeros(shape, np.uint8)
    support[30] = phantom.labels(shape)[30]
    phantom.save(tmp_path / "big.nrrd", phantom.voxels(shape))
    phantom.save(tmp_path / "big_drawn.nrrd", support)
    terminal, stderr = pty.openpty()
    arguments = ["segment", "big.nrrd", "--support", "big_drawn.nrrd", "--output", "found/o.nrrd"]
    process = subprocess.Popen(
        [sys.executable, "-m", "FoBSAMLib", *arguments],
        cwd=tmp_path,
        env={**environment, "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=stderr,
        # Where the tests run in the background Ctrl-C is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(stderr)
    shown = _read_until(terminal, r"[1-9]\d*/\d+")
    process.send_signal(signal.SIGINT)
    shown += _read_until(terminal, None)
    assert process.wait(timeout=60) == 130
    assert process.stdout.read() == b""
    assert "stopped" in shown
    assert "Traceback" not in shown
    assert list(folder.iterdir()) == []


def _read_until(terminal: int, pattern: str | None) -> str:
    """What a process writes to its terminal, up to a pattern or its end."""
    text = ""
    while pattern is None or not re.search(pattern, text):
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not chunk:
            break
        text += chunk.decode(errors="replace")
    return text
