"""What an installation holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import FoBSAMLib

ROOT = Path(__file__).resolve().parents[2]


def test_wheel_holds_every_module_and_resource(tmp_path):
    """And not FoBSAM/, which is Slicer's alone."""
    source = tmp_path / "source"
    no_caches = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("FoBSAM", "FoBSAMLib", "Resources"):
        shutil.copytree(ROOT / folder, source / folder, ignore=no_caches)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=source, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert FoBSAMLib.__version__ in wheel.name
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = (p for f in ("FoBSAMLib", "Resources") for p in (ROOT / f).rglob("*") if p.is_file())
    assert shipped == {
        p.relative_to(ROOT).as_posix() for p in expected if "__pycache__" not in p.parts
    }
