"""``fobsam batch``: folders and lists of images, what fails, what is kept, how it goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
import worker_faults

from FoBSAMLib.image.io import read_segmentation, read_volume

SHARED = ("--support-image", "mr.nii.gz", "--support", "drawn.nii.gz")
#: Of the images: fewer slices than the annotated one's take less time.
SHAPE = (8, 64, 64)
#: The run that most tests make, of the smaller structure.
BATCH = ("batch", "in", *SHARED, "--label", phantom.EGG, "--output", "out")


@pytest.fixture(autouse=True)
def scans(tmp_path: Path) -> None:
    """An annotated scan, and a folder with two others."""
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels(seed=9))
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())
    (tmp_path / "in").mkdir()
    for n in (1, 2):
        phantom.save(tmp_path / "in" / f"c{n}.nii.gz", phantom.voxels(SHAPE, n))


def summary(tmp_path: Path) -> dict[str, dict[str, str]]:
    with (tmp_path / "out" / "summary.csv").open(newline="", encoding="utf-8") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def states(tmp_path: Path) -> dict[str, str]:
    return {case: row["state"] for case, row in summary(tmp_path).items()}


def dice(path: Path, image: Path, label: int) -> float:
    volume = read_volume(image)
    (structure,) = read_segmentation(path, like=volume).select([f"Segment_{label}"])
    mask = read_segmentation(path, like=volume).mask(structure)
    known = phantom.labels(SHAPE) == label
    return float(2 * (mask & known).sum() / (mask.sum() + known.sum()))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc, as on Linux")
@pytest.mark.parametrize("started", [2, 3])
def test_a_killed_command_leaves_no_process(tmp_path, environment, started):
    """Not even where its processes are still loading what they need."""
    mark = uuid.uuid4().hex
    environment = {**environment, "FOBSAM_TEST_MARK": mark}
    command = [sys.executable, "-m", "FoBSAMLib", *map(str, BATCH), "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    worker_faults.wait_until(lambda: len(worker_faults.left_behind(mark)) > started, 60)
    process.kill()
    process.wait()
    worker_faults.wait_until(lambda: not worker_faults.left_behind(mark), 4)


def test_a_list_may_hold_names_with_line_breaks_in_quotes(fobsam, tmp_path):
    (tmp_path / "in" / "c1.nii.gz").rename(tmp_path / "in" / "one\u2028name.nii.gz")
    (tmp_path / "list.csv").write_text('image\n"in/one\u2028name.nii.gz"\n', "utf-8")
    assert fobsam("batch", "list.csv", *BATCH[2:]).returncode == 0
    assert states(tmp_path) == {"one\u2028name": "done"}


def test_no_list_and_no_other_table_is_replaced(fobsam, tmp_path):
    (tmp_path / "out").mkdir()
    own = tmp_path / "out" / "summary.csv"
    for text, source in (("image\n../in/c1.nii.gz\n", "out/summary.csv"), ("mine\n", "in")):
        own.write_text(text)
        result = fobsam("batch", source, *BATCH[2:])
        assert result.returncode == 1
        assert "summary.csv is there, and is no table of results" in result.stderr
        assert own.read_text() == text


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_called_as_they_are(fobsam, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("anna", "bert"):
        (linked / f"{name}.nii.gz").symlink_to(tmp_path / "in" / "c1.nii.gz")
    assert fobsam("batch", "linked", *BATCH[2:]).returncode == 0
    assert states(tmp_path) == {"anna": "done", "bert": "done"}


def test_a_folder_goes_on_past_what_fails_and_is_not_done_twice(fobsam, tmp_path):
    (tmp_path / "in" / "broken.nii.gz").write_bytes(b"no image")
    (tmp_path / "in" / "notes.txt").write_text("passed over")
    result = fobsam(*BATCH, "--workers", 2)
    assert result.returncode == 1
    assert "error: 1 of 3 cases failed: broken." in result.stderr
    assert "broken.nii.gz cannot be read" in result.stdout
    assert states(tmp_path) == {"broken": "failed", "c1": "done", "c2": "done"}
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "c1.json",
        "c1.seg.nrrd",
        "c2.json",
        "c2.seg.nrrd",
        "summary.csv",
    ]
    for case in ("c1", "c2"):
        assert dice(out / f"{case}.seg.nrrd", tmp_path / "in" / f"{case}.nii.gz", phantom.EGG) > 0.8
    row = summary(tmp_path)["c1"]
    assert row["structures"].startswith("Segment_2 ")
    assert 0.5 < float(row["mean confidence"]) <= 1
    report = json.loads((out / "c1.json").read_text())
    assert report["structures"][0]["slices"][0]["confidence"] > 0

    (tmp_path / "in" / "broken.nii.gz").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.glob("c*")}
    result = fobsam(*BATCH)
    assert result.returncode == 0, result.stderr
    assert states(tmp_path) == {"c1": "skipped", "c2": "skipped"}
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("c*")}


def test_what_was_made_otherwise_or_corrected_is_kept_until_told(fobsam, tmp_path):
    assert fobsam(*BATCH).returncode == 0
    out = tmp_path / "out"
    phantom.save(tmp_path / "in" / "c1.nii.gz", phantom.voxels(SHAPE, 5))
    corrected = (out / "c2.seg.nrrd").read_bytes() + b" "
    (out / "c2.seg.nrrd").write_bytes(corrected)
    result = fobsam(*BATCH)
    assert result.returncode == 1
    assert "c1.seg.nrrd was made otherwise (image). Give --overwrite" in result.stdout
    assert "c2.seg.nrrd was changed since it was made. Give --overwrite" in result.stdout
    assert (out / "c2.seg.nrrd").read_bytes() == corrected

    assert fobsam(*BATCH, "--overwrite").returncode == 0
    assert states(tmp_path) == {"c1": "done", "c2": "done"}
    assert (out / "c2.seg.nrrd").read_bytes() != corrected


def test_a_list_names_supports_and_outputs(fobsam, tmp_path):
    drawn = phantom.labels(SHAPE)
    drawn[[n for n in range(len(drawn)) if n != 4]] = 0
    phantom.save(tmp_path / "in" / "own, drawn.nii.gz", drawn)
    (tmp_path / "in" / "list.csv").write_text(
        "\ufeffimage,support,output\n"
        'c1.nii.gz,"own, drawn.nii.gz",first.nii.gz\n'
        "\n"
        "c2.nii.gz\n"
        "gone.nii.gz\n",
        encoding="utf-8",
    )
    result = fobsam("batch", "in/list.csv", *SHARED, "--output", "out")
    assert result.returncode == 1
    assert "gone.nii.gz cannot be read" in result.stdout
    assert states(tmp_path) == {"first": "done", "c2": "done", "gone": "failed"}
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "first.nii.gz")))
    np.testing.assert_array_equal(first[4], drawn[4])  # as drawn on it
    for label in (phantom.BALL, phantom.EGG):
        assert dice(tmp_path / "out" / "c2.seg.nrrd", tmp_path / "in" / "c2.nii.gz", label) > 0.8


def test_several_annotated_cases_each_give_what_they_are_surest_of(fobsam, tmp_path):
    """One has both structures, with the ball where there is none; the other only the ball."""
    wrong = phantom.drawn()
    wrong[wrong == phantom.BALL] = 0
    wrong[phantom.DRAWN, 40:44, 4:8] = phantom.BALL
    phantom.save(tmp_path / "wrong.nii.gz", wrong)
    ball = np.where(phantom.drawn() == phantom.BALL, phantom.BALL, 0).astype(np.uint8)
    phantom.save(tmp_path / "drawn.nii.gz", ball)
    (tmp_path / "in" / "c2.nii.gz").unlink()
    pair = ("--support-image", "mr.nii.gz", "--support", "wrong.nii.gz")
    assert fobsam("batch", "in", *pair, *SHARED, "--output", "out").returncode == 0
    for label in (phantom.BALL, phantom.EGG):
        assert dice(tmp_path / "out" / "c1.seg.nrrd", tmp_path / "in" / "c1.nii.gz", label) > 0.8
    report = json.loads((tmp_path / "out" / "c1.json").read_text())
    assert {one["name"]: one["support"] for one in report["structures"]} == {
        "Segment_1": 2,
        "Segment_2": 1,
    }


def test_dicom_folders_are_images(fobsam, tmp_path, shared_data):
    """A folder of them, and one that is a series itself; none is segmented, there is no label 9."""
    (tmp_path / "in" / "ct").mkdir()
    for file in (shared_data / "dicom_ct").glob("0*.dcm"):
        (tmp_path / "in" / "ct" / file.name).write_bytes(file.read_bytes())
    for source, expected in (("in", {"c1", "c2", "ct"}), ("in/ct", {"ct"})):
        result = fobsam("batch", source, *SHARED, "--label", "9", "--output", "out")
        assert result.returncode == 1
        assert set(summary(tmp_path)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture\na.nii.gz\n", "list.csv, line 1: the columns are picture."),
        ("image,mask\na.nii.gz,b\n", "line 1: the columns are image, mask."),
        ("", "line 1: the columns are missing."),
        ("image,support\nc1.nii.gz,d\n,d\n", "line 3: there is no image. Name one."),
        ("image,support\nc1.nii.gz,d\nc2.nii.gz,\n", "line 3: there is no support."),
        ("image,support\nc1.nii.gz,a,b\n", "line 2: it has 3 fields for 2 columns."),
        ("image,support,output\nc1.nii.gz,d,x.jpg\n", "line 2: x.jpg is no output."),
        ("image\n", "names no image."),
        ("image,support\na/x.nii.gz,d\nb/X.mha,d\n", "would both be written to"),
        ("image,support,output\na.mha,d,x.nrrd\nb.mha,d,x.mha\n", "both be written to x.json"),
        ("image,support,output\nc1.nii.gz,d,no/x.mha\n", "line 2: no/x.mha is no output."),
        (
            "image,support,output\n../out/x.mha,d,y.mha\nc1.mha,d,x.mha\n",
            "x.mha is read by this very batch.",
        ),
    ],
)
def test_mistakes_in_a_list_are_told_before_anything_starts(fobsam, tmp_path, text, message):
    (tmp_path / "in" / "list.csv").write_text(text)
    result = fobsam("batch", "in/list.csv", "--output", "out")
    assert result.returncode == 1
    assert message in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("batch", "in", "--output", "out"), 1, "A folder of images needs supports."),
        (("batch", "in", *SHARED, "--output", "in"), 1, "is that of the images"),
        (("batch", "gone", *SHARED, "--output", "out"), 1, "There is no file or folder"),
        (("batch", "in/c1.nii.gz", *SHARED, "--output", "out"), 1, "nor a list that can be read"),
        (("batch", "in", *SHARED[:2], "--output", "out"), 2, "as many --support-image as"),
        ((*BATCH, "--gpus-per-worker", 1), 2, "are for --ray"),
        ((*BATCH, "--output", "no/out"), 1, "cannot be made"),
        ((*BATCH, "--segmenter", "no"), 1, "no segmenter"),
    ],
)
def test_bad_requests_are_one_line(fobsam, tmp_path, arguments, status, message):
    result = fobsam(*arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert not list(tmp_path.glob("out/*"))


def test_two_images_of_one_name_are_refused(fobsam, tmp_path):
    phantom.save(tmp_path / "in" / "c1.mha", phantom.voxels())
    result = fobsam(*BATCH)
    assert result.returncode == 1
    assert "would both be written to c1.seg.nrrd" in result.stderr


class Running:
    """A batch in a process group of its own, as a terminal starts it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._out = folder / "out"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "FoBSAMLib", *map(str, BATCH)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_output(self) -> None:
        deadline = time.monotonic() + 120
        while not list(self._out.glob("c*.seg.nrrd")):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Processes that compute, by what they were started with."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()
        ]


@pytest.fixture
def running(tmp_path: Path, environment: dict[str, str]) -> Running:
    phantom.save(tmp_path / "in" / "c3.nii.gz", phantom.voxels(SHAPE, 3))
    return Running(tmp_path, environment)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_killed_it_goes_on_where_it_was(running, fobsam, tmp_path):
    running.wait_for_output()
    workers = running.workers()
    running.process.kill()
    running.process.communicate()
    deadline = time.monotonic() + 60
    while not all(map(is_gone, workers)):  # nobody is left who computes for nobody
        assert time.monotonic() < deadline
        time.sleep(0.02)
    result = fobsam(*BATCH)
    assert result.returncode == 0, result.stderr
    found = states(tmp_path)
    assert found["c1"] == "skipped"
    assert set(found) == {"c1", "c2", "c3"}
    assert not list((tmp_path / "out").glob(".*"))


def test_ctrl_c_stops_and_keeps_what_is_finished(running, tmp_path):
    running.wait_for_output()
    os.killpg(running.process.pid, signal.SIGINT)
    out, errors = running.process.communicate(timeout=120)
    assert running.process.returncode == 130
    assert "stopped: What is finished is kept. The same command goes on." in errors
    assert "Traceback" not in errors + out
    assert not list((tmp_path / "out").glob(".*"))
    for segmentation in (tmp_path / "out").glob("*.seg.nrrd"):
        assert read_segmentation(segmentation).structures
    assert set(states(tmp_path).values()) <= {"done"}


def test_a_process_that_dies_takes_one_case_with_it(running, tmp_path):
    running.wait_for_output()
    for pid in running.workers():
        os.kill(pid, signal.SIGKILL)
    out, errors = running.process.communicate(timeout=240)
    assert running.process.returncode == 1, errors
    assert "The process died, most likely for want of memory" in out
    assert sorted(states(tmp_path).values()) == ["done", "done", "failed"]


def test_a_full_disk_fails_the_cases_and_leaves_none_half_written(fobsam_process, tmp_path):
    resource = pytest.importorskip("resource")

    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    ended = fobsam_process(*BATCH, preexec_fn=small_files_only)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: 2 of 2 cases failed")
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["summary.csv"]
    assert states(tmp_path) == {"c1": "failed", "c2": "failed"}
    assert "enough space" in summary(tmp_path)["c1"]["error"]
