"""What `slicer` has in the application and `slicer-core` lacks, as far as it needs no Qt.

`install()` puts `slicer.mrmlScene`, `slicer.app`, `slicer.modules` and the modules' logics in
place, so that the functions of `slicer.util` that touch the scene work. `reset()` gives the next
test an empty scene with the nodes a fresh application has; the scene object stays the same.
"""

# ruff: noqa: N802, N815 (Slicer's names)

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import slicer
import slicer.util

from . import files, resources

# Module name in `slicer.modules` -> class of its logic, None where the module has none to speak of.
LOGICS = {
    "colors": "vtkSlicerColorLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "segmenteditor": None,
    "volumes": "vtkSlicerVolumesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "transforms": "vtkSlicerTransformLogic",
    "models": "vtkSlicerModelsLogic",
    "tables": "vtkSlicerTablesLogic",
    "data": None,
}
TITLES = {
    "subjecthierarchy": "SubjectHierarchy",
    "segmenteditor": "SegmentEditor",
}
SLICE_VIEWS = {
    "Red": ("R", "Axial", (0.953, 0.29, 0.2)),
    "Green": ("G", "Coronal", (0.431, 0.69, 0.294)),
    "Yellow": ("Y", "Sagittal", (0.929, 0.835, 0.298)),
}


class Module:
    """A module as `slicer.modules.NAME` shows it; `logic()` is the real logic."""

    def __init__(self, name: str, logic: Any = None) -> None:
        self.name = name
        self.title = name
        self.path = ""
        self._logic = logic

    def logic(self) -> Any:
        """The logic on the one scene, or None."""
        return self._logic


class Modules:
    """`slicer.modules`: unknown modules raise AttributeError, as there."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"slicer.modules has no module '{name}' in the stand-in")


class BareApp:
    """`slicer.app` without Qt; `standin.app.App` adds what needs it."""

    applicationName = "Slicer"
    majorVersion, minorVersion, patchVersion = 5, 12, 0
    applicationVersion = "5.12.0-2026-07-01"
    mainApplicationVersion = applicationVersion
    revision = "34567"
    repositoryRevision = "abcdef0"
    os, arch, platform = "linux", "amd64", "linux-amd64"

    def __init__(self, logic: Any, folder: Path) -> None:
        self._logic = logic
        self._files = files.IOManager()
        self.temporaryPath = str(folder)
        self.slicerHome = str(folder / "home")
        self.cachePath = str(folder / "cache")

    def applicationLogic(self) -> Any:
        """The vtkSlicerApplicationLogic."""
        return self._logic

    def mrmlScene(self) -> Any:
        """The one scene."""
        return slicer.mrmlScene

    def coreIOManager(self) -> files.IOManager:
        """What `slicer.util.loadVolume` and its like ask."""
        return self._files

    ioManager = coreIOManager

    def pauseRender(self) -> None:
        """Views wait."""
        self._logic.PauseRender()

    def resumeRender(self) -> None:
        """Views go on."""
        self._logic.ResumeRender()

    def processEvents(self) -> None:
        """There is no event loop yet."""

    def testingEnabled(self) -> bool:
        """Whether Slicer was started with --testing: it was not."""
        return False


# Nodes a view or the application owns: they outlive the scene's content.
KEPT = ("vtkMRMLAbstractViewNode", "vtkMRMLSliceCompositeNode", "vtkMRMLCameraNode")

_own: set[str] = set()


def install() -> None:
    """Make the scene, the logics, `slicer.app` and `slicer.modules`; a second call does nothing."""
    global _own
    if hasattr(slicer, "mrmlScene"):
        return
    folder = Path(tempfile.mkdtemp(prefix="standin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    scene = slicer.vtkMRMLScene()
    application = _application_logic(scene, folder)
    slicer.mrmlScene = scene
    slicer.modules = Modules()
    slicer.app = BareApp(application, folder)
    _hide_functions_of_util()
    terminologies = folder / "home" / "share" / "terminologies"
    resources.write_terminologies(terminologies)
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)() if class_name else None
        if logic is not None:
            logic.SetMRMLApplicationLogic(application)
            if name == "terminologies":
                logic.SetModuleShareDirectory(str(terminologies))
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(TITLES.get(name, name.capitalize()), logic)
        setattr(slicer.modules, name, Module(TITLES.get(name, name.capitalize()), logic))
    application.SetColorLogic(slicer.modules.colors.logic())
    _populate()
    _own = {node.GetID() for node in _nodes()}


def gui_installed() -> bool:
    """Whether `slicer.app` is the application with Qt."""
    return not isinstance(slicer.app, BareApp)


def reset() -> None:
    """An empty scene as after starting the application: nothing of the test before is left."""
    scene = slicer.mrmlScene
    scene.SetUndoOff()
    scene.Clear(False)
    # Singletons survive that; a module's parameter node is one of them.
    for node in _nodes():
        if node.GetID() not in _own and not any(map(node.IsA, KEPT)):
            scene.RemoveNode(node)
    scene.ClearUndoStack()
    scene.ClearRedoStack()
    scene.SetURL("")
    _populate()


def _application_logic(scene: Any, folder: Path) -> Any:
    """The application's logic, with the managers without which a .mrb is not read."""
    for name in ("home", "cache"):
        (folder / name).mkdir()
    resources.write_colors(folder / "home" / "share" / "ColorFiles")
    application = slicer.vtkSlicerApplicationLogic()
    application.SetTemporaryPath(str(folder))
    application.SetHomeDirectory(str(folder / "home"))
    application.SetShareDirectory("share")
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder / "cache"))
    cache.SetMRMLScene(scene)
    manager = slicer.vtkDataIOManager()
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)
    application.SetMRMLScene(scene)
    return application


def _hide_functions_of_util() -> None:
    """`slicer-core` copies `slicer.util` into `slicer`; Slicer does not: its absence must show."""
    for name in dir(slicer.util):
        if not name.startswith("_") and getattr(slicer, name, None) is getattr(slicer.util, name):
            delattr(slicer, name)


def _nodes() -> list[Any]:
    """All nodes of the scene, hidden ones too."""
    return [slicer.mrmlScene.GetNthNode(i) for i in range(slicer.mrmlScene.GetNumberOfNodes())]


def _populate() -> None:
    """The nodes of a fresh scene: colours, subject hierarchy, layout, crosshair, slice views."""
    scene = slicer.mrmlScene
    if not _own:
        slicer.modules.colors.logic().AddDefaultColorNodes()
    scene.GetSubjectHierarchyNode()
    for class_name, tag in (
        ("vtkMRMLLayoutNode", "vtkMRMLLayoutNode"),
        ("vtkMRMLCrosshairNode", "default"),
    ):
        if scene.GetSingletonNode(tag, class_name) is None:
            node = _created(class_name)
            node.SetSingletonTag(tag)
            scene.AddNode(node)
    for name, (label, orientation, color) in SLICE_VIEWS.items():
        _add_slice_view(name, label, orientation, color)


def _add_slice_view(name: str, label: str, orientation: str, color: tuple[float, ...]) -> None:
    """A slice node (made by its class, to have the orientation presets) and its composite."""
    scene = slicer.mrmlScene
    if scene.GetSingletonNode(name, "vtkMRMLSliceNode") is None:
        node = _created("vtkMRMLSliceNode")
        node.SetSingletonTag(name)
        node.SetLayoutName(name)
        node.SetName(name)
        node.SetLayoutLabel(label)
        node.SetLayoutColor(*color)
        node.SetOrientation(orientation)
        scene.AddNode(node)
    if scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode") is None:
        composite = _created("vtkMRMLSliceCompositeNode")
        composite.SetSingletonTag(name)
        composite.SetLayoutName(name)
        scene.AddNode(composite)


def _created(class_name: str) -> Any:
    """A node of that class which Python alone owns: CreateNodeByClass leaves one reference over."""
    node = slicer.mrmlScene.CreateNodeByClass(class_name)
    if node is None:
        raise ValueError(f"the scene knows no node class {class_name}")
    node.UnRegister(None)
    return node
