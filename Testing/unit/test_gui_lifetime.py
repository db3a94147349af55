"""What the module leaves behind: in the scene, in files, in Slicer; and its sample data."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter

import pytest
import standin

standin.require()

import slicer  # noqa: E402
from gui_small import DRAWN, scripted, small, use_worker  # noqa: E402, F401
from PySide6 import QtCore  # noqa: E402
from slicer_module import ROOT, chest, module, sample, serve_sample  # noqa: E402, F401
from standin import sample_data  # noqa: E402
from standin.observers import count as observers  # noqa: E402
from standin.pythonqt import raw_of  # noqa: E402


def run_to_end(module):  # noqa: F811
    running = module.widget.panel.running
    standin.click(module.widget.ui.segmentButton)
    standin.wait_until(lambda: not running.under_way, 60)
    return running.run


def worker_pid(module) -> int:  # noqa: F811
    return module.widget.logic.engine._transport._process.processId()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def timers() -> int:
    """How many of Qt's timers run."""
    standin.process_events()
    gc.collect()
    found = [one for one in gc.get_objects() if isinstance(one, QtCore.QTimer)]
    return sum(one.isActive() for one in found)


def observed() -> dict[str, int]:
    """How many observers the scene, its nodes and their segmentations have."""
    scene = slicer.mrmlScene
    nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
    segmentations = [n.GetSegmentation() for n in nodes if n.IsA("vtkMRMLSegmentationNode")]
    found = {}
    for one in (scene, *nodes, *segmentations):
        found[identity(one)] = observers(one)
    return found


def identity(subject) -> str:
    return subject.GetID() if hasattr(subject, "GetID") else subject.GetClassName()


# Reload and cleanup


def test_a_reload_gives_a_working_panel(small):  # noqa: F811
    use_worker(small, scripted(0.02))
    standin.click(small.widget.ui.segmentButton)
    running = small.widget.panel.running
    standin.wait_until(lambda: running.run.found >= 2, 60)
    pid, before, library = worker_pid(small), small.widget, sys.modules["FoBSAMLib"]
    before.onReload()
    standin.process_events()
    assert small.widget is not before
    assert sys.modules["FoBSAMLib"] is not library
    standin.wait_until(lambda: not lives(pid), 30)
    assert not slicer.mrmlScene.GetFirstNodeByName("Organs (FoBSAM preview)")
    small.exit()
    small.enter()
    assert small.widget.ui.workerCommandLineEdit.text == scripted(0.02)
    assert run_to_end(small).found == 23


def test_nothing_is_left_after_the_end(module):  # noqa: F811
    from gui_small import small_scene

    small_scene()
    standin.process_events()
    before, ticking = observed(), timers()
    module.enter()
    use_worker(module, scripted(0.02))
    running = module.widget.panel.running
    standin.click(module.widget.ui.segmentButton)
    standin.wait_until(lambda: running.run.found >= 2, 60)
    pid = worker_pid(module)
    # The stand-in's own widgets go on observing the scene and its nodes, and do nothing.
    boxes = (module.widget.ui.volumeSelector, module.widget.ui.segmentationSelector)
    selectors = Counter(
        identity(subject)
        for box in map(raw_of, boxes)
        for subject, _tag in box._scene_observers._tags + box._node_observers._tags
    )
    module.close()
    standin.wait_until(lambda: not lives(pid), 30)
    standin.wait_until(lambda: timers() == ticking, 30)  # one gives the worker time to end
    # Slicer's parameter node, which was not there before, is observed by its wrapper to the end.
    after = {name: n for name, n in observed().items() if name in before}
    assert not Counter(after) - Counter(before) - selectors
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert names == ["Organs"]
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    standin.load_module(ROOT / "FoBSAM" / "FoBSAM.py")  # for the fixture to close


def test_left_and_opened_again_a_module_observes_no_more(small):  # noqa: F811
    small.exit()
    small.enter()
    before = Counter(observed())
    for _ in range(5):
        small.exit()
        small.enter()
    grown = Counter(observed()) - before
    # Slicer's wrapper begins to observe each time that it is joined to widgets, and never ends.
    assert grown.pop(small.widget._parameterNode.parameterNode.GetID(), 0) <= 5
    assert not grown


def test_a_run_goes_on_in_another_module(small):  # noqa: F811
    use_worker(small, scripted(0.02))
    running = small.widget.panel.running
    standin.click(small.widget.ui.segmentButton)
    standin.wait_until(lambda: running.run.found >= 2, 60)
    small.exit()
    standin.wait_until(lambda: not running.under_way, 30)
    small.enter()
    assert running.run.found == 23
    assert small.widget.ui.acceptButton.enabled


# Files


@pytest.mark.parametrize("suffix", ["mrml", "mrb"])
def test_a_scene_keeps_its_choices_and_nothing_of_the_computer(small, tmp_path, suffix):  # noqa: F811
    parameters, ui = small.widget._parameterNode, small.widget.ui
    standin.click(ui.optionsBox, (12, 8)) if ui.optionsBox.collapsed else None
    parameters.allSlices, parameters.firstSlice, parameters.lastSlice = False, 9, 15
    parameters.axis = "k"
    standin.wait(0.4)
    use_worker(small, scripted())
    assert run_to_end(small).found == 6
    small.widget.panel.review.go_to(DRAWN + 1)
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    path = tmp_path / f"scene.{suffix}"
    assert slicer.util.saveScene(str(path))
    if suffix == "mrml":
        text = path.read_text()
        assert "firstSlice" in text
        for word in ("preview", "<MarkupsFiducial", "scripted_worker", "Seconds", "compact"):
            assert word not in text, word
    slicer.mrmlScene.Clear(False)
    use_worker(small, "another one")
    slicer.util.loadScene(str(path))
    standin.process_events()
    now = small.widget._parameterNode
    assert (now.allSlices, now.firstSlice, now.lastSlice, now.axis) == (False, 9, 15, "k")
    assert now.volume.GetName() == "CT"
    assert now.segmentation.GetName() == "Organs"
    assert ui.workerCommandLineEdit.text == "another one"
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert names == ["Organs"]
    assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    standin.wait(0.5)  # what is drawn is read once no more changes come in
    # A .mrml holds no voxels.
    assert ui.segmentButton.enabled == (suffix == "mrb")


# Sample data


def sources():
    return slicer.modules.sampleDataSources["FoBSAM"]


def test_the_sample_is_registered_once(module):  # noqa: F811
    (source,) = sources()
    assert all(one.startswith("SHA256:") and len(one) == 71 for one in source.checksums)
    assert all(one.startswith("https://") for one in source.uris)
    module.enter()
    module.widget.onReload()
    assert len(sources()) == 1


def test_the_sample_from_the_sample_data_module(module):  # noqa: F811
    import SampleData

    serve_sample()
    volume, segmentation = SampleData.downloadSamples("FoBSAMChest")
    assert volume.GetName() == "FoBSAMChest"
    assert segmentation.GetSegmentation().GetNumberOfSegments() > 1
    module.enter()
    assert module.widget.ui.volumeSelector.currentNode() is volume


def test_the_sample_without_a_network(module):  # noqa: F811
    module.enter()
    ui, panel = module.widget.ui, module.widget.panel
    standin.click(ui.tryButton)
    assert "The sample could not be loaded" in panel.messages.text
    assert "Check the internet connection" in panel.messages.text
    assert not slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    assert ui.tryButton.visible
    serve_sample()  # it is back
    standin.click(ui.tryButton)
    assert "Press Segment" in panel.messages.text


def test_the_sample_of_a_module_that_was_loaded_after_the_start(module):  # noqa: F811
    del slicer.modules.sampleDataSources
    serve_sample()
    module.enter()
    standin.click(module.widget.ui.tryButton)
    assert "Press Segment" in module.widget.panel.messages.text
    assert len(sources()) == 1


def test_a_sample_that_is_another_file(module, tmp_path):  # noqa: F811
    from FoBSAMLib.gui import samples

    serve_sample()
    wrong = tmp_path / samples.FILES[1]
    wrong.write_bytes(sample(samples.FILES[1]).read_bytes() + b"0")
    sample_data.served[samples.SOURCE + samples.FILES[1]] = wrong
    module.enter()
    standin.click(module.widget.ui.tryButton)
    assert "The sample could not be loaded" in module.widget.panel.messages.text


@pytest.mark.parametrize("got", ["nothing", "paths", "the first"])
def test_what_slicer_gives_for_a_failed_download(module, got, monkeypatch):  # noqa: F811
    """Slicer's own function raises nothing: it gives what it could load, or the files' paths."""
    import SampleData

    def give(_self, _name):
        if got == "the first":
            return [slicer.util.loadVolume(str(sample("CTChest4.nrrd")))]
        return ["/cache/a.nrrd", "/cache/b.seg.nrrd"] if got == "paths" else []

    monkeypatch.setattr(SampleData.SampleDataLogic, "downloadSamples", give)
    module.enter()
    standin.click(module.widget.ui.tryButton)
    assert "the download failed, or is not" in module.widget.panel.messages.text
    assert not slicer.util.getNodesByClass("vtkMRMLVolumeNode"), "half a sample is of no use"


# Importing


def test_importing_does_nothing():
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing")!r}, {str(ROOT)!r}]
import standin
standin.install()
import slicer
from PySide6 import QtCore
nodes, paths = slicer.mrmlScene.GetNumberOfNodes(), list(sys.path)
import pkgutil, FoBSAMLib.gui, FoBSAMLib.mrml, FoBSAMLib.background
for package in (FoBSAMLib.gui, FoBSAMLib.mrml, FoBSAMLib.background):
    for one in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        __import__(one.name)
import importlib.util
spec = importlib.util.spec_from_file_location("FoBSAM", {str(ROOT / "FoBSAM" / "FoBSAM.py")!r})
source = importlib.util.module_from_spec(spec)
sys.modules["FoBSAM"] = source
spec.loader.exec_module(source)
import gc
assert slicer.mrmlScene.GetNumberOfNodes() == nodes
assert sys.path == paths
assert not [one for one in gc.get_objects() if isinstance(one, (QtCore.QTimer, QtCore.QProcess))]
assert not slicer.app.userSettings().allKeys()
assert not hasattr(slicer.modules, "sampleDataSources")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
