"""The report for whoever helps: useful, and without a word of the patient."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import standin

standin.require()

import slicer  # noqa: E402
from gui_small import scripted, small_scene, use_worker  # noqa: E402
from slicer_module import module  # noqa: E402, F401 (a fixture)

PATIENT = "DOE^JOHN 1970"
#: What must not be in a report, in capitals.
SECRETS = ("DOE", "JOHN", "1970", "MÜLLER", "M\\XFC", "M\\U00FC", "KLINIK")


def copied(module) -> str:  # noqa: F811
    """What "Copy report" puts on the clipboard."""
    ui = module.widget.ui
    if ui.workerButton.collapsed:
        standin.click(ui.workerButton)
    slicer.app.clipboard().setText("nothing yet")
    standin.click(ui.copyReportButton)
    return slicer.app.clipboard().text()


def told(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text.upper()]


def run(module, command: str):  # noqa: F811
    use_worker(module, command)
    running = module.widget.panel.running
    standin.click(module.widget.ui.segmentButton)
    standin.wait_until(lambda: not running.under_way, 60)
    return module.widget.panel


def worker_that_says(folder: Path, *lines: str) -> str:
    """A worker that prints and then ends with an error, before it says hello."""
    program = folder / "w.py"
    said = "\n".join(lines) + "\n"
    program.write_text(f"import sys; sys.stderr.write({said!r}); sys.exit(3)", "utf-8")
    return shlex.join([sys.executable, "-X", "utf8", str(program)])


def test_before_anything_was_started(module):  # noqa: F811
    module.enter()
    text = copied(module)
    assert text.startswith("FoBSAM ")
    assert "\nSlicer 5.12" in text
    assert "\nhere: numpy " in text
    assert "scikit-image " in text
    assert "\nasked for: fob-lite, compact, auto\n" in text
    assert "\nworker: on this computer\nthere: not started yet\nlast error: none\n" in text
    assert "\nlog of the worker:\n" in text


def test_what_a_real_worker_says_of_itself(module):  # noqa: F811
    small_scene()
    module.enter()
    ui = module.widget.ui
    parameters = module.widget._parameterNode
    parameters.allSlices, parameters.firstSlice, parameters.lastSlice = False, 11, 13
    standin.wait(0.4)
    standin.click(ui.workerButton)
    run(module, "")
    text = copied(module)
    assert "\nthere: fobsam " in text
    assert ", torch " in text
    assert "\ngenerator: fob-lite\ngenerator_sha256: " in text
    checksum = text.partition("generator_sha256: ")[2].split("\n")[0]
    assert len(checksum) == 64
    assert "\nsegmenter: compact\n" in text
    assert "\ndevice: " in text
    assert "last error: none" in text


def test_names_in_what_a_worker_prints(module):  # noqa: F811
    small_scene(PATIENT, f"{PATIENT} organs", ("Liver DOE", 'Müller\'s "duct"'))
    module.enter()
    panel = run(module, scripted())
    log = module.widget.logic.engine.conversation.log
    assert "looking for ['Liver DOE', " in log
    text = copied(module)
    assert not told(text), text
    assert "looking for ['(name)', '(name)']" in text
    # Also when they are no longer in the scene, and after a worker was lost.
    segmentation = panel.running.run.segmentation_node
    segmentation.GetSegmentation().GetSegment("s0").SetName("Other")
    assert not told(copied(module))
    slicer.mrmlScene.RemoveNode(segmentation)
    assert not told(copied(module))


def test_names_in_the_last_error(module, tmp_path):  # noqa: F811
    volume, segmentation = small_scene(PATIENT, "Organs", ("Liver DOE",))
    module.enter()
    said = [
        f"reading {PATIENT}",
        f"Warning: volume '{PATIENT.lower()}_1' has NaN",
        r"M\xfcller-Klinik",
    ]
    segmentation.SetName("Müller-Klinik")
    panel = run(module, worker_that_says(tmp_path, *said))
    assert "DOE^JOHN" in panel.messages.text, "the user may know"
    text = copied(module)
    assert not told(text), text
    assert "last error: worker_died: The worker" in text
    assert "exit status 3" in text
    assert "reading (name) / Warning: volume '(name)_1' has NaN / (name)" in text
    slicer.mrmlScene.RemoveNode(volume)
    assert not told(copied(module))


def test_files_and_folders(module, tmp_path, monkeypatch):  # noqa: F811
    home = tmp_path / "home" / "doe"
    folder = home / "DOE^JOHN 1970"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    volume, segmentation = small_scene("scan DOE", "Organs", ("Liver",))
    assert slicer.util.saveNode(volume, str(folder / "DOE_JOHN ct.nrrd"))
    slicer.mrmlScene.RemoveNode(volume)
    volume = slicer.util.loadVolume(str(folder / "DOE_JOHN ct.nrrd"))
    assert volume.GetName().startswith("DOE_JOHN")
    module.enter()
    module.widget._parameterNode.volume = volume
    module.widget._parameterNode.segmentation = segmentation
    standin.wait(0.4)
    package = Path(np.__file__).resolve()
    said = [
        f'  File "{package}", line 3, in array',
        f'  File "{folder}/my tools/net.py", line 7',
        f"No such file or directory: '{folder}/fob.pth'",
        f"reading {home}/fob.pth and DOE_JOHN ct.nrrd",
        r"C:\Users\doe\fob.pth is missing, \\klinik\doe\fob.pth is, too; ~/doe.pth",
        "see https://pytorch.org/docs and 3 / 4 slices/s",
    ]
    run(module, worker_that_says(tmp_path, *said))
    text = copied(module)
    assert not told(text), text
    assert '/site-packages/numpy/__init__.py", line 3, in array' in text
    assert 'File "(file)", line 7' in text
    assert "No such file or directory: '(file)'" in text
    assert "reading (file) and (name)" in text
    assert "(file) is missing, (file) is, too; (file)" in text
    assert "see https://pytorch.org/docs and 3 / 4 slices/s" in text


def test_files_of_models(module):  # noqa: F811
    small_scene()
    module.enter()
    ui = module.widget.ui
    standin.click(ui.workerButton)
    standin.type_text(ui.segmenterComboBox.lineEdit(), "sam-vit-b:DOE_JOHN.pth")
    standin.wait(0.4)
    panel = run(module, "")
    assert "DOE_JOHN.pth" in panel.messages.text
    text = copied(module)
    assert not told(text), text
    assert "asked for: fob-lite, sam-vit-b:(file), auto" in text
    assert "last error: weights_missing" in text


def test_patients_of_the_subject_hierarchy(module):  # noqa: F811
    from FoBSAMLib.mrml.private import Names

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), PATIENT)
    hierarchy.CreateStudyItem(patient, "Klinik Doe, CT 3")
    names = Names()
    names.remember(slicer.mrmlScene)
    hierarchy.RemoveAllItems()
    text = names.left_out_of("study Klinik Doe, CT 3 of DOE^JOHN 1970; the red slice, worker 7")
    assert text == "study (name) of (name); the red slice, worker 7"


@pytest.mark.parametrize("name", ["Leber (rechts)", "a|b", "x\\y", "[1]", "täglich", "'q'", "日本"])
def test_names_are_no_patterns(module, name):  # noqa: F811
    from FoBSAMLib.mrml.private import Names

    names = Names()
    names.remember(slicer.mrmlScene, name)
    for printed in (name, repr([name]), ascii({"name": name}), f"{name}_2, {name.upper()}"):
        assert name not in names.left_out_of(printed)
        assert "(name)" in names.left_out_of(printed)
