"""FoBSAM in 3D Slicer: paint a structure on one slice, find it in the others."""

import sys
from pathlib import Path
from typing import Annotated, Union

import qt
import slicer
import vtk
from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLVectorVolumeNode,
    vtkMRMLVolumeNode,
)
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HERE = Path(__file__).resolve().parent


def homeFolder() -> Path:
    """The folder with FoBSAMLib and Resources: beside this file where installed, else above it."""
    return next((one for one in (HERE, HERE.parent) if (one / "FoBSAMLib").is_dir()), HERE)


class FoBSAM(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        home = homeFolder()
        if str(home) not in sys.path:
            sys.path.append(str(home))
        parent.title = _("FoBSAM")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SegmentEditor", "Markups", "SampleData"]
        parent.contributors = ["FoBSAM contributors"]
        parent.helpText = _(
            "Paint a structure on <b>one slice</b> in the Segment Editor; FoBSAM finds it in all "
            "the other slices, and in other volumes. What is found is shown as a preview with a "
            "confidence for each slice: look through it, correct it by dragging points, accept it."
            "<br>Shortcuts while the module is open: N next uncertain slice, U use the slice as "
            "support, X not in this slice, W which slice to paint next."
            "<br>For research; not a medical device. No image leaves the computer."
        )
        parent.acknowledgementText = _(
            "The method is FoB, Focus on Background (Bo, Zhu, Koniusz, Zhang, CVPR 2026, arXiv "
            "2603.21287). The shipped weights were trained on images of CHAOS and BTCV and are "
            "for research use."
        )
        icon = home / "Resources" / "Icons" / "FoBSAM.png"
        if icon.is_file():
            parent.icon = qt.QIcon(str(icon))
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """Have the Sample Data module offer ours."""
    from FoBSAMLib.gui import samples

    samples.register(homeFolder() / "Resources" / "Icons")


@parameterNodeWrapper
class FoBSAMParameterNode:
    """The scene's choices; those of the computer are in Slicer's settings.

    ``leftOut`` are the IDs of segments that are painted but not ticked.
    """

    # The wrapper has the selector offer these types.
    volume: Union[vtkMRMLScalarVolumeNode, vtkMRMLVectorVolumeNode, None]  # noqa: UP007
    segmentation: vtkMRMLSegmentationNode
    leftOut: list[str]
    queries: list[vtkMRMLVolumeNode]
    axis: str = "auto"
    allSlices: bool = True
    firstSlice: Annotated[int, WithinRange(0, 99999)] = 0
    lastSlice: Annotated[int, WithinRange(0, 99999)] = 99999
    ownVolume: bool = True
    timePoints: bool = False


class FoBSAMLogic(ScriptedLoadableModuleLogic):
    """The worker and the scene's parameter node; scripts use ``FoBSAMLib.mrml.segment``."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        from FoBSAMLib.background.engine import shared_engine

        #: FoBSAM's worker; nothing is started before the first run.
        self.engine = shared_engine()
        self._node = None
        self._wrapper = None

    def getParameterNode(self) -> FoBSAMParameterNode:
        """The scene's choices, from the one node of this module.

        One wrapper a node: each observes the node as long as there is one.
        """
        node = super().getParameterNode()
        if node is not self._node:
            self._node, self._wrapper = node, FoBSAMParameterNode(node)
        return self._wrapper


class FoBSAMWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: puts its parts together and follows the scene."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._entered = False

    def setup(self) -> None:
        """Called when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from FoBSAMLib.gui.panel import Panel

        home = homeFolder()
        uiWidget = slicer.util.loadUI(str(home / "Resources" / "UI" / "FoBSAM.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = FoBSAMLogic()
        self.panel = Panel(self.ui, self.logic.engine, home / "Resources" / "requirements.txt")
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        slicer.app.connect("aboutToQuit()", self.onQuit)
        self.initializeParameterNode()

    def enter(self) -> None:
        """Called each time the module is opened."""
        self._entered = True
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        """Called each time another module is opened; a run goes on."""
        self._entered = False
        self.panel.exit()
        self.setParameterNode(None)

    def cleanup(self) -> None:
        """Called when the widget is destroyed, on reload and on exit."""
        slicer.app.disconnect("aboutToQuit()", self.onQuit)
        self.setParameterNode(None)
        self.removeObservers()
        self.panel.close()

    def onQuit(self) -> None:
        """End the worker, and what is under way with models, now."""
        self.logic.engine.kill()
        self.panel.models.close()

    def onSceneStartClose(self, caller, event) -> None:
        """Nothing of this scene may be waited for, or shown in the next."""
        self.panel.drop()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Begin with the new scene, if the module is open."""
        if self._entered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event) -> None:
        """A scene was loaded: its choices count."""
        if self._entered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Take the scene's choices; what is not chosen yet is what was worked on last."""
        from FoBSAMLib.mrml.choices import likely_nodes

        parameters = self.logic.getParameterNode()
        volume, segmentation = likely_nodes(slicer.mrmlScene)
        if parameters.segmentation is None and segmentation is not None:
            parameters.segmentation = segmentation
        if parameters.volume is None and volume is not None:
            parameters.volume = volume
        self.setParameterNode(parameters)

    def setParameterNode(self, parameters) -> None:
        """Show a parameter node in the panel, None for none."""
        if parameters is self._parameterNode:
            return
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(
                self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified
            )
        self._parameterNode = parameters
        if parameters is not None:
            # Not connectGui, which gives no tag to disconnect with.
            name = "SlicerParameterName"
            named = [one for one in vars(self.ui).values() if one.property(name)]
            self._parameterNodeGuiTag = parameters.connectParametersToGui(
                {one.property(name): one for one in named}
            )
            self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self.panel.set_parameters(parameters)

    def onParameterNodeModified(self, caller, event) -> None:
        """A choice is another one."""
        self.panel.inputs.refresh_soon()

    def onReload(self) -> None:
        """Reload FoBSAMLib, too: for those who change it."""
        entered = self._entered
        for name in [one for one in sys.modules if one.partition(".")[0] == "FoBSAMLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        if entered:
            slicer.modules.FoBSAMWidget.enter()


class FoBSAMTest(ScriptedLoadableModuleTest):
    """The self-test: the whole story on the sample data, without a mouse."""

    def setUp(self) -> None:
        """Skipped where packages are missing, as on machines that only build the extension."""
        from FoBSAMLib.background.engine import DEFAULT_MODELS
        from FoBSAMLib.errors import FoBSAMError
        from FoBSAMLib.mrml.packages import check_installed

        slicer.mrmlScene.Clear()
        try:
            check_installed(DEFAULT_MODELS)
        except FoBSAMError as error:
            self.skipTest(str(error))

    def runTest(self) -> None:
        self.setUp()
        self.test_sampleFromOneSlice()

    def test_sampleFromOneSlice(self) -> None:
        """One painted slice of the sample's lung: segmented, accepted, undone and redone."""
        from FoBSAMLib import mrml
        from FoBSAMLib.gui import samples
        from FoBSAMLib.mrml.widget_editing import editor_widget

        self.delayDisplay("Loading the sample")
        volumeNode, segmentationNode = samples.load()
        segmentID = segmentationNode.GetSegmentation().GetNthSegmentID(0)
        before = self.voxels(segmentationNode, segmentID, volumeNode)
        self.delayDisplay("Segmenting from one slice")
        found = mrml.segment(volumeNode, segmentationNode)
        after = self.voxels(segmentationNode, segmentID, volumeNode)
        self.assertGreater(after, 10 * before)
        self.assertEqual(len(found.slices(segmentID)), 33)
        self.delayDisplay("Undo and redo")
        editor_widget().undo()
        self.assertEqual(self.voxels(segmentationNode, segmentID, volumeNode), before)
        editor_widget().redo()
        self.assertEqual(self.voxels(segmentationNode, segmentID, volumeNode), after)
        self.delayDisplay("Opening and leaving the module, closing the scene")
        for name in ("FoBSAM", "Data", "FoBSAM"):
            slicer.util.selectModule(name)
        slicer.mrmlScene.Clear()
        volumeNode, segmentationNode = samples.load()
        slicer.util.selectModule("Data")
        slicer.util.selectModule("FoBSAM")
        parameters = slicer.modules.FoBSAMWidget.logic.getParameterNode()
        self.assertIs(parameters.volume, volumeNode)
        self.assertIs(parameters.segmentation, segmentationNode)
        self.delayDisplay("Test passed")

    def voxels(self, segmentationNode, segmentID, volumeNode) -> int:
        """How many voxels a segment has."""
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)
        return int((mask > 0).sum())
