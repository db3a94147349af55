"""A model of Slicer's layout manager: slice and 3-D views of real MRML, drawn off screen.

Slice nodes and logics, displayable managers and cameras are Slicer's own; the widgets around them
are bare objects with Slicer's names, and names that Slicer does not have raise. Every view exists
from the start, whichever layout is set. Nothing is drawn until a picture is asked for.
"""
# ruff: noqa: N802, N803, N815 -- names as Slicer has them

from __future__ import annotations

import os
import sys

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

from standin.scene import SLICE_VIEWS
from standin.strict import Strict

if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    # Otherwise VTK tries X first, and complains.
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

#: The layout name of the one 3-D view, and the colour of its bar.
THREE_D_VIEW = "1"
THREE_D_COLOR = (0.455, 0.471, 0.745)

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)
#: Pixels of a view nobody has resized, width × height.
SIZE = (512, 512)


def make_layout_manager(app) -> LayoutManager:
    """The layout manager of an application with ``mrmlScene()`` and ``applicationLogic()``."""
    return LayoutManager(app.mrmlScene(), app.applicationLogic())


class RenderView(Strict):
    """What slice and 3-D views share: a window off screen and its displayable managers."""

    def __init__(self, factory, managers: tuple[str, ...], app_logic) -> None:
        self._renderer = vtk.vtkRenderer()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetShowWindow(False)
        self._window.SetMultiSamples(8)
        self._window.SetSize(*SIZE)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        # Slicer's styles ask the interactor for the style before theirs.
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        factory = factory.GetInstance()
        factory.SetMRMLApplicationLogic(app_logic)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(factory, self._renderer)

    def renderer(self):
        return self._renderer

    def renderWindow(self):
        return self._window

    def interactor(self):
        return self._interactor

    def displayableManagerByClassName(self, name: str):
        return self._managers.GetDisplayableManagerByClassName(name)

    def _show(self, node) -> None:
        if node is not self._managers.GetMRMLDisplayableNode():
            self._managers.SetMRMLDisplayableNode(node)

    def scheduleRender(self) -> None:
        """Pictures are drawn when asked for."""

    def forceRender(self) -> None:
        self._window.Render()

    def _resize(self, size: tuple[int, int]) -> None:
        self._window.SetSize(*size)

    def _pixels(self) -> np.ndarray:
        """Draw; uint8 [height, width, 3], the top row first."""
        self._window.Render()
        image = vtk.vtkWindowToImageFilter()
        image.SetInput(self._window)
        image.ReadFrontBufferOff()
        image.Update()
        pixels = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
        width, height = self._window.GetSize()
        return pixels.reshape(height, width, 3)[::-1].copy()


class SliceView(RenderView):
    """``qMRMLSliceView``."""

    def __init__(self, app_logic, slice_logic) -> None:
        super().__init__(
            slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE_MANAGERS, app_logic
        )
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._logic = slice_logic
        # Windowing is done by the volume's display node: these are colours already.
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(self._image)
        self._corner = vtk.vtkCornerAnnotation()
        self._corner.SetMaximumFontSize(14)
        self._corner.SetLinearFontScaleFactor(2)
        self._corner.SetNonlinearFontScaleFactor(1)
        self._renderer.AddViewProp(self._corner)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(slice_logic)
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self._interactor)

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def sliceViewInteractorStyle(self):
        return self._style

    def interactorStyle(self):
        return self._style

    def cornerAnnotation(self):
        return self._corner

    def convertRASToXYZ(self, ras) -> tuple[float, ...]:
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self.mrmlSliceNode().GetXYToRAS(), matrix)
        return matrix.MultiplyPoint((*ras, 1.0))[:3]

    def convertXYZToRAS(self, xyz) -> tuple[float, ...]:
        return self.mrmlSliceNode().GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3]

    def _resize(self, size: tuple[int, int]) -> None:
        super()._resize(size)
        self._logic.ResizeSliceNode(*size)

    def _pixels(self) -> np.ndarray:
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._image.SetVisibility(self._mapper.GetInputConnection(0, 0) is not None)
        self._corner.SetText(vtk.vtkCornerAnnotation.LowerLeft, self._volumes())
        return super()._pixels()

    def _volumes(self) -> str:
        """The names of the volumes shown, as Slicer writes them into the lower left corner."""
        layers = {"L": "Label", "F": "Foreground", "B": "Background"}
        nodes = {x: getattr(self._logic, f"Get{name}Layer")() for x, name in layers.items()}
        shown = {x: layer.GetVolumeNode() for x, layer in nodes.items() if layer}
        return "\n".join(f"{x}: {node.GetName()}" for x, node in shown.items() if node)


class SliceWidget(Strict):
    """``qMRMLSliceWidget``."""

    def __init__(self, scene, app_logic, name: str) -> None:
        self._name = name
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(app_logic)
        self._logic.SetMRMLScene(scene)
        app_logic.GetSliceLogics().AddItem(self._logic)
        self._view = SliceView(app_logic, self._logic)
        self._attach(scene)

    def _attach(self, scene) -> None:
        """Show the scene's slice node of this name, which is another one after it was cleared."""
        node = scene.GetSingletonNode(self._name, "vtkMRMLSliceNode")
        composite = scene.GetSingletonNode(self._name, "vtkMRMLSliceCompositeNode")
        if node is None or composite is None:
            return
        _label, orientation, _color = SLICE_VIEWS[self._name]
        node.SetDefaultOrientation(orientation)
        node.SetOrientationToDefault()
        node.SetMappedInLayout(True)
        self._logic.SetSliceNode(node)
        self._logic.SetSliceCompositeNode(composite)
        self._logic.ResizeSliceNode(*self._view._window.GetSize())
        self._view._show(node)

    def sliceView(self) -> SliceView:
        return self._view

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def interactorStyle(self):
        return self._view.interactorStyle()

    def overlayCornerAnnotation(self):
        return self._view.cornerAnnotation()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()
        self._logic.SnapSliceOffsetToIJK()


class ThreeDView(RenderView):
    """``qMRMLThreeDView``."""

    def __init__(self, app_logic) -> None:
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory
        super().__init__(factory, THREE_D_MANAGERS, app_logic)
        self._renderer.SetUseDepthPeeling(True)
        self._style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self._interactor)

    def mrmlViewNode(self):
        return self._managers.GetMRMLDisplayableNode()

    def cameraNode(self):
        return self.displayableManagerByClassName("vtkMRMLCameraDisplayableManager").GetCameraNode()

    def interactorObserver(self):
        return self._style

    def rotateToViewAxis(self, axisId: int) -> None:
        self.cameraNode().RotateTo(axisId)

    def resetFocalPoint(self) -> None:
        """Look at the middle of what is shown."""
        bounds = self._bounds()
        if bounds[0] <= bounds[1]:
            self.cameraNode().SetFocalPoint(*np.reshape(bounds, (3, 2)).mean(axis=1))
        self.mrmlViewNode().InvokeEvent(slicer.vtkMRMLViewNode.ResetFocalPointRequestedEvent)
        self._renderer.ResetCameraClippingRange()

    def _bounds(self) -> tuple[float, ...]:
        """What is shown lies in there; the box and its letters do not count."""
        node = self.mrmlViewNode()
        shown = node.GetBoxVisible(), node.GetAxisLabelsVisible()
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        bounds = self._renderer.ComputeVisiblePropBounds()
        node.SetBoxVisible(shown[0])
        node.SetAxisLabelsVisible(shown[1])
        return bounds

    def resetCamera(self) -> None:
        self.cameraNode().Reset(True, True, True, self._renderer)


class ThreeDWidget(Strict):
    """``qMRMLThreeDWidget``."""

    def __init__(self, scene, app_logic) -> None:
        self._logic = slicer.vtkMRMLViewLogic()
        self._logic.SetMRMLApplicationLogic(app_logic)
        self._logic.SetMRMLScene(scene)
        app_logic.GetViewLogics().AddItem(self._logic)
        self._view = ThreeDView(app_logic)
        self._attach(scene)

    def _attach(self, scene) -> None:
        """Show the scene's view node, which is made where there is none."""
        node = scene.GetSingletonNode(THREE_D_VIEW, "vtkMRMLViewNode")
        if node is None:
            node = self._logic.AddViewNode(THREE_D_VIEW)
        node.SetLayoutLabel(THREE_D_VIEW)
        node.SetLayoutColor(*THREE_D_COLOR)
        node.SetMappedInLayout(True)
        self._view._show(node)

    def threeDView(self) -> ThreeDView:
        return self._view

    def mrmlViewNode(self):
        return self._view.mrmlViewNode()

    def viewLogic(self):
        return self._logic


class LayoutManager(Strict):
    """``slicer.app.layoutManager()``."""

    def __init__(self, scene, app_logic) -> None:
        self._scene = scene
        self._app_logic = app_logic
        self._layout = slicer.vtkMRMLLayoutLogic()
        self._layout.SetMRMLScene(scene)
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        for existing, setter in (
            (app_logic.GetSliceLogics(), app_logic.SetSliceLogics),
            (app_logic.GetViewLogics(), app_logic.SetViewLogics),
        ):
            if existing is None:
                setter(vtk.vtkCollection())
        self._slices = {name: SliceWidget(scene, app_logic, name) for name in SLICE_VIEWS}
        self._three_d = ThreeDWidget(scene, app_logic)
        scene.AddObserver(scene.NodeAddedEvent, self._on_node_added)
        scene.AddObserver(scene.EndCloseEvent, self._on_closed)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _scene, _event, node) -> None:
        if node.IsA("vtkMRMLSliceCompositeNode") and node.GetLayoutName() in self._slices:
            self._slices[node.GetLayoutName()]._attach(self._scene)

    def _on_closed(self, *_) -> None:
        for widget in (*self._slices.values(), self._three_d):
            widget._attach(self._scene)

    def mrmlScene(self):
        return self._scene

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._slices)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._slices.get(name)

    def mrmlSliceLogics(self):
        return self._app_logic.GetSliceLogics()

    threeDViewCount = property(lambda self: 1)

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        return self._three_d if index == 0 else None

    def activeMRMLThreeDViewNode(self):
        return self._three_d.mrmlViewNode()

    def activeThreeDRenderer(self):
        return self._three_d.threeDView().renderer()

    def viewWidget(self, node):
        widgets = {self._three_d.mrmlViewNode(): self._three_d}
        widgets |= {widget.mrmlSliceNode(): widget for widget in self._slices.values()}
        return widgets.get(node)

    def layoutLogic(self):
        return self._layout

    def setLayout(self, layout: int) -> None:
        self._layout.GetLayoutNode().SetViewArrangement(layout)

    layout = property(lambda self: self._layout.GetLayoutNode().GetViewArrangement(), setLayout)

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        view = self._three_d.threeDView()
        view.resetFocalPoint()
        view.resetCamera()


def picture(manager: LayoutManager, name: str) -> np.ndarray:
    """Test-side: what a view ("Red", "Green", "Yellow", or "1" for 3-D) shows.

    RGB, uint8 [height, width, 3], the top row first.
    """
    return _view(manager, name)._pixels()


def resize(manager: LayoutManager, name: str, size: tuple[int, int]) -> None:
    """Test-side: the user makes a view so many pixels wide and high; the scale stays."""
    _view(manager, name)._resize(size)


def _view(manager: LayoutManager, name: str) -> SliceView | ThreeDView:
    if name == THREE_D_VIEW:
        return manager.threeDWidget(0).threeDView()
    return manager.sliceWidget(name).sliceView()
