"""The panel's section of models: a real process of ``fobsam models`` and a real, local server."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re

import pytest
import standin
import torch

standin.require()

import slicer  # noqa: E402
from gui_small import DRAWN, small_scene, use_worker  # noqa: E402
from model_server import CONTENT, archive, serve, weights  # noqa: E402
from slicer_module import ROOT, module  # noqa: E402, F401 (a fixture)
from standin import packages  # noqa: E402
from standin.pythonqt import raw_of  # noqa: E402

from FoBSAMLib.errors import FoBSAMError  # noqa: E402
from FoBSAMLib.generator.compatible import CompatibleFoB  # noqa: E402
from FoBSAMLib.models.catalogue import find  # noqa: E402


@pytest.fixture
def server(monkeypatch, tmp_path):
    served = serve(monkeypatch, tmp_path)
    yield served
    served.close()


@pytest.fixture
def section(server, module):  # noqa: F811
    module.enter()
    standin.click(module.widget.ui.modelsButton)
    return module.widget


def states(section):
    table = section.ui.modelsTable
    return [table.item(n, 3).text() for n in range(table.rowCount)]


def choose(section, row):
    section.ui.modelsTable.selectRow(row)


def ended(section):
    standin.wait_until(lambda: section.panel.models._command is None, 60)


def test_a_model_is_agreed_to_downloaded_verified_and_removed(section, server):
    ui = section.ui
    assert states(section) == ["not here"] * 3
    choose(section, 0)
    assert "Licence: Apache-2.0" in ui.modelLabel.text
    standin.answer("Licence: Apache-2.0", "Cancel")
    standin.click(ui.downloadModelButton)
    assert section.panel.models._command is None
    assert server.seen == []
    standin.answer("Licence: Apache-2.0", "OK")
    standin.click(ui.downloadModelButton)
    assert not ui.downloadModelButton.enabled
    ended(section)
    assert find("one").path.read_bytes() == CONTENT
    assert states(section)[0] == "here"
    standin.click(ui.verifyModelButton)
    ended(section)
    assert section.panel.messages.text == "A model is as it came in."
    find("one").path.write_bytes(b"else")
    standin.click(ui.verifyModelButton)
    ended(section)
    assert "not the file that was published" in section.panel.messages.text
    assert states(section)[0] == "not verified"
    assert "press Verify" in ui.modelLabel.text
    standin.answer("Remove", "OK")
    standin.click(ui.removeModelButton)
    ended(section)
    assert find("one").state == "absent"
    assert not ui.removeModelButton.enabled


def test_a_download_that_was_cancelled_goes_on_without_being_asked_again(section, server):
    ui = section.ui
    server.pause = 0.2
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(ui.downloadModelButton)
    standin.wait_until(lambda: find("one").partial.exists() and ui.modelProgressBar.value > 0, 60)
    standin.click(ui.cancelModelButton)
    ended(section)
    assert "What has come is kept" in section.panel.messages.text
    assert states(section)[0] == "partly here"
    server.pause = 0.0
    standin.click(ui.downloadModelButton)
    ended(section)
    assert find("one").path.read_bytes() == CONTENT
    assert server.seen[-1][1] is not None  # only what was missing


def test_wrong_bytes_are_told(section, server):
    server.fault = "wrong bytes"
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    ended(section)
    assert "not the file that was published" in section.panel.messages.text
    assert find("one").state == "absent"


def test_no_network_is_told_with_what_to_do(section, server):
    server.close()
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    ended(section)
    text = section.panel.messages.text
    assert "was not downloaded: the server cannot be reached" in text
    assert "import the file" in text
    assert states(section)[0] == "not here"
    assert section.ui.downloadModelButton.enabled


def test_the_proxy_of_slicers_environment_is_used(section, server, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    listed = tmp_path / "models.json"
    listed.write_text(listed.read_text().replace(server.url, "http://models.invalid"))
    section.panel.models.refresh()
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    ended(section)
    assert server.seen[0][0] == "http://models.invalid/one.pth"
    assert find("one").path.read_bytes() == CONTENT


def test_cancelled_before_anything_was_asked(section, server):
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    standin.click(section.ui.cancelModelButton)
    assert not section.ui.cancelModelButton.enabled
    ended(section)
    assert find("one").state in ("absent", "partial")
    assert section.panel.messages.text.startswith(("Stopped", "What has come is kept"))


def test_another_module_and_another_scene_do_not_stop_a_download(section, server, module):  # noqa: F811
    server.pause = 0.1
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    standin.wait_until(lambda: section.ui.modelProgressBar.value > 0, 60)
    assert re.search(r"\d+ kB of 2 MB", section.ui.modelProgressBar.format)
    module.exit()
    standin.close_scene()
    ended(section)
    module.enter()
    assert states(section)[0] == "here"


def test_where_packages_are_missing_they_can_be_had_here(section, monkeypatch):
    real = importlib.metadata.distribution

    def distribution(name):
        if name in packages.missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    ui = section.ui
    assert not ui.modelPackagesButton.visible
    packages.missing.add("filelock")
    section.panel.models.refresh()
    assert states(section) == []
    assert not ui.downloadModelButton.enabled
    standin.answer("filelock", "OK")
    standin.click(ui.modelPackagesButton)
    assert packages.installed == ["filelock>=3.12"]
    assert len(states(section)) == 3


def test_a_command_that_cannot_be_started_is_told(section, monkeypatch):
    monkeypatch.setattr("FoBSAMLib.gui.model_command.sys.executable", "/nowhere/python")
    standin.answer("Licence: Apache-2.0", "OK")
    standin.click(section.ui.downloadModelButton)
    ended(section)
    assert "/nowhere/python cannot be started" in section.panel.messages.text
    assert section.ui.downloadModelButton.enabled


def test_a_model_from_a_file(section, tmp_path):
    file = tmp_path / "from elsewhere.pth"
    file.write_bytes(weights())
    choose(section, 0)
    standin.answer("one.pth", str(file))
    standin.click(section.ui.importModelButton)
    ended(section)
    assert "Choose it in the section Computing" in section.panel.messages.text
    assert file.exists()
    assert hashlib.sha256(find("one").path.read_bytes()).hexdigest() == find("one").sha256


def test_a_file_that_is_another_one_is_refused(section, tmp_path):
    file = tmp_path / "other.pth"
    file.write_bytes(weights(0.7))
    choose(section, 0)
    standin.answer("one.pth", str(file))
    standin.click(section.ui.importModelButton)
    ended(section)
    assert "not the file that was published" in section.panel.messages.text
    assert states(section)[0] == "not here"


def test_the_papers_folds_can_be_chosen_once_they_are_here(section, server):
    server.content = archive()
    ui = section.ui
    choose(section, 2)
    standin.answer("Licence", "OK")
    standin.click(ui.downloadModelButton)
    ended(section)
    box = ui.generatorComboBox
    assert "fob-paper:sabs:4" in [box.itemText(n) for n in range(box.count)]
    assert "refinement was never trained" in ui.modelLabel.text


def test_a_run_with_a_fold_tells_whether_its_refinement_was_trained(section, module):  # noqa: F811
    small_scene()
    file = find("fob-paper-sabs").path / "0.pth"
    file.parent.mkdir(parents=True)
    torch.save(CompatibleFoB().state_dict(), file)
    module.exit()
    module.enter()
    parameters = section.logic.getParameterNode()
    parameters.allSlices, parameters.firstSlice, parameters.lastSlice = False, DRAWN - 1, DRAWN + 1
    standin.click(section.ui.workerButton)
    standin.choose(section.ui.generatorComboBox, "fob-paper:sabs:0")
    standin.click(section.ui.segmentButton)
    standin.wait_until(lambda: not section.panel.running.under_way, 120)
    assert "The refinement of these weights was never trained" in section.panel.messages.text


def test_a_fold_that_is_here_is_offered_by_the_next_panel_until_it_is_removed(
    section,
    server,
    module,  # noqa: F811
):
    server.content = archive()
    choose(section, 2)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    ended(section)
    module.close()
    again = standin.load_module(ROOT / "FoBSAM" / "FoBSAM.py")
    again.enter()
    ui = again.widget.ui
    box = ui.generatorComboBox
    assert "fob-paper:sabs:0" in [box.itemText(n) for n in range(box.count)]
    standin.click(ui.modelsButton)
    choose(again.widget, 2)
    assert "refinement was never trained" in ui.modelLabel.text
    standin.answer("Remove", "OK")
    standin.click(ui.removeModelButton)
    ended(again.widget)
    assert again.widget.panel.messages.text.endswith("is removed.")
    assert not [n for n in range(box.count) if "sabs" in box.itemText(n)]


def test_what_is_chosen_and_not_here_is_one_click_away(section, server, module, tmp_path):  # noqa: F811
    """And not where a worker elsewhere has its own models."""
    listed = tmp_path / "models.json"
    listed.write_text(listed.read_text().replace('"open"', '"sam-vit-b"'))
    ui = section.ui
    standin.click(ui.modelsButton)
    standin.click(ui.workerButton)
    assert not ui.missingModelButton.visible
    standin.choose(ui.segmenterComboBox, "sam-vit-b")
    assert ui.missingModelLabel.text == "A model (about 0 kB) is not on this computer yet."
    use_worker(module, "ssh gpuhost fobsam worker")
    assert not ui.missingModelButton.visible
    section.panel.messages.error(FoBSAMError("weights_missing", "None.", "Get sam-vit-b"))
    assert ui.modelsButton.collapsed
    use_worker(module, "")
    standin.click(ui.missingModelButton)
    assert not ui.modelsButton.collapsed
    assert ui.modelsTable.currentRow() == 1
    standin.answer("Licence", "OK")
    standin.click(ui.downloadModelButton)
    ended(section)
    assert not ui.missingModelButton.visible
    standin.type_text(ui.generatorComboBox.lineEdit(), "fob-paper:sabs:2")
    standin.click(ui.missingModelButton)
    assert ui.modelsTable.currentRow() == 2


def test_missing_weights_point_at_the_section(section):
    ui = section.ui
    ui.modelsButton.collapsed = True
    error = FoBSAMError("weights_missing", "No weights.", find("open").how_to_get)
    section.panel.messages.error(error)
    assert "Download it in the section Models" in section.panel.messages.text
    assert not ui.modelsButton.collapsed
    assert ui.modelsTable.currentRow() == 1


def test_leaving_slicer_in_the_middle_keeps_what_has_come(section, server):
    server.pause = 0.2
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    standin.wait_until(lambda: section.ui.modelProgressBar.value > 0, 60)
    command = section.panel.models._command
    import qt  # there is none before the module is loaded

    raw_of(slicer.app).aboutToQuit.emit()

    assert command._process.state() == qt.QProcess.NotRunning
    assert find("one").state == "partial"
