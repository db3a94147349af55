"""What computes: choices of the computer, a worker that is stopped, keys of the review."""

from __future__ import annotations

import gc
import os
import shlex
import sys

import pytest
import standin

standin.require()

import slicer  # noqa: E402
from gui_small import DRAWN, scripted, small, use_worker  # noqa: E402, F401
from PySide6 import QtGui  # noqa: E402
from slicer_module import ROOT, module  # noqa: E402, F401 (a fixture)
from standin.pythonqt import raw_of  # noqa: E402


def run_to_end(module, seconds=120):  # noqa: F811
    running = module.widget.panel.running
    standin.click(module.widget.ui.segmentButton)
    standin.wait_until(lambda: not running.under_way, seconds)


def lines_of(*boxes):
    return [box.currentText for box in boxes]


def test_choices_survive_the_panel(small):  # noqa: F811
    ui = small.widget.ui
    standin.click(ui.workerButton)
    assert lines_of(ui.generatorComboBox, ui.segmenterComboBox, ui.deviceComboBox) == [
        "fob-lite",
        "compact",
        "auto",
    ]
    standin.choose(ui.segmenterComboBox, "random-walker")
    standin.choose(ui.deviceComboBox, "cpu")
    standin.choose(ui.generatorComboBox, "fob-lite-fast")
    standin.type_text(ui.generatorComboBox.lineEdit(), "fob-paper:/models/fob.pth")
    use_worker(small, "ssh 'gpu host' fobsam worker")
    small.close()
    again = standin.load_module(ROOT / "FoBSAM" / "FoBSAM.py")
    again.enter()
    ui = again.widget.ui
    assert lines_of(ui.generatorComboBox, ui.segmenterComboBox, ui.deviceComboBox) == [
        "fob-paper:/models/fob.pth",
        "random-walker",
        "cpu",
    ]
    from FoBSAMLib.gui import settings

    assert settings.worker_command() == ["ssh", "gpu host", "fobsam", "worker"]
    assert settings.models() == ("fob-paper:/models/fob.pth", "random-walker", "cpu")
    # What is emptied is the default again.
    use_worker(again, "")
    standin.choose(ui.generatorComboBox, "fob-lite")
    assert settings.worker_command() is None
    keys = [one for one in slicer.app.userSettings().allKeys() if one.startswith("FoBSAM/")]
    assert sorted(keys) == ["FoBSAM/Device", "FoBSAM/Generator", "FoBSAM/Segmenter"]


def test_an_unknown_name_is_refused_by_the_worker_with_the_nearest(small):  # noqa: F811
    ui, panel = small.widget.ui, small.widget.panel
    standin.click(ui.workerButton)
    standin.type_text(ui.segmenterComboBox.lineEdit(), "compct")
    run_to_end(small, 60)
    assert "There is no segmenter 'compct'. Did you mean 'compact'?" in panel.messages.text
    assert panel.running.run is None
    assert ui.segmentButton.enabled


def test_a_command_whose_quotes_do_not_end(small):  # noqa: F811
    panel = small.widget.panel
    use_worker(small, "ssh 'gpuhost fobsam worker")
    standin.click(small.widget.ui.segmentButton)
    assert "cannot be read: ssh 'gpuhost fobsam worker Close its quotes" in panel.messages.text
    assert not panel.running.under_way


def test_a_command_that_is_no_program(small):  # noqa: F811
    use_worker(small, "no-such-program worker")
    run_to_end(small)
    assert "cannot be started: no-such-program" in small.widget.panel.messages.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r"C:\Python\python.exe -m FoBSAMLib worker", [r"C:\Python\python.exe", "-m"]),
        (r'"C:\Program Files\py\python.exe" -m x', [r"C:\Program Files\py\python.exe", "-m"]),
        (r"\\server\share\start.bat a", [r"\\server\share\start.bat", "a"]),
    ],
)
def test_a_command_of_windows(module, text, words):  # noqa: F811
    from FoBSAMLib.gui.settings import split_command

    assert split_command(text, windows=True)[:2] == words


def test_what_a_slice_took_is_told_next_time(small):  # noqa: F811
    ui = small.widget.ui
    use_worker(small, scripted(0.1))
    assert ui.costLabel.text == "23 slices to look in, about 2 s, and some seconds to start."
    run_to_end(small)
    assert ui.workerLabel.text == "Worker ready on none: scripted, copy."
    standin.click(ui.discardButton)
    standin.wait_until(lambda: ui.costLabel.text.endswith(" on NONE."), 30)
    from FoBSAMLib.gui import settings

    assert settings.seconds_a_slice() == pytest.approx(0.1, rel=0.5)
    use_worker(small, scripted(0.0))  # another worker, of which nothing is known
    assert "some seconds to start" in ui.costLabel.text


def test_stop_in_a_run_keeps_what_was_found(small):  # noqa: F811
    ui, panel = small.widget.ui, small.widget.panel
    use_worker(small, scripted(0.05))
    assert not ui.stopWorkerButton.enabled, "there is none yet"
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.running.run.found >= 4, 60)
    pid = worker_pid(small)
    standin.click(ui.stopWorkerButton)
    assert not panel.running.under_way
    found = panel.running.run.found
    assert 4 <= found < 23
    (target,) = panel.running.run.targets
    assert len(target.results("s0")) == found
    standin.wait_until(lambda: not lives(pid), 30)
    assert not panel.messages.text
    assert not ui.stopWorkerButton.enabled
    assert ui.segmentButton.enabled
    assert ui.workerLabel.text == "The worker is started at the first run."
    standin.click(ui.acceptButton)
    assert "Accepted" in panel.messages.text
    run_to_end(small)  # another one is started
    assert panel.running.run.found == 23


def test_stop_while_idle_and_while_starting(small):  # noqa: F811
    ui, panel = small.widget.ui, small.widget.panel
    use_worker(small, scripted())
    run_to_end(small)
    standin.click(ui.stopWorkerButton)
    assert panel.running.run.found == 23
    assert ui.acceptButton.enabled
    # One that never answers can be stopped, too.
    use_worker(small, shlex.join([sys.executable, "-c", "import time; time.sleep(60)"]))
    standin.click(ui.segmentButton)
    standin.wait(0.3)
    assert panel.running.under_way
    standin.click(ui.stopWorkerButton)
    assert not panel.running.under_way
    assert panel.running.run is None
    assert ui.segmentButton.enabled
    assert not ui.progressBar.visible


def test_the_log_is_shown_at_its_end(small):  # noqa: F811
    ui = small.widget.ui
    use_worker(small, scripted())
    run_to_end(small)
    assert "looking for ['Liver']" in ui.logTextEdit.plainText
    standin.click(ui.copyReportButton)
    assert "on the clipboard" in small.widget.panel.messages.text


def test_keys_are_there_while_the_module_is_open(small):  # noqa: F811
    ui, panel, window = small.widget.ui, small.widget.panel, small.window
    use_worker(small, scripted())
    run_to_end(small)
    panel.review.go_to(DRAWN)
    window.setFocus()
    standin.press_key(window, "N")
    assert panel.review.views.current == DRAWN + 1, "all are as uncertain"
    standin.press_key(window, "X")
    assert "your answer counts" in ui.sliceLabel.text
    small.exit()
    before = ui.sliceLabel.text
    standin.press_key(window, "N")
    assert ui.sliceLabel.text == before
    small.enter()
    standin.press_key(window, "N")
    assert panel.review.views.current == DRAWN + 2


def test_keys_do_nothing_while_one_types(small):  # noqa: F811
    ui, panel = small.widget.ui, small.widget.panel
    use_worker(small, scripted())
    run_to_end(small)
    panel.review.go_to(DRAWN)
    assert slicer.app.userSettings().value("FoBSAM/WorkerCommand")
    for line in (ui.workerCommandLineEdit, ui.segmenterComboBox.lineEdit()):
        line.setFocus()
        line.selectAll()
        for key in "NUXG":
            standin.press_key(line, key)
        assert line.text.lower() == "nuxg"
    assert panel.review.views.current == DRAWN
    assert not panel.messages.text


def test_keys_leave_nothing_behind(small):  # noqa: F811
    def count():
        gc.collect()
        standin.process_events()
        return len(raw_of(small.window).findChildren(QtGui.QShortcut))

    def objects():
        gc.collect()
        return sum(isinstance(one, QtGui.QShortcut) for one in gc.get_objects())

    small.exit()
    outside, alive = count(), objects()
    small.enter()
    inside = count()
    assert inside == outside + 4
    for _ in range(5):
        small.exit()
        assert count() == outside
        small.enter()
        assert count() == inside
    small.exit()
    standin.process_events()
    assert objects() == alive


def worker_pid(module) -> int:  # noqa: F811
    return module.widget.logic.engine._transport._process.processId()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
