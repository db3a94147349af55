"""The panel's section of models: a real process of ``fobsam models`` and a real, local server."""

from __future__ import annotations

import hashlib

import pytest
import standin

standin.require()

from model_server import CONTENT, archive, serve, weights  # noqa: E402
from slicer_module import module  # noqa: E402, F401 (a fixture)

from FoBSAMLib.errors import FoBSAMError  # noqa: E402
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


def test_a_model_from_a_file(section, tmp_path):
    file = tmp_path / "from elsewhere.pth"
    file.write_bytes(weights())
    choose(section, 0)
    standin.answer("one.pth", str(file))
    standin.click(section.ui.importModelButton)
    ended(section)
    assert hashlib.sha256(find("one").path.read_bytes()).hexdigest() == find("one").sha256


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


def test_missing_weights_point_at_the_section(section):
    ui = section.ui
    ui.modelsButton.collapsed = True
    error = FoBSAMError("weights_missing", "No weights.", find("open").how_to_get)
    section.panel.messages.error(error)
    assert not ui.modelsButton.collapsed
    assert ui.modelsTable.currentRow() == 1


def test_leaving_slicer_in_the_middle_keeps_what_has_come(section, server):
    server.pause = 0.2
    choose(section, 0)
    standin.answer("Licence", "OK")
    standin.click(section.ui.downloadModelButton)
    standin.wait_until(lambda: section.ui.modelProgressBar.value > 0, 60)
    import qt  # there is none before the module is loaded

    process = section.panel.models._command._process
    section.panel.close()
    standin.wait_until(lambda: process.state() == qt.QProcess.NotRunning, 30)
    assert find("one").state == "partial"
