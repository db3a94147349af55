"""Writing: whole or not at all, wherever it goes wrong."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from io_files import RNG, blob, one_structure, refusal

from FoBSAMLib.image.io import atomic_path, check_output, write_segmentation
from FoBSAMLib.image.segmentation import Segmentation, Structure

FORMATS = ["x.seg.nrrd", "x.nrrd", "x.nii.gz", "x.nii", "x.mha", "x.png"]


def noisy_slice() -> Segmentation:
    """One slice of labels that do not compress."""
    labels = RNG.integers(1, 200, (1, 200, 200))
    masks = [(Structure(str(n), n), labels == n) for n in range(1, 200)]
    return Segmentation.from_masks(np.eye(4), masks)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 kB: writing fails halfway, as it does on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", FORMATS)
def test_full_disk_leaves_what_was_there(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    segmentation = noisy_slice()
    for before in (None, b"an earlier result"):
        if before:
            path.write_bytes(before)
        with full_disk():
            error = refusal(lambda: write_segmentation(path, segmentation))
        assert error.code == "unwritable"
        assert "enough space" in error.hint
        assert list(tmp_path.iterdir()) == ([path] if before else [])
        assert not before or path.read_bytes() == before
    assert capfd.readouterr().err == ""


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may not write to, even if it runs as root."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        was_root = hasattr(os, "geteuid") and os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if was_root:
                os.seteuid(0)
            os.chmod(folder, 0o755)


@pytest.mark.skipif(os.name == "nt", reason="folders are not read-only by mode on Windows")
@pytest.mark.parametrize("name", FORMATS)
def test_read_only_folder(name: str, read_only_folder: Path) -> None:
    segmentation = one_structure(np.eye(4), blob()[1:2])
    for call in (lambda p: write_segmentation(p, segmentation), check_output):
        error = refusal(lambda call=call: call(read_only_folder / name))
        assert error.code == "unwritable"
        assert "Permission denied" in error.message


@pytest.mark.parametrize("name", FORMATS)
def test_missing_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none", tmp_path / "file"):
        error = refusal(lambda f=folder: write_segmentation(f / name, one_structure(np.eye(4))))
        if name == "x.png":
            assert error.message.startswith("A PNG holds one slice")
        else:
            assert error.code == "unwritable"
            assert f"the folder {folder} does not exist" in error.message
        assert refusal(lambda f=folder: check_output(f / name)).code == "unwritable"


def test_unknown_format_names_the_known(tmp_path: Path) -> None:
    for call in (lambda p: write_segmentation(p, one_structure(np.eye(4))), check_output):
        error = refusal(lambda call=call: call(tmp_path / "x.jpg"))
        assert ".nii.gz" in error.hint
    assert not list(tmp_path.iterdir())


def test_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").mkdir()
    error = refusal(lambda: write_segmentation(tmp_path / "x.nii.gz", one_structure(np.eye(4))))
    assert "exists and is not a file" in error.message


def test_output_check_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"an earlier result")
    check_output(tmp_path / "x.nii.gz")
    check_output(tmp_path / "new.seg.nrrd")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii.gz"]
    assert (tmp_path / "x.nii.gz").read_bytes() == b"an earlier result"


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_path(tmp_path / "case.1.seg.nrrd") as temporary:
            assert temporary.parent == tmp_path
            assert temporary.name.endswith(".seg.nrrd")
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_finished_writing_replaces_at_once(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]
