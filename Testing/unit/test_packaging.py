"""What an installation holds, with pip and in Slicer's Extensions Manager."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import phantom
import pytest

import FoBSAMLib

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://address.invalid/SlicerFoBSAM"


def listed() -> dict[str, set[str]]:
    """The lists of files for CMake, by name."""
    text = (ROOT / "FoBSAM" / "Files.cmake").read_text()
    found = re.findall(r"set\((\w+)\n(.*?)\n  \)", text, re.DOTALL)
    return {name: set(files.split()) for name, files in found}


def test_every_module_and_resource_is_listed():
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


def run(*command: str | Path, **options) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, **options)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that pip builds of the source distribution, without network."""
    folder = tmp_path_factory.mktemp("packages")
    checkout = folder / "checkout"
    no_caches = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("FoBSAM", "FoBSAMLib", "Resources"):
        shutil.copytree(ROOT / name, checkout / name, ignore=no_caches)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=checkout)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        source.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps"]
    run(*pip, "--no-build-isolation", "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_what_the_extension_holds(wheel):
    """And not FoBSAM/, which is Slicer's alone."""
    assert FoBSAMLib.__version__ in wheel.name
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == set.union(*listed().values())


def test_the_wheel_gives_the_command(wheel, tmp_path):
    """With its models, and with no repository around."""
    place = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
    run(*pip, "--target", place, wheel)
    (command,) = (place / "bin").glob("fobsam*")
    outside = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(place)}}
    assert run(command, "--version", **outside) == f"fobsam {FoBSAMLib.__version__}\n"
    program = "import FoBSAMLib.models.paths as p; print(p.resource('weights'))"
    weights = Path(run(sys.executable, "-c", program, **outside).strip())
    assert weights.is_relative_to(place)
    assert "sam-vit-b" in run(command, "models", "list", **outside)
    segment(tmp_path, command, **outside)


def segment(folder: Path, *command: str | Path, **options) -> str:
    """Segment a small image with the default models; what the command prints."""
    image = phantom.save(folder / "scan.nrrd", phantom.voxels())
    labels = phantom.save(folder / "drawn.nrrd", phantom.drawn())
    found = folder / "found.nrrd"
    said = run(*command, "segment", image, "--support", labels, "--output", found, **options)
    assert found.is_file()
    return said


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The extension configured and installed by CMake, with a stand-in for Slicer's macros."""
    cmake = pytest.importorskip("cmake", reason="the package cmake is not installed")
    folder = tmp_path_factory.mktemp("built")
    macros = ROOT / "Testing" / "standin" / "cmake"
    launcher = [sys.executable, Path(__file__).with_name("slicer_launcher.py")]
    program = Path(cmake.CMAKE_BIN_DIR, "cmake")
    run(
        *(program, "-S", ROOT, "-B", folder / "build"),
        f"-DSlicer_DIR={macros}",
        f"-DCMAKE_TOOLCHAIN_FILE={macros / 'NoCompiler.cmake'}",
        f"-DSlicer_LAUNCHER_EXECUTABLE={';'.join(map(str, launcher))}",
        f"-DFoBSAM_ADDRESS={ADDRESS}",
    )
    run(program, "--install", folder / "build", "--prefix", folder / "slicer")
    return folder


MODULES = Path("slicer", "lib", "Slicer-5.12", "qt-scripted-modules")


def test_module_library_and_resources_lie_side_by_side(built):
    assert {p.name for p in (built / MODULES).iterdir()} == {"FoBSAM.py", "FoBSAMLib", "Resources"}


def test_the_installed_extension_runs_with_no_repository_around(built, tmp_path):
    # An editable installation would find the repository's library.
    program = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]"
    )
    program += f"; sys.path.insert(0, {str(built / MODULES)!r})"
    program += "; import FoBSAMLib; print(FoBSAMLib.__file__, flush=True)"
    program += "; from FoBSAMLib.cli import main; main()"
    command = [sys.executable, "-c", program]
    said = segment(tmp_path, *command, cwd=tmp_path)
    assert Path(said.splitlines()[0]).is_relative_to(built / MODULES)
    assert "sam-vit-b" in run(*command, "models", "list", cwd=tmp_path)


def test_the_installed_module_opens_in_slicer(built):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6.QtWidgets", reason="Qt is not installed", exc_type=ImportError)
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
    assert str(built / MODULES) in run(sys.executable, "-c", program, cwd=built)


def test_ctest_runs_the_self_test(built):
    """The whole story on the sample, from the build tree."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6.QtWidgets", reason="Qt is not installed", exc_type=ImportError)
    cmake = pytest.importorskip("cmake")
    ctest = Path(cmake.CMAKE_BIN_DIR, "ctest")
    said = run(ctest, "--verbose", "--tests-regex", "^py_FoBSAM$", cwd=built / "build")
    assert re.search(r"test_sampleFromOneSlice(.|\n)*\bok\n(.|\n)*1/1 Test .* Passed", said), said
    assert f"The library is {built / 'build' / 'lib'}" in said


def test_one_variable_holds_the_public_address(built):
    entry = json.loads((built / "build" / "FoBSAM.json").read_text())
    assert entry["scm_url"] == f"{ADDRESS}.git"
    described = dict(
        line.split(" ", 1) for line in (built / "build" / "FoBSAM.s4ext").read_text().splitlines()
    )
    assert described["homepage"] == ADDRESS
    for picture in [described["iconurl"], *described["screenshoturls"].split()]:
        path = picture.removeprefix(f"{ADDRESS}/raw/HEAD/")
        assert (ROOT / path).is_file(), path
    assert "research use only" in described["description"]
    assert 'set(FoBSAM_ADDRESS ""' in (ROOT / "CMakeLists.txt").read_text()


def test_the_entry_is_as_the_index_wants_it(built):
    """Schema v1.0.1 of Slicer's catalogue: these names and no others."""
    text = (built / "build" / "FoBSAM.json").read_bytes()
    assert b"\r" not in text
    entry = json.loads(text)
    optional = {"scm_revision", "build_dependencies", "build_subdirectory", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry)
    assert set(entry) <= {"$schema", "category", "scm_url"} | optional
    assert entry["category"] == "Segmentation"
    assert entry["tier"] in (1, 3, 5)
    assert entry["build_dependencies"] == ["PyTorch"], "as EXTENSION_DEPENDS"


WRITTEN = {".cmake", ".in", ".json", ".md", ".py", ".toml", ".txt", ".ui", ".yml", ".yaml", ""}


def written() -> list[Path]:
    """The files that are published and written by hand."""
    names = ["FoBSAM", "FoBSAMLib", "Resources", "Testing", "requirements", ".ci", ".github"]
    found = [path for name in names for path in (ROOT / name).rglob("*")]
    found += [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / "LICENSE"]
    return [path for path in found if path.is_file() and path.suffix in WRITTEN]


def test_no_address_and_no_person_is_made_up():
    """The repository's own address stands nowhere but in CMakeLists.txt's one variable."""
    own = re.compile(r"(?:\w+://|git@|www\.)[^\s\"'<>]*fobsam[^\s\"'<>]*", re.IGNORECASE)
    mail = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
    texts = {path: path.read_text("utf-8") for path in written()}
    assert len(texts) > 300, "they are all read"
    for path, text in texts.items():
        assert set(own.findall(text)) <= {ADDRESS}, path
        assert not mail.findall(text), path


def test_the_icon_is_as_the_index_wants_it():
    header = (ROOT / "Resources" / "Icons" / "FoBSAM.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)


def test_the_licence_is_named_alike():
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert "Apache-2.0, see [LICENSE](LICENSE)" in (ROOT / "README.md").read_text("utf-8")
