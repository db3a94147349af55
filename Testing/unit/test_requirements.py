"""Which packages FoBSAM imports, and that each is declared for pip and for Slicer."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from FoBSAMLib.mrml.packages import SPECIAL, TORCH

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "FoBSAM" / "FoBSAM.py"
REQUIREMENTS = ROOT / "Resources" / "requirements.txt"
#: Import names of Slicer itself and of its PyTorch extension, which no package declares.
APPLICATION = {"slicer", "vtk", "qt", "ctk", "SampleData", "PyTorchUtils"}
#: Packages that come with Slicer.
BROUGHT = {"numpy", "scipy", "simpleitk", "packaging"}
#: Packages for DICOM segmentations and for several machines; whoever asks for one of these without
#: them is told to install it.
OPTIONAL = {"highdicom", "ray"}
#: Parts that only commands of their own use, or output that the panel does not offer.
COMMANDS = (
    "FoBSAMLib.bench",
    "FoBSAMLib.evaluation",
    "FoBSAMLib.image.dicom_seg_write",
    "FoBSAMLib.training",
)


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def library() -> dict[str, Path]:
    """FoBSAMLib's modules by name."""
    found = {}
    for path in (ROOT / "FoBSAMLib").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> set[str]:
    """Full names a file imports, at its top or later; of ``from a import b`` a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            names |= {one.value for one in node.args if isinstance(one, ast.Constant)}
    return names


def reached(roots: Iterable[Path]) -> set[Path]:
    """The files that these import, and those in turn, but for COMMANDS."""
    modules = library()
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported(path):
            if name in modules and not name.startswith(COMMANDS):
                waiting.append(modules[name])
    return found


def packages(files: Iterable[Path]) -> dict[str, str]:
    """The packages that files import, each with one of the files."""
    homes = importlib.metadata.packages_distributions()
    ours = {"FoBSAMLib", "pip", *APPLICATION, *sys.stdlib_module_names}
    found = {}
    for path in files:
        for top in {name.partition(".")[0] for name in imported(path)} - ours:
            # What is not installed here has the name of its package, as far as anyone knows.
            found[name_of(homes.get(top, [top])[0])] = path.relative_to(ROOT).as_posix()
    return found


def declared() -> dict[str, list[str]]:
    """The project's requirements, by extra; those of all under ""."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def test_every_import_is_declared():
    names = {name_of(one) for extra, list_ in declared().items() if extra != "dev" for one in list_}
    files = packages([*library().values(), MODULE])
    assert set(files) - names - {"packaging"} == set(), files


def test_extras_are_for_commands_and_special_models():
    """What the panel, its worker and `fobsam segment` cannot do without comes with FoBSAM, with
    Slicer, or is asked for with the model that needs it."""
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text("utf-8").split("\n")]
    asked_for = {*filter(None, lines), TORCH, *(one for list_ in SPECIAL.values() for one in list_)}
    files = packages(reached([MODULE, ROOT / "FoBSAMLib" / "__main__.py"]))
    missing = set(files) - {name_of(one) for one in asked_for} - BROUGHT - OPTIONAL
    assert not missing, {name: files[name] for name in missing}


def test_nothing_is_asked_for_in_vain():
    used = packages([*library().values(), MODULE])
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text("utf-8").split("\n")]
    assert {name_of(one) for one in filter(None, lines)} <= set(used)


def test_the_panel_opens_where_nothing_is_installed_yet():
    """And the self-test then says what is missing, instead of failing."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6.QtWidgets", reason="Qt is not installed", exc_type=ImportError)
    program = f"""
import importlib.abc, importlib.metadata, sys, unittest
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "Testing")!r}]
import standin
standin.install()

lacking = {{"torch", "skimage", "slicerio", "nrrd", "pydicom", "pooch", "filelock", "platformdirs",
           "safetensors", "typer", "rich", "matplotlib", "segment_anything", "torchvision"}}

class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
real = importlib.metadata.distribution

def distribution(name):
    if name in ("torch", "slicerio"):
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

importlib.metadata.distribution = distribution
module = standin.load_module({str(MODULE)!r})
module.enter()
print("loaded:", lacking & set(sys.modules))
tests = unittest.TestLoader().loadTestsFromName("FoBSAM")
result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests)
standin.quit_application(module)
sys.exit(not result.wasSuccessful())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "loaded: set()" in ended.stdout
    assert (
        "skipped 'FoBSAM needs Python packages that are missing: torch, slicerio." in ended.stdout
    )
