"""Fixtures of every test."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from FoBSAMLib import cli

# As the command line has it; it must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Where `make test` runs several processes they share the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The machine may be busy: a slow example is no failure.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

Fobsam = Callable[..., subprocess.CompletedProcess[str]]


def _library() -> dict[str, ModuleType]:
    return {name: one for name, one in sys.modules.items() if name.partition(".")[0] == "FoBSAMLib"}


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    """The library stays the one that the tests imported, though Slicer's "Reload" loads another."""
    before = _library()
    yield
    if sys.modules.get("FoBSAMLib") is not before["FoBSAMLib"]:
        for name in _library():
            del sys.modules[name]
        sys.modules.update(before)


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
def fobsam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Fobsam:
    """Run the command line in ``tmp_path``: ``fobsam("segment", "ct.nii.gz", ...)``.

    It runs in this process, which has loaded torch already; a traceback fails the test.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["fobsam", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        with pytest.raises(SystemExit) as end, warnings.catch_warnings():
            cli.main()
        return subprocess.CompletedProcess(command, end.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def fobsam_process(tmp_path: Path, environment: dict[str, str]) -> Fobsam:
    """The same in a process of its own, as a user runs it; takes options of `subprocess.run`."""

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
