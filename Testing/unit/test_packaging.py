"""What an installation holds."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import phantom
import pytest

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


def listed() -> dict[str, set[str]]:
    """The lists of files for CMake, by name."""
    text = (ROOT / "FoBSAM" / "Files.cmake").read_text()
    found = re.findall(r"set\((\w+)\n(.*?)\n  \)", text, re.DOTALL)
    return {name: set(files.split()) for name, files in found}


def test_cmake_lists_every_module_and_resource():
    """All but pictures for documents; `make files` writes the lists anew."""
    files = [p for f in ("FoBSAMLib", "Resources") for p in (ROOT / f).rglob("*") if p.is_file()]
    there = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    scripts = {name for name in there if name.endswith(".py")}
    pictures = {
        name for name in there if name.startswith("Resources/Screenshots/") or "-curve." in name
    }
    assert listed() == {
        "FoBSAM_LIBRARY_SCRIPTS": scripts,
        "FoBSAM_LIBRARY_RESOURCES": there - scripts - pictures,
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The extension configured and installed by CMake, with a stand-in for Slicer's macros."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake on this machine")
    folder = tmp_path_factory.mktemp("built")
    macros = ROOT / "Testing" / "standin" / "cmake"
    configure = ["cmake", "-S", ROOT, "-B", folder / "build", f"-DSlicer_DIR={macros}"]
    for command in (
        [*configure, "-DFoBSAM_ADDRESS=https://address.invalid/SlicerFoBSAM"],
        ["cmake", "--install", folder / "build", "--prefix", folder / "slicer"],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True)
    return folder


MODULES = Path("slicer", "lib", "Slicer-5.12", "qt-scripted-modules")


def test_module_library_and_resources_lie_side_by_side(built):
    assert {p.name for p in (built / MODULES).iterdir()} == {"FoBSAM.py", "FoBSAMLib", "Resources"}


def test_the_installed_extension_runs_with_no_repository_around(built, tmp_path):
    image = phantom.save(tmp_path / "scan.nrrd", phantom.voxels())
    labels = phantom.save(tmp_path / "drawn.nrrd", phantom.drawn())
    # An editable installation would find the repository's library.
    program = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]"
    )
    program += f"; sys.path.insert(0, {str(built / MODULES)!r})"
    program += "; import FoBSAMLib; print(FoBSAMLib.__file__, flush=True)"
    program += "; from FoBSAMLib.cli import main; main()"
    arguments = ["segment", image, "--support", labels, "--output", tmp_path / "found.nrrd"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.splitlines()[0]).is_relative_to(built / MODULES)
    assert (tmp_path / "found.nrrd").is_file()


def test_the_installed_module_loads_in_slicer(built):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    program = f"""
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path.append({str(ROOT / "Testing")!r})
import standin
standin.install()
module = standin.load_module({str(built / MODULES / "FoBSAM.py")!r})
module.enter()
import FoBSAMLib
print(FoBSAMLib.__file__)
standin.quit_application(module)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=built, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert str(built / MODULES) in ended.stdout


def test_slicer_runs_the_self_test(built):
    tests = subprocess.run(
        ["ctest", "-N"], cwd=built / "build", capture_output=True, text=True, check=True
    )
    assert "py_FoBSAM" in tests.stdout


def test_one_variable_holds_the_public_address(built):
    address = "https://address.invalid/SlicerFoBSAM"
    entry = json.loads((built / "build" / "FoBSAM.json").read_text())
    assert entry["scm_url"] == f"{address}.git"
    described = dict(
        line.split(" ", 1) for line in (built / "build" / "FoBSAM.s4ext").read_text().splitlines()
    )
    assert described["homepage"] == address
    for picture in [described["iconurl"], *described["screenshoturls"].split()]:
        path = picture.removeprefix(f"{address}/raw/HEAD/")
        assert (ROOT / path).is_file(), path
    assert "research use only" in described["description"]
    assert 'set(FoBSAM_ADDRESS ""' in (ROOT / "CMakeLists.txt").read_text()


def test_the_icon_is_as_the_index_wants_it():
    header = (ROOT / "Resources" / "Icons" / "FoBSAM.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)
