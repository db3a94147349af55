"""Where shipped files and the user's models lie."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import FoBSAMLib
from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.paths import data_folder, resource

PACKAGE = Path(FoBSAMLib.__file__).parent


def test_data_folder_is_the_users_own(monkeypatch):
    monkeypatch.delenv("FOBSAM_DATA", raising=False)
    folder = data_folder()
    assert folder.is_absolute()
    assert folder.name == "FoBSAM"
    assert PACKAGE.parent not in folder.parents


def test_data_folder_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FOBSAM_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("FOBSAM_DATA", "~/models")
    assert data_folder() == Path.home() / "models"


def test_resource_that_is_not_there():
    with pytest.raises(FoBSAMError, match="no-such-file") as caught:
        resource("no-such-file")
    assert caught.value.code == "internal"


def test_resources_are_found_beside_an_installed_package(tmp_path):
    """As in a wheel or in Slicer: another folder, started from anywhere."""
    shutil.copytree(PACKAGE, tmp_path / "site" / "FoBSAMLib")
    wanted = tmp_path / "site" / "Resources" / "sub" / "file.txt"
    wanted.parent.mkdir(parents=True)
    wanted.touch()
    program = "from FoBSAMLib.models.paths import resource; print(resource('sub/file.txt'))"
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n{program}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == wanted.resolve()
