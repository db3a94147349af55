"""The stand-in for Slicer's GUI layer is strict: it refuses what Slicer would not do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import standin

standin.require()
standin.install()

import ctk  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402

application = pytest.fixture(autouse=True)(standin.fresh)

TESTING = Path(__file__).resolve().parents[1]


def add_volume(name: str = "CT"):
    """A volume of 4 × 5 × 6 voxels in the scene."""
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name=name)


def test_importing_it_changes_nothing():
    code = (
        "import sys, standin; print([m for m in ('slicer', 'qt', 'PySide6') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(TESTING)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def test_the_scene_alone_needs_no_qt():
    code = (
        "import sys, standin; standin.install(gui=False); import slicer;"
        "assert 'PySide6' not in sys.modules;"
        "print(slicer.modules.volumes.logic().GetClassName(), slicer.mrmlScene.GetNumberOfNodes())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(TESTING)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("vtkSlicerVolumesLogic ")


def test_a_scene_survives_its_file(tmp_path):
    volume = add_volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    liver = node.GetSegmentation().AddEmptySegment("", "liver")
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[2, 1:3, 2:5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, liver, volume)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    standin.reset()
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    slicer.util.loadScene(tmp_path / "scene.mrb")
    node, volume = slicer.util.getNode("Drawn"), slicer.util.getNode("CT")
    read = slicer.util.arrayFromSegmentBinaryLabelmap(node, liver, volume)
    assert np.array_equal(read, mask)


def test_closing_the_scene_keeps_the_views_and_resetting_drops_singletons():
    add_volume()
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag("FoBSAM")
    slicer.mrmlScene.AddNode(node)
    standin.close_scene()
    assert slicer.mrmlScene.GetSingletonNode("FoBSAM", "vtkMRMLScriptedModuleNode")
    red = slicer.mrmlScene.GetSingletonNode("Red", "vtkMRMLSliceNode")
    assert red.GetOrientation() == "Axial"
    standin.reset()
    assert not slicer.mrmlScene.GetSingletonNode("FoBSAM", "vtkMRMLScriptedModuleNode")


class TestPythonQt:
    def test_properties_are_attributes_and_cannot_be_called(self):
        label = qt.QLabel("one")
        assert label.text == "one"
        label.text = "two"
        assert label.text == "two"
        label.setText("three")
        assert label.text == "three"
        with pytest.raises(TypeError):
            label.text()
        box = qt.QSpinBox()
        box.maximum = 500
        box.value = 300
        assert (box.value, box.enabled, box.visible) == (300, True, False)
        assert (box.isEnabled(), box.isVisible()) == (True, False)
        label.name = "here"
        assert (label.objectName, label.name) == ("here", "here")

    @pytest.mark.parametrize("name", ["nope", "isOpen", "setFoo", "position"])
    def test_unknown_attributes_raise(self, name):
        label = qt.QLabel("one")
        with pytest.raises(AttributeError):
            getattr(label, name)
        with pytest.raises(AttributeError):
            setattr(label, name, 1)

    def test_methods_and_classes_cannot_be_replaced(self):
        label = qt.QLabel("one")
        with pytest.raises(AttributeError, match="overwritten"):
            label.setText = print
        with pytest.raises(AttributeError):
            qt.QLabel.setText = print

    @pytest.mark.parametrize(
        ("widget", "name", "value"),
        [
            ("QLabel", "text", 5),
            ("QLabel", "text", None),
            ("QSpinBox", "value", 1.5),
            ("QWidget", "enabled", "yes"),
            ("QWidget", "visible", None),
            ("QWidget", "width", 10),
        ],
    )
    def test_properties_take_their_type_alone(self, widget, name, value):
        with pytest.raises(AttributeError):
            setattr(getattr(qt, widget)(), name, value)

    def test_unknown_classes_and_functions_raise(self):
        with pytest.raises(AttributeError):
            qt.QFoo  # noqa: B018
        with pytest.raises(AttributeError):
            ctk.ctkFoo  # noqa: B018
        with pytest.raises(AttributeError):
            slicer.qMRMLFoo  # noqa: B018
        with pytest.raises(AttributeError):
            slicer.arrayFromVolume  # noqa: B018 (slicer-core has it, Slicer does not)

    def test_enums_are_ints(self):
        label = qt.QLabel()
        label.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignTop)
        assert label.alignment == 0x22 == qt.Qt.AlignRight | qt.Qt.AlignTop
        label.alignment = qt.Qt.AlignLeft
        assert label.alignment == qt.Qt.AlignLeft
        item = qt.QListWidgetItem("one")
        item.setCheckState(qt.Qt.Checked)
        assert item.checkState() == 2

    def test_both_ways_to_connect(self):
        button, told = qt.QPushButton("go"), []

        def without():
            told.append("without")

        button.checkable = True
        button.connect("clicked(bool)", told.append)
        button.connect("clicked()", without)
        button.clicked.connect(lambda: told.append("short"))
        button.click()
        assert told == [True, "without", "short"]
        assert button.disconnect("clicked()", without)
        assert not button.disconnect("clicked()", without)
        button.clicked.disconnect()
        button.click()
        assert told == [True, "without", "short"]

    @pytest.mark.parametrize("signal", ["clicked(int)", "clickd()", "clicked", "valueChanged(int)"])
    def test_wrong_signals_raise(self, signal):
        button = qt.QPushButton("go")
        with pytest.raises(ValueError, match="has no signal"):
            button.connect(signal, print)
        with pytest.raises(ValueError, match="has no signal"):
            button.disconnect(signal, print)

    def test_a_handlers_exception_fails_the_test(self, capsys):
        button = qt.QPushButton("go")
        button.clicked.connect(lambda: 1 / 0)
        button.click()
        with pytest.raises(ZeroDivisionError):
            standin.process_events()
        assert "ZeroDivisionError" in capsys.readouterr().err

    def test_derived_widgets_paint_and_take_the_mouse(self):
        class Plot(qt.QWidget):
            def __init__(self, parent=None):
                super().__init__(parent)
                self.pressed, self.painted = [], 0

            def sizeHint(self):  # noqa: N802
                return qt.QSize(120, 80)

            def paintEvent(self, event):  # noqa: N802
                painter = qt.QPainter(self)
                painter.setPen(qt.QPen(qt.QColor("red"), 2.0))
                painter.setBrush(qt.QColor(0, 0, 255))
                painter.drawRect(self.rect)
                painter.drawText(self.rect, qt.Qt.AlignCenter, "text")
                painter.end()
                self.painted += 1

            def mousePressEvent(self, event):  # noqa: N802
                self.pressed.append((event.x(), event.pos().y(), event.button()))
                super().mousePressEvent(event)

        window, plot = qt.QWidget(), Plot()
        column = qt.QVBoxLayout(window)
        column.addWidget(plot)
        window.show()
        standin.wait_until(lambda: plot.painted)
        assert plot.grab().toImage().pixelColor(10, 10) == qt.QColor(0, 0, 255)
        standin.click(plot, at=(7, 9))
        assert plot.pressed == [(7, 9, qt.Qt.LeftButton)]
        assert plot.parent() is window
        assert plot in window.findChildren(qt.QWidget)

    def test_event_filters(self):
        class Filter(qt.QObject):
            def eventFilter(self, watched, event):  # noqa: N802
                return event.type() == qt.QEvent.MouseButtonPress

        button, blocker, told = qt.QPushButton("go"), Filter(), []
        button.clicked.connect(lambda: told.append(1))
        button.installEventFilter(blocker)
        button.show()
        standin.click(button)
        button.removeEventFilter(blocker)
        standin.click(button)
        assert told == [1]

    def test_a_destroyed_widget_is_false_and_raises(self):
        label = qt.QLabel("one")
        label.delete()
        assert not label
        with pytest.raises(ValueError, match="destroyed"):
            label.text  # noqa: B018

    def test_settings_come_back_as_text(self):
        settings = qt.QSettings()
        settings.setValue("FoBSAM/on", True)
        settings.setValue("FoBSAM/number", 3)
        assert settings.value("FoBSAM/on") == "true"
        assert settings.value("FoBSAM/number") == "3"
        assert slicer.util.settingsValue("FoBSAM/on", False, converter=slicer.util.toBool) is True
        assert str(slicer.app.temporaryPath) in settings.fileName()


class TestProcess:
    def test_three_megabytes_with_nuls_go_there_and_back(self):
        sent = os.urandom(1000) + b"\0" * 1000 + os.urandom(3_000_000)
        process, received, ends = qt.QProcess(), bytearray(), []
        process.readyReadStandardOutput.connect(
            lambda: received.extend(process.readAllStandardOutput().data())
        )
        process.connect("finished(int,QProcess::ExitStatus)", lambda *end: ends.append(end))
        program = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
        process.start(sys.executable, ["-c", program])
        assert process.waitForStarted(10_000)
        assert process.state() == qt.QProcess.Running
        assert process.write(qt.QByteArray(sent)) == len(sent)
        standin.wait_until(lambda: process.bytesToWrite() == 0)
        process.closeWriteChannel()
        standin.wait_until(lambda: ends)
        assert bytes(received) == sent[::-1]
        assert ends == [(0, qt.QProcess.NormalExit)]

    @pytest.mark.parametrize("data", [b"a\0b", "text", bytearray(b"a")])
    def test_plain_data_cannot_be_written(self, data):
        with pytest.raises(TypeError):
            qt.QProcess().write(data)

    def test_the_overloaded_signal_wants_its_signature(self):
        with pytest.raises(ValueError, match="overloaded"):
            qt.QProcess().finished.connect(print)

    def test_a_program_that_is_not_there(self):
        process, problems = qt.QProcess(), []
        process.errorOccurred.connect(problems.append)
        process.start("/no/such/program", [])
        assert not process.waitForStarted(1000)
        assert problems == [qt.QProcess.FailedToStart]


class TestDialogs:
    def test_an_unscripted_dialog_raises(self):
        for open_dialog in (
            lambda: qt.QMessageBox.question(None, "Title", "Really?"),
            lambda: slicer.util.confirmYesNoDisplay("Really?"),
            lambda: slicer.util.errorDisplay("Bad"),
            lambda: qt.QFileDialog.getOpenFileName(None, "Open"),
            lambda: qt.QDialog().exec_(),
        ):
            with pytest.raises(AssertionError, match="no answer was scripted"):
                open_dialog()
            with pytest.raises(AssertionError):
                standin.raise_caught()

    def test_scripted_dialogs_are_answered(self):
        standin.answer("Really", qt.QMessageBox.No)
        standin.answer("Really", qt.QMessageBox.Yes)
        assert [slicer.util.confirmYesNoDisplay("Really?") for _ in range(2)] == [False, True]
        standin.answer("Save", "/tmp/a.txt")
        assert qt.QFileDialog.getSaveFileName(None, "Save") == "/tmp/a.txt"
        standin.answer("", lambda dialog: dialog.accept())
        assert qt.QDialog().exec_() == qt.QDialog.Accepted

    def test_an_answer_must_be_one_of_the_buttons(self):
        box = qt.QMessageBox()
        box.text = "Sure?"
        box.setStandardButtons(qt.QMessageBox.Ok | qt.QMessageBox.Cancel)
        standin.answer("Sure", qt.QMessageBox.Yes)
        with pytest.raises(AssertionError, match="has no button"):
            box.exec_()


def test_a_held_up_event_loop_is_measured():
    with standin.Responsiveness() as idle:
        standin.wait(0.1)
    with standin.Responsiveness() as held:
        qt.QTimer.singleShot(10, lambda: time.sleep(0.5))
        standin.wait(0.7)
    assert idle.longest < 0.5 <= held.longest
