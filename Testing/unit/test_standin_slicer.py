"""The stand-in's widgets, parameter nodes, .ui files and modules follow Slicer's."""

from __future__ import annotations

import enum
import gc
import hashlib
import importlib
import weakref
from pathlib import Path
from typing import Annotated, Union

import numpy as np
import pytest
import standin
from packaging.requirements import Requirement

standin.require()
standin.install()

import ctk  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from slicer.parameterNodeWrapper import (  # noqa: E402
    Choice,
    Default,
    WithinRange,
    parameterNodeWrapper,
)
from standin import observers, packages, sample_data  # noqa: E402

application = pytest.fixture(autouse=True)(standin.fresh)


def add_volume(name: str = "CT"):
    """A volume of 4 × 5 × 6 voxels in the scene."""
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name=name)


def node_combo(**properties):
    """A combo box of scalar volumes on the scene."""
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    for name, value in properties.items():
        setattr(combo, name, value)
    combo.setMRMLScene(slicer.mrmlScene)
    return combo


class TestNodeComboBox:
    def test_it_follows_the_scene(self):
        combo, chosen = node_combo(), []
        combo.connect("currentNodeChanged(vtkMRMLNode*)", chosen.append)
        assert combo.currentNode() is None
        first, second = add_volume("one"), add_volume("two")
        assert combo.currentNode() is first
        assert combo.nodeCount() == 2
        combo.setCurrentNode(second)
        slicer.mrmlScene.RemoveNode(second)
        assert combo.currentNode() is first
        first.SetHideFromEditors(True)
        assert combo.currentNode() is None
        first.SetHideFromEditors(False)
        standin.close_scene()
        assert chosen == [first, second, first, None, first, None]

    def test_none_can_be_chosen(self):
        combo = node_combo(noneEnabled=True)
        volume = add_volume()
        assert combo.currentNode() is None
        combo.show()
        standin.choose(combo, volume)
        assert combo.currentNodeID == volume.GetID()
        standin.choose(combo, "None")
        assert combo.currentNode() is None

    def test_names_are_followed(self):
        combo, names = node_combo(), []
        combo.currentNodeRenamed.connect(names.append)
        volume = add_volume("before")
        volume.SetName("after")
        assert names == ["after"]

    def test_label_maps_can_be_left_out(self):
        combo = node_combo(hideChildNodeTypes=["vtkMRMLLabelMapVolumeNode"])
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        assert combo.nodeCount() == 0

    def test_setters_that_python_does_not_see(self):
        with pytest.raises(AttributeError):
            node_combo().setNodeTypes(["vtkMRMLModelNode"])

    def test_checked_nodes(self):
        combo, told = slicer.qMRMLCheckableNodeComboBox(), []
        combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        combo.setMRMLScene(slicer.mrmlScene)
        combo.connect("checkedNodesChanged()", lambda: told.append(combo.checkedNodes()))
        first, second = add_volume("one"), add_volume("two")
        combo.check(second)
        combo.setCheckState(first, qt.Qt.Checked)
        slicer.mrmlScene.RemoveNode(second)
        assert told == [(second,), (first, second), (first,)]


def test_the_table_of_segments_follows_the_segmentation():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    liver = node.GetSegmentation().AddEmptySegment("", "liver")
    table, told = slicer.qMRMLSegmentsTableView(), []
    table.setSegmentationNode(node)
    spleen = node.GetSegmentation().AddEmptySegment("", "spleen")
    assert table.displayedSegmentIDs() == (liver, spleen)
    signal = "selectionChanged(QItemSelection,QItemSelection)"
    table.connect(signal, lambda: told.append(table.selectedSegmentIDs()))
    table.setSelectedSegmentIDs([liver, spleen])
    node.GetSegmentation().RemoveSegment(liver)
    assert told[0] == (liver, spleen)
    assert told[-1] == (spleen,)


class Axis(enum.Enum):
    AUTO = "auto"
    K = "k"


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    # Slicer knows no unions that are written with |.
    either: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode, None]  # noqa: UP007
    anything: slicer.vtkMRMLVolumeNode
    queries: list[slicer.vtkMRMLScalarVolumeNode]
    names: list[str]
    first: Annotated[int, WithinRange(0, 500)] = 7
    level: Annotated[float, WithinRange(0, 1), Default(0.5)]
    keep: bool = True
    axis: Axis = Axis.K
    mode: Annotated[str, Choice(["fast", "good"])] = "good"


def parameter_node():
    """A parameter node in the scene, as a module's logic makes it."""
    node = slicer.mrmlScene.GetSingletonNode("Test", "vtkMRMLScriptedModuleNode")
    if node is None:
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetSingletonTag("Test")
        node = slicer.mrmlScene.AddNode(node)
    return node


class TestParameterNode:
    def test_round_trip_through_a_saved_scene(self, tmp_path):
        parameters = Parameters(parameter_node())
        assert (parameters.volume, parameters.first, parameters.level) == (None, 7, 0.5)
        first, second = add_volume("one"), add_volume("two")
        parameters.volume = first
        parameters.queries = [first]
        parameters.queries.append(second)
        parameters.names = ["a", "b c"]
        parameters.first, parameters.level = 12, 0.25
        parameters.keep, parameters.axis, parameters.mode = False, Axis.AUTO, "fast"
        assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
        standin.reset()
        slicer.util.loadScene(tmp_path / "scene.mrb")
        parameters = Parameters(parameter_node())
        assert parameters.volume is slicer.util.getNode("one")
        assert parameters.queries == [slicer.util.getNode("one"), slicer.util.getNode("two")]
        assert parameters.names == ["a", "b c"]
        assert (parameters.first, parameters.level) == (12, 0.25)
        assert (parameters.keep, parameters.axis, parameters.mode) == (False, Axis.AUTO, "fast")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("first", 501),
            ("first", 1.5),
            ("first", None),
            ("mode", "slow"),
            ("names", "ab"),
            ("volume", "vtkMRMLScalarVolumeNode1"),
        ],
    )
    def test_bad_values_raise(self, name, value):
        with pytest.raises((ValueError, TypeError)):
            setattr(Parameters(parameter_node()), name, value)

    def test_a_deleted_node_is_none(self):
        parameters = Parameters(parameter_node())
        parameters.volume = add_volume()
        slicer.mrmlScene.RemoveNode(parameters.volume)
        assert parameters.volume is None

    def test_widgets_are_joined_both_ways_until_they_are_not(self):
        parameters, window = Parameters(parameter_node()), qt.QWidget()
        form = qt.QFormLayout(window)
        widgets = {"first": qt.QSpinBox(), "keep": qt.QCheckBox(), "axis": qt.QComboBox()}
        widgets |= {"mode": qt.QComboBox(), "level": ctk.ctkSliderWidget()}
        widgets["volume"] = slicer.qMRMLNodeComboBox()
        widgets["volume"].setMRMLScene(slicer.mrmlScene)
        for name, widget in widgets.items():
            widget.setProperty("SlicerParameterName", name)
            form.addRow(name, widget)
        assert parameters.connectGui(window) is None
        assert (widgets["first"].value, widgets["first"].maximum) == (7, 500)
        window.show()
        standin.click(widgets["keep"])
        standin.type_text(widgets["first"], "33")
        standin.choose(widgets["axis"], "AUTO")
        standin.choose(widgets["mode"], "fast")
        volume = add_volume()
        standin.choose(widgets["volume"], volume)
        assert (parameters.keep, parameters.first, parameters.axis) == (False, 33, Axis.AUTO)
        assert (parameters.mode, parameters.volume) == ("fast", volume)
        parameters.level = 0.75
        assert widgets["level"].value == 0.75
        parameters.disconnectGui(None)
        standin.click(widgets["keep"])
        assert parameters.keep is True, "there is no way to part them"

    def test_widgets_joined_by_name_can_be_parted(self):
        parameters, box = Parameters(parameter_node()), qt.QCheckBox()
        tag = parameters.connectParametersToGui({"keep": box})
        box.checked = False
        assert parameters.keep is False
        parameters.disconnectGui(tag)
        box.checked = True
        assert parameters.keep is False
        parameters.keep = True
        box.checked = False
        parameters.first = 3
        assert not box.checked

    def test_a_joined_wrapper_lives_as_long_as_its_node(self):
        node, box = parameter_node(), qt.QCheckBox()
        counted = [observers.count(node)]
        parameters = Parameters(node)
        counted.append(observers.count(node))
        parameters.disconnectGui(parameters.connectParametersToGui({"keep": box}))
        alive = weakref.ref(parameters)
        del parameters
        gc.collect()
        assert alive() is not None
        counted.append(observers.count(node))
        assert counted == [0, 10, 11]

    def test_a_combo_box_shows_the_types_of_its_parameter(self):
        parameters, box = Parameters(parameter_node()), slicer.qMRMLNodeComboBox()
        box.setMRMLScene(slicer.mrmlScene)
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        parameters.connectParametersToGui({"either": box})
        assert box.nodeTypes == ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        box.setCurrentNode(segmentation)
        assert parameters.either is segmentation

    def test_a_union_needs_none_as_a_member(self):
        kind = Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]  # noqa: UP007
        with pytest.raises(TypeError, match="unable to write None"):
            parameterNodeWrapper(type("Bad", (), {"__annotations__": {"either": kind}}))

    def test_a_combo_box_cannot_be_joined_to_an_abstract_class(self):
        parameters = Parameters(parameter_node())
        with pytest.raises(TypeError, match="abstract"):
            parameters.connectParametersToGui({"anything": slicer.qMRMLNodeComboBox()})


UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="column">
<item><widget class="ctkCollapsibleButton" name="inputs">
<property name="text"><string>Inputs</string></property>
<layout class="QFormLayout" name="form"><item row="0" column="1">
<widget class="qMRMLNodeComboBox" name="volumes">
<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>
</property>
<property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
</layout></widget></item>
<item><widget class="QPushButton" name="run"><property name="text"><string>Run</string></property>
</widget></item></layout></widget>
<connections><connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volumes</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections>
</ui>"""


class TestLoadUi:
    def load(self, folder: Path, text: str):
        (folder / "panel.ui").write_text(text, encoding="utf-8")
        return slicer.util.loadUI(str(folder / "panel.ui"))

    def test_widgets_properties_and_connections(self, tmp_path):
        panel = self.load(tmp_path, UI)
        ui = slicer.util.childWidgetVariables(panel)
        assert type(ui.inputs) is ctk.ctkCollapsibleButton
        assert ui.volumes.nodeTypes == ("vtkMRMLScalarVolumeNode",)
        assert ui.volumes.property("SlicerParameterName") == "volume"
        assert ui.run is ui.run.parent().run
        panel.setMRMLScene(slicer.mrmlScene)
        assert ui.volumes.mrmlScene() is slicer.mrmlScene
        panel.show()
        assert ui.volumes.visible
        standin.click(ui.inputs)
        assert (ui.inputs.collapsed, ui.volumes.visible) == (True, False)
        with pytest.raises(AssertionError, match="not visible"):
            standin.click(ui.volumes)

    @pytest.mark.parametrize(
        ("known", "unknown"),
        [
            ("ctkCollapsibleButton", "ctkFoo"),
            ('<property name="text">', '<property name="txet">'),
            ("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged()"),
            ('name="run"', 'name="volumes"'),
        ],
    )
    def test_unknown_names_raise(self, tmp_path, known, unknown):
        with pytest.raises((RuntimeError, ValueError)):
            self.load(tmp_path, UI.replace(known, unknown))


MODULE = """
import qt, slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin

class Sample(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Sample")
        parent.categories = ["Segmentation"]
        slicer.app.connect("startupCompleted()", self.register)

    def register(self):
        import SampleData
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="Sample", sampleName="CT", uris="https://example.org/ct.nrrd",
            fileNames="ct.nrrd", nodeNames="CT", checksums="SHA256:%s")

class SampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.story = []

    def setup(self):
        super().setup()
        self.button = qt.QPushButton("Go")
        self.layout.addWidget(self.button)
        self.button.connect("clicked(bool)", self.onClick)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onClose)

    def onClick(self, checked):
        self.story.append("click")

    def onClose(self, caller, event):
        self.story.append("close")

    def enter(self):
        self.story.append("enter")

    def exit(self):
        self.story.append("exit")

    def cleanup(self):
        self.removeObservers()
        self.story.append("cleanup")
"""


class TestModule:
    def load(self, folder: Path, checksum: str = "0"):
        path = folder / "Sample.py"
        path.write_text(MODULE.replace("%s", checksum), encoding="utf-8")
        return standin.load_module(path)

    def test_its_life(self, tmp_path):
        module = self.load(tmp_path)
        assert slicer.modules.sample.title == "Sample"
        assert slicer.util.modulePath("Sample") == str(tmp_path / "Sample.py")
        module.enter()
        widget = module.widget
        assert widget is slicer.modules.SampleWidget
        assert slicer.util.selectedModule() == "Sample"
        standin.click(widget.button)
        standin.close_scene()
        module.exit()
        standin.quit_application(module)
        assert widget.story == ["enter", "click", "close", "exit", "cleanup"]
        assert not hasattr(slicer.modules, "sample")

    def test_its_sample_data(self, tmp_path):
        import SampleData

        path = tmp_path / "ct.nrrd"
        slicer.util.saveNode(add_volume("written"), str(path))
        self.load(tmp_path, hashlib.sha256(path.read_bytes()).hexdigest())
        with pytest.raises(ValueError, match="network"):
            SampleData.downloadSample("CT")
        sample_data.served["https://example.org/ct.nrrd"] = path
        assert SampleData.downloadSample("CT").GetName() == "CT"
        logic = SampleData.SampleDataLogic()
        assert isinstance(logic.downloadSample("CT"), slicer.vtkMRMLScalarVolumeNode)
        assert logic.downloadSamples("MR") == [], "nothing is raised where none was registered"


class TestPackages:
    def test_nothing_is_installed_without_consent(self):
        packages.missing.add("pooch")
        pooch = Requirement("pooch>=1.8")
        assert not slicer.packaging.pip_check(pooch)
        standin.answer("FoBSAM needs", qt.QMessageBox.Cancel)
        with pytest.raises(RuntimeError, match="declined"):
            slicer.packaging.pip_ensure([pooch], requester="FoBSAM")
        standin.answer("FoBSAM needs", qt.QMessageBox.Ok)
        slicer.packaging.pip_ensure([pooch], requester="FoBSAM")
        assert packages.installed == ["pooch>=1.8"]

    def test_texts_are_no_requirements(self):
        with pytest.raises(AttributeError, match="marker"):
            slicer.packaging.pip_ensure(["pooch>=1.8"])
        assert slicer.packaging.pip_check(Requirement("pooch>=1.8"))

    def test_slicer_5_10_has_no_packaging(self):
        packages.switch_off()
        with pytest.raises(ImportError):
            importlib.import_module("slicer.packaging")
        slicer.util.pip_install("pooch>=1.8")
        assert packages.installed == ["pooch>=1.8"]
