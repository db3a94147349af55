"""`slicer.app`: the application with Qt, its settings, its command line and its main window."""

# ruff: noqa: N801, N802, N815 (Slicer's and Qt's names)

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import modules
from .properties import stored
from .scene import BareApp

_CONSTANTS = (
    "majorVersion",
    "minorVersion",
    "patchVersion",
    "mainApplicationVersion",
    "revision",
    "repositoryRevision",
    "os",
    "arch",
    "platform",
    "slicerHome",
    "temporaryPath",
    "cachePath",
)


class qSlicerCommandOptions(QtCore.QObject):
    """What Slicer was started with: an ordinary start, with a window."""

    testingEnabled = stored(bool, "testingEnabled", False)
    noMainWindow = stored(bool, "noMainWindow", False)
    noSplash = stored(bool, "noSplash", False)
    runPythonAndExit = stored(bool, "runPythonAndExit", False)


class qSlicerExtensionsManagerModel(QtCore.QObject):
    """The installed extensions: PyTorch alone."""

    def isExtensionInstalled(self, name: str) -> bool:
        """Whether an extension is installed."""
        return name in ("PyTorch", "FoBSAM")

    def isExtensionEnabled(self, name: str) -> bool:
        """Whether an extension is in use."""
        return self.isExtensionInstalled(name)


class qSlicerPythonManager(QtCore.QObject):
    """The Python console's manager."""

    pythonErrorDetected = Signal()


class qSlicerApplication(QtWidgets.QApplication):
    """The application object: `slicer.app` is its proxy."""

    SIGNATURES = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged(PyObject)"}  # noqa: RUF012
    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    pausedRender = Signal(bool)

    def __init__(self, core: BareApp) -> None:
        super().__init__(["Slicer"])
        self._core = core
        self._layout_manager: Any = None
        self._options = qSlicerCommandOptions(self)
        self._extensions = qSlicerExtensionsManagerModel(self)
        self._python = qSlicerPythonManager(self)
        self._modules = modules.qSlicerModuleManager(self)
        self._window: modules.qSlicerMainWindow | None = None
        self.exit_codes: list[int] = []
        self.setOrganizationName("Slicer")
        self.setApplicationName("Slicer")
        self.setApplicationVersion(core.applicationVersion)
        self.setQuitOnLastWindowClosed(False)

    def applicationLogic(self) -> Any:
        """The vtkSlicerApplicationLogic."""
        return self._core.applicationLogic()

    def mrmlScene(self) -> Any:
        """The one scene."""
        return slicer.mrmlScene

    def coreIOManager(self) -> Any:
        """The readers and writers."""
        return self._core.coreIOManager()

    def ioManager(self) -> Any:
        """The readers and writers."""
        return self._core.coreIOManager()

    def moduleManager(self) -> Any:
        """The modules."""
        return self._modules

    def layoutManager(self) -> Any:
        """The views; made when first asked for."""
        if self._layout_manager is None:
            from . import views

            self._layout_manager = views.make_layout_manager(self)
        return self._layout_manager

    def commandOptions(self) -> qSlicerCommandOptions:
        """What Slicer was started with."""
        return self._options

    def testingEnabled(self) -> bool:
        """Whether Slicer was started with --testing."""
        return self._options.property("testingEnabled")

    def extensionsManagerModel(self) -> qSlicerExtensionsManagerModel:
        """The installed extensions."""
        return self._extensions

    def pythonManager(self) -> qSlicerPythonManager:
        """The Python console's manager."""
        return self._python

    def settings(self) -> QtCore.QSettings:
        """The settings of this version."""
        return QtCore.QSettings(self)

    def userSettings(self) -> QtCore.QSettings:
        """The settings of all versions."""
        return QtCore.QSettings(self)

    def revisionUserSettings(self) -> QtCore.QSettings:
        """The settings of this version."""
        return QtCore.QSettings(self)

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        """The environment before the launcher changed it."""
        return QtCore.QProcessEnvironment.systemEnvironment()

    def environment(self) -> QtCore.QProcessEnvironment:
        """The environment as it is."""
        return QtCore.QProcessEnvironment.systemEnvironment()

    def mainWindow(self) -> Any:
        """The main window."""
        if self._window is None:
            self._window = modules.qSlicerMainWindow(self._modules)
        return self._window

    def pauseRender(self) -> None:
        """Views wait."""
        self._core.pauseRender()

    def resumeRender(self) -> None:
        """Views go on."""
        self._core.resumeRender()

    def isRelease(self) -> bool:
        """Whether this is a stable version."""
        return True

    def moduleDocumentationUrl(self, module: str) -> str:
        """Where a module is described."""
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{module.lower()}.html"

    def restart(self) -> None:
        """Recorded as exit code -1; the process goes on."""
        self.exit_codes.append(-1)

    def exit(self, code: int = 0) -> None:
        """Recorded; the process goes on."""
        self.exit_codes.append(code)

    applicationDisplayVersion = Property(str, lambda self: self._core.applicationVersion)
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    launcherExecutableFilePath = Property(str, lambda self: "")
    extensionsInstallPath = Property(str, lambda self: self._core.slicerHome)
    slicerUserSettingsFilePath = Property(str, lambda self: QtCore.QSettings().fileName())
    for _name in _CONSTANTS:
        _kind = int if _name.endswith("orVersion") or _name == "patchVersion" else str
        locals()[_name] = Property(_kind, lambda self, name=_name: getattr(self._core, name))
    del _name, _kind


def prepare_platform() -> None:
    """Without a display, or without the libraries to use it, Qt draws into memory."""
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not shown or not _display_usable():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def _display_usable() -> bool:
    """Whether Qt's plugin for X11 finds its libraries; Qt itself would abort the process."""
    plugin = Path(QtWidgets.__file__).parent / "Qt" / "plugins" / "platforms" / "libqxcb.so"
    try:
        ctypes.CDLL(str(plugin))
    except OSError:
        return not plugin.exists()
    return True


def install(core: BareApp) -> qSlicerApplication:
    """Make the QApplication; the settings go to a file in the temporary folder."""
    if QtCore.QCoreApplication.instance() is not None:
        raise RuntimeError("standin.install() must come before any other QApplication")
    prepare_platform()
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(
        QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, core.temporaryPath
    )
    application = qSlicerApplication(core)
    application.mainWindow()
    return application
