"""Whatever is wrong with the input: one line, a status, nothing left behind."""

from __future__ import annotations

import functools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
import torch

from FoBSAMLib.session.support import Support


@pytest.fixture
def refused(fobsam, tmp_path):
    """Run ``fobsam segment`` and check that it refuses properly; returns its one line."""

    def run(
        *arguments, image="mr.nii.gz", support="drawn.nii.gz", output="out.seg.nrrd", by=fobsam
    ):
        before = {p: p.stat().st_size for p in tmp_path.rglob("*")}
        result = by("segment", image, "--support", support, "--output", output, *arguments)
        assert result.returncode in (1, 2), result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert "bug in FoBSAM" not in result.stderr
        # A slow machine also tells how far it is.
        lines = [n for n in result.stderr.splitlines() if not re.search(r": \d+ of \d+, ", n)]
        (line,) = lines
        assert line.startswith("error: ")
        assert {p: p.stat().st_size for p in tmp_path.rglob("*")} == before
        return line

    return run


@pytest.fixture(autouse=True)
def scan(tmp_path: Path) -> None:
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())


@pytest.mark.parametrize("missing", ["image", "support"])
def test_missing_file(refused, missing):
    assert "nowhere.nii.gz" in refused(**{missing: "nowhere.nii.gz"})


@pytest.mark.parametrize("name", ["noise.nii.gz", "noise.nrrd", "noise.seg.nrrd", "noise.png"])
@pytest.mark.parametrize("what", ["image", "support"])
def test_unreadable_file(refused, tmp_path, what, name):
    (tmp_path / name).write_bytes(b"not an image at all" * 40)
    assert name in refused(**{what: name})


def test_image_cut_short(refused, tmp_path):
    whole = (tmp_path / "mr.nii.gz").read_bytes()
    (tmp_path / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert "short.nii.gz" in refused(image="short.nii.gz")


def test_folder_without_dicom(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(image="empty")


def test_support_on_another_grid(refused, tmp_path):
    image = sitk.ReadImage(str(tmp_path / "drawn.nii.gz"))
    image.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(image, str(tmp_path / "moved.nii.gz"))
    assert "origin" in refused(support="moved.nii.gz")


def test_empty_support(refused, tmp_path):
    phantom.save(tmp_path / "none.nii.gz", np.zeros(phantom.SHAPE, np.uint8))
    assert "empty" in refused(support="none.nii.gz")


def test_support_that_covers_every_slice(refused, tmp_path):
    everywhere = np.zeros(phantom.SHAPE, np.uint8)
    everywhere[:, 20:30, 20:30] = 1
    phantom.save(tmp_path / "all.nii.gz", everywhere)
    assert "all 12 slices" in refused("--axis", "k", support="all.nii.gz")


def test_two_axes_equally_likely(refused, tmp_path):
    bar = np.zeros(phantom.SHAPE, np.uint8)
    bar[6, 20, 10:40] = 1
    phantom.save(tmp_path / "bar.nii.gz", bar)
    assert "--axis" in refused(support="bar.nii.gz")


def test_label_absent(refused):
    line = refused("--label", "7")
    assert "7" in line
    assert "1" in line
    assert "2" in line


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers(refused, tmp_path, value):
    voxels = phantom.voxels().astype(np.float32)
    voxels[3, 4, 5] = value
    phantom.save(tmp_path / "holes.nii.gz", voxels)
    assert "1 of" in refused(image="holes.nii.gz")


def test_constant_image(refused, tmp_path):
    phantom.save(tmp_path / "flat.nii.gz", np.full(phantom.SHAPE, 7, np.int16))
    assert "constant" in refused(image="flat.nii.gz")


def test_a_single_slice_without_query(refused, tmp_path):
    phantom.save(tmp_path / "one.nii.gz", phantom.voxels()[[phantom.DRAWN]])
    phantom.save(tmp_path / "one_drawn.nii.gz", phantom.drawn()[[phantom.DRAWN]])
    assert "--query" in refused(image="one.nii.gz", support="one_drawn.nii.gz")


def test_4d_image(refused, tmp_path):
    series = sitk.JoinSeries([sitk.ReadImage(str(tmp_path / "mr.nii.gz"))] * 3)
    sitk.WriteImage(series, str(tmp_path / "series.nii.gz"))
    assert "4-D" in refused(image="series.nii.gz")


def test_output_folder_missing(refused):
    assert "nowhere" in refused(output="nowhere/out.seg.nrrd")


@pytest.mark.parametrize("option", ["--report", "--figure"])
def test_folder_of_another_output_missing(refused, option):
    name = {"--report": "nowhere/out.json", "--figure": "nowhere/out.png"}[option]
    assert "nowhere" in refused(option, name)


def test_output_folder_read_only(refused, tmp_path):
    folder = Path("/sys") if os.geteuid() == 0 else tmp_path / "locked"
    if os.geteuid():
        folder.mkdir(mode=0o500)
    assert "out.seg.nrrd" in refused(output=folder / "out.seg.nrrd")


def test_unknown_formats(refused):
    assert ".seg.nrrd" in refused(output="out.docx")
    assert ".json" in refused("--report", "out.txt")
    assert ".png" in refused("--figure", "out.txt")


def test_output_is_an_input(refused):
    assert "mr.nii.gz" in refused(output="mr.nii.gz")
    assert "drawn.nii.gz" in refused(output="drawn.nii.gz")


@pytest.mark.parametrize("output", ["out.seg.nrrd", "out.nii.gz"])
def test_disk_full(refused, fobsam_process, output):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    by = functools.partial(fobsam_process, preexec_fn=small_files_only)
    assert output in refused("--slices", "5:8", output=output, by=by)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, as on Linux")
def test_what_is_printed_onto_a_full_disk(environment):
    command = [sys.executable, "-m", "FoBSAMLib", "models", "list"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr == "error: The output cannot be written: the disk is full.\n"


def test_unknown_segmenter_names_the_nearest(refused):
    assert "random-walker" in refused("--segmenter", "randomwalker")


def test_unknown_generator_names_the_nearest(refused):
    assert "fob-lite" in refused("--generator", "fob-light")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut short", b"garbage" * 100])
def test_weights_that_are_damaged(refused, tmp_path, content):
    (tmp_path / "sam.pth").write_bytes(content)
    assert "sam.pth" in refused("--segmenter", "sam-vit-b:sam.pth")


def test_weights_with_wrong_keys(refused, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"image_encoder.pos_embed": torch.zeros(3)}, tmp_path / "sam.pth")
    assert "sam.pth" in refused("--segmenter", "sam-vit-b:sam.pth")


def test_weights_that_are_missing(refused):
    assert "nowhere.pth" in refused("--segmenter", "sam-vit-b:nowhere.pth")


def test_device_that_is_not_there(refused):
    assert "mps" in refused("--device", "mps")


@pytest.mark.parametrize("text", ["3", "a:b", "1:2:3"])
def test_slices_that_are_no_range(refused, text):
    assert "A:B" in refused("--slices", text)


@pytest.mark.parametrize("text", ["4:4", "0:13", "-13:4"])
def test_slices_outside_the_image(refused, text):
    assert "0:12" in refused("--slices", text)


@pytest.mark.parametrize("text", ["12", "1:x", ":3", "1:99"])
def test_absent_that_is_wrong(refused, text):
    refused("--absent", text)


def test_absent_where_it_is_drawn(refused):
    refused("--absent", f"1:{phantom.DRAWN}")


def test_absent_with_a_query(refused, tmp_path):
    (tmp_path / "found").mkdir()
    line = refused("--query", "mr.nii.gz", "--absent", "1:0", output="found")
    assert "--absent" in line
    assert "--query" in line


def test_a_volume_in_a_png(refused, monkeypatch):
    monkeypatch.setattr(Support, "read", lambda *_: pytest.fail("it began"))
    assert "12" in refused(output="out.png")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    ],
)
def test_memory_that_runs_out(refused, monkeypatch, error):
    def run_out(*_):
        raise error

    monkeypatch.setattr(Support, "read", run_out)
    assert refused().startswith("error: Not enough memory.")


def test_query_without_folder(refused):
    assert "folder" in refused("--query", "mr.nii.gz")


def test_query_missing(refused, tmp_path):
    (tmp_path / "found").mkdir()
    assert "nowhere.nii.gz" in refused("--query", "nowhere.nii.gz", output="found")


def test_queries_of_one_name(refused, tmp_path):
    for folder in ("a", "b", "found"):
        (tmp_path / folder).mkdir()
    for folder in ("a", "b"):
        phantom.save(tmp_path / folder / "mr.nii.gz", phantom.voxels())
    line = refused("--query", "a/mr.nii.gz", "--query", "b/mr.nii.gz", output="found")
    assert "mr" in line


@pytest.mark.parametrize(
    "arguments", [["sgment"], ["segment"], ["segment", "x"], ["segment", "--axis", "z"], ["--what"]]
)
def test_usage_errors_have_status_2(fobsam_process, arguments):
    result = fobsam_process(*arguments)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
