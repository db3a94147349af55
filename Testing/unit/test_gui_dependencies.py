"""What Slicer does not bring: asked for once, and never imported in its own process."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest
import standin

standin.require()

import slicer  # noqa: E402
from gui_small import scripted, small, use_worker  # noqa: E402, F401 (a fixture)
from slicer_module import ROOT, module  # noqa: E402, F401 (a fixture)
from standin import dialogs, packages  # noqa: E402

from FoBSAMLib import FoBSAMError  # noqa: E402
from FoBSAMLib.mrml.packages import SPECIAL, TORCH, check_installed  # noqa: E402

REQUIREMENTS = ROOT / "Resources" / "requirements.txt"
#: What comes with Slicer, or through its PyTorch extension.
OTHERWISE = {"numpy", "scipy", "simpleitk", "torch"}
PYTORCH = ["torch>=2.4", "torchvision>=0.19"]
DEFAULT = ("fob-lite", "compact", "auto")
SAM = ("fob-lite", "sam-vit-b:/models/sam.pth", "auto")


@pytest.fixture
def lacking(small, monkeypatch):  # noqa: F811
    """A function that has packages be missing; with the module."""
    real = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in packages.missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    def lack(*names: str):
        packages.missing.update(names)
        return small

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    return lack


def press_segment(module):  # noqa: F811
    standin.click(module.widget.ui.segmentButton)
    return module.widget.panel


def ensure(models) -> bool:
    """As the panel calls it with these models chosen."""
    from FoBSAMLib.gui import dependencies

    return dependencies.ensure(REQUIREMENTS, models)


def begun(panel) -> bool:
    return panel.running.run is not None


def test_nothing_is_asked_where_all_is_there(lacking):
    panel = press_segment(lacking())
    assert begun(panel)
    assert not dialogs.shown
    assert not packages.installed


@pytest.mark.parametrize("version", ["5.12", "5.10"])
def test_one_consent_then_all_is_installed(lacking, version):
    if version == "5.10":
        packages.switch_off()
    standin.answer("", "OK")
    panel = press_segment(lacking("torch", "slicerio", "pooch"))
    (asked,) = dialogs.shown
    assert re.search(r": torch, slicerio, pooch\.\s", asked.text)
    assert re.search(r"PyTorch takes 0\.8 GB.*others up to 0\.2 GB", asked.text)
    assert packages.installed == [*PYTORCH, "slicerio>=1.4", "pooch>=1.8"]
    assert begun(panel)
    assert not panel.messages.text


def test_without_pytorch_no_word_of_it(lacking):
    standin.answer("", "OK")
    press_segment(lacking("slicerio"))
    (asked,) = dialogs.shown
    assert "orch" not in asked.text
    assert packages.installed == ["slicerio>=1.4"]


def test_after_an_installation_the_pytorch_of_the_extension_is_left_alone(lacking, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    standin.answer("", "OK")
    assert begun(press_segment(lacking("torch")))
    # Nothing can be used of this one.
    assert sys.modules["torch"] is packages.torch


def test_a_sam_segmenter_needs_more(lacking):
    lacking("segment-anything", "torchvision")
    assert ensure(DEFAULT), "the others do not need it"
    assert not dialogs.shown
    standin.answer("", "Cancel")
    assert not ensure(SAM)
    standin.answer("", "OK")
    assert ensure(SAM)
    assert ": segment-anything, torchvision.\n" in dialogs.shown[-1].text
    assert packages.installed == [*PYTORCH, "segment-anything>=1.0"]


def test_segment_anything_alone_does_not_need_the_pytorch_extension(lacking, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    lacking("segment-anything")
    standin.answer("", "OK")
    assert ensure(SAM)
    assert packages.installed == ["segment-anything>=1.0"]


def test_scripts_are_told_what_is_missing(lacking):
    check_installed(SAM)
    lacking("torch", "slicerio", "segment-anything")
    with pytest.raises(FoBSAMError, match="missing: torch, slicerio, segment-anything") as raised:
        check_installed(SAM)
    assert "press Segment once with the segmenter 'sam-vit-b:/models/sam.pth'" in raised.value.hint
    with pytest.raises(FoBSAMError, match=r"missing: torch, slicerio\.") as raised:
        check_installed(DEFAULT)
    assert "press Segment once: that installs them" in raised.value.hint
    assert not dialogs.shown
    assert not packages.installed


def test_declined_nothing_happens(lacking):
    standin.answer("", "Cancel")
    module = lacking("torch", "slicerio")  # noqa: F811
    panel = press_segment(module)
    assert not packages.installed
    assert not begun(panel)
    assert not panel.running.under_way
    assert not panel.messages.text
    standin.answer("", "OK")  # thought better of it
    assert begun(press_segment(module))


@pytest.mark.parametrize("version", ["5.12", "5.10"])
def test_an_installation_that_fails(lacking, monkeypatch, version, capsys):
    def fail(*_arguments, **_options):
        raise subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "pip"])

    if version == "5.10":
        packages.switch_off()
        monkeypatch.setattr(slicer.util, "pip_install", fail)
    else:
        monkeypatch.setattr(slicer.packaging, "pip_ensure", fail)
    standin.answer("", "OK")
    panel = press_segment(lacking("slicerio"))
    assert not begun(panel)
    assert "could be installed: Command" in panel.messages.text
    assert "exit status 1. Check the internet connection" in panel.messages.text
    assert "Traceback" not in capsys.readouterr().err


def test_an_installation_that_does_nothing(lacking, monkeypatch):
    monkeypatch.setattr(slicer.packaging, "pip_ensure", lambda *_arguments, **_options: None)
    standin.answer("", "OK")
    panel = press_segment(lacking("slicerio", "rich"))
    assert not begun(panel)
    assert "still missing: slicerio>=1.4, rich>=14. Restart Slicer" in panel.messages.text


def test_without_the_pytorch_extension(lacking, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    panel = press_segment(lacking("torch"))
    assert not dialogs.shown, "a consent would be of no use"
    assert not begun(panel)
    assert "the PyTorch extension" in panel.messages.text
    assert "Extensions Manager" in panel.messages.text


def test_a_worker_elsewhere_needs_nothing_here(lacking):
    module = lacking("torch", "slicerio")  # noqa: F811
    use_worker(module, scripted())
    panel = press_segment(module)
    assert not dialogs.shown
    standin.wait_until(lambda: not panel.running.under_way, 30)
    assert panel.running.run.found == 23


def test_requirements_are_those_of_the_package(module):  # noqa: F811
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text("utf-8").split("\n"))
    listed = [line for line in lines if line]
    expected = [
        one
        for one in project["dependencies"]
        if re.match(r"[\w-]+", one)[0].lower() not in OTHERWISE
    ]
    assert sorted(listed) == sorted(expected)
    assert TORCH in project["dependencies"]
    assert list(SPECIAL["sam-"]) == project["optional-dependencies"]["sam"]
    assert list(SPECIAL["sam2"]) == project["optional-dependencies"]["sam2"]


def test_torch_is_not_imported_in_the_process_of_the_window():
    program = f"""
import sys
sys.path.insert(0, {str(ROOT / "Testing")!r})
import standin
standin.install()
module = standin.load_module({str(ROOT / "FoBSAM" / "FoBSAM.py")!r})
assert not [name for name in sys.modules if name == "FoBSAMLib.worker"], "before it is opened"
module.enter()
import FoBSAMLib.mrml.console
print(sorted({{"torch", "skimage", "matplotlib", "FoBSAMLib.session.local"}} & set(sys.modules)))
standin.quit_application(module)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n")[-2] == "[]"


def test_a_sam_chosen_after_a_run_is_asked_for(lacking):
    panel = press_segment(lacking())
    panel.running.drop()
    loaded = lacking("segment-anything")
    loaded.widget.ui.segmenterComboBox.setCurrentText("sam-vit-b")
    standin.answer("segment-anything", "Cancel")
    press_segment(loaded)
    assert not panel.running.under_way
