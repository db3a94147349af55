"""Fixtures of every test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

Fobsam = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development images beside the checkout; a fresh clone has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("development images (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a process that runs this checkout, wherever it is started."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture
def fobsam(tmp_path: Path, environment: dict[str, str]) -> Fobsam:
    """Run the command line as a user does, in ``tmp_path``: ``fobsam("segment", "ct.nii.gz")``."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "FoBSAMLib", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            **options,
        )

    return run
