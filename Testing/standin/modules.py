"""Modules, their widgets, and the main window that shows them: Slicer's C++ around scripts."""

# ruff: noqa: N801, N802, N815 (Slicer's and Qt's names)

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import errors
from .ctk_widgets import ctkCollapsibleButton, ctkFittedTextBrowser
from .node_combo_box import qMRMLWidget
from .properties import stored
from .pythonqt import wrap


class qSlicerScriptedLoadableModule(QtCore.QObject):
    """A module written in Python; `parent` in its constructor."""

    title = stored(str, "title", "")
    categories = stored("QStringList", "categories", [])
    dependencies = stored("QStringList", "dependencies", [])
    contributors = stored("QStringList", "contributors", [])
    associatedNodeTypes = stored("QStringList", "associatedNodeTypes", [])
    helpText = stored(str, "helpText", "")
    acknowledgementText = stored(str, "acknowledgementText", "")
    icon = stored(QtGui.QIcon, "icon", QtGui.QIcon())
    hidden = stored(bool, "hidden", False)
    widgetRepresentationCreationEnabled = stored(bool, "creation", True)

    def __init__(self, path: Path, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._path = str(path)
        self._name = path.stem
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None
        self.setObjectName(f"{self._name}Module")

    name = Property(str, lambda self: self._name)
    path = Property(str, lambda self: self._path)

    def logic(self) -> Any:
        """The C++ logic every scripted module has; the Python one is the widget's."""
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def widgetRepresentation(self) -> Any:
        """The module's panel; made, and its setup() called, when first asked for."""
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self) -> Any:
        """Another panel."""
        return qSlicerScriptedLoadableModuleWidget(self)


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The panel; `parent` of the Python widget class."""

    SIGNATURES = {}  # noqa: RUF012

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__()
        self._module = module
        self.setObjectName(f"{module.objectName()}Widget")
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)
        self._make()

    def _make(self) -> None:
        name = self._module.property("name") + "Widget"
        python = getattr(sys.modules[self._module.property("name")], name)
        self._self = python(wrap(self))
        setattr(slicer.modules, name, self._self)
        self._self.setup()

    def self(self) -> Any:
        """The Python object."""
        return self._self

    def reload(self) -> None:
        """Make the Python object anew, from the reloaded source."""
        self._make()

    def module(self) -> Any:
        """The module."""
        return self._module

    def enter(self) -> None:
        """The user comes to the module."""
        self._call("enter")

    def exit(self) -> None:
        """The user leaves it."""
        self._call("exit")

    def _call(self, name: str) -> None:
        method = getattr(self._self, name, None)
        if method is not None:
            try:
                method()
            except Exception as error:
                errors.record(error)


class qSlicerModuleFactoryManager(QtCore.QObject):
    """Knows which modules are loaded."""

    def __init__(self, parent: QtCore.QObject, names: dict[str, Any]) -> None:
        super().__init__(parent)
        self._names = names

    def loadedModuleNames(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._names)


class qSlicerModuleManager(QtCore.QObject):
    """Loads and unloads modules."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    moduleUnloaded = Signal(str)

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._modules: dict[str, Any] = {
            module.name: module for module in vars(slicer.modules).values()
        }
        self._factory = qSlicerModuleFactoryManager(self, self._modules)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        """The factory."""
        return self._factory

    def module(self, name: str) -> Any:
        """A module by name, or None."""
        return self._modules.get(name)

    def modulesNames(self) -> list[str]:
        """The names of all modules."""
        return sorted(self._modules)

    def _load(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Run a module's file and construct its class."""
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        source = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = source
        spec.loader.exec_module(source)
        module = qSlicerScriptedLoadableModule(path, self)
        instance = getattr(source, path.stem)(wrap(module))
        setattr(slicer.modules, path.stem.lower(), wrap(module))
        setattr(slicer.modules, f"{path.stem}Instance", instance)
        self._modules[path.stem] = module
        if hasattr(instance, "setup"):
            instance.setup()
        self.moduleLoaded.emit(path.stem)
        return module

    def _unload(self, name: str) -> None:
        """As when the application ends: cleanup() runs, the panel is destroyed."""
        module = self._modules.pop(name)
        self.moduleAboutToBeUnloaded.emit(name)
        for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
            vars(slicer.modules).pop(attribute, None)
        if module._widget is not None:
            module._widget.setParent(None)
            module._widget.deleteLater()
        sys.modules.pop(name, None)
        module.deleteLater()
        self.moduleUnloaded.emit(name)


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """Chooses the module shown in the panel."""

    moduleSelected = Signal(str)

    def __init__(self, window: qSlicerMainWindow, manager: qSlicerModuleManager) -> None:
        super().__init__(window)
        self._window, self._manager, self._name = window, manager, ""

    def selectModule(self, name: str) -> None:
        """Leave the present module and enter another."""
        if self._manager.module(name) is None:
            raise RuntimeError(f"there is no module {name!r}")
        if name == self._name:
            return
        self._name = name
        self._window._panel._show_module(self._manager.module(name))
        self.moduleSelected.emit(name)

    selectedModule = Property(str, lambda self: self._name)


class qSlicerModulePanel(QtWidgets.QScrollArea):
    """The help section and below it the module's own panel."""

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("ModulePanel")
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        contents = QtWidgets.QWidget(self)
        contents.installEventFilter(self)
        self._column = QtWidgets.QVBoxLayout(contents)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._help_button = ctkCollapsibleButton("Help && Acknowledgement", contents)
        self._help_button.setProperty("collapsed", True)
        self._help_button.setObjectName("HelpCollapsibleButton")
        self._tabs = QtWidgets.QTabWidget()
        self._help, self._thanks = ctkFittedTextBrowser(), ctkFittedTextBrowser()
        for browser, title in ((self._help, "Help"), (self._thanks, "Acknowledgement")):
            browser.setOpenExternalLinks(True)
            self._tabs.addTab(browser, title)
        QtWidgets.QVBoxLayout(self._help_button).addWidget(self._tabs)
        self._help_button.setProperty("collapsed", False)
        self._help_button.setProperty("collapsed", True)
        self._column.addWidget(self._help_button)
        self._column.addStretch(1)
        self.setWidget(contents)
        self._current: Any = None

    def _show_module(self, module: Any) -> None:
        """Exit the shown panel, show and enter that of the module, if it has one."""
        before, self._current = self._current, None
        if before is not None:
            before.exit()
        if isinstance(before, QtWidgets.QWidget):
            self._column.removeWidget(before)
            before.setParent(None)
        if not hasattr(module, "widgetRepresentation"):
            return
        self._current = module.widgetRepresentation()
        if isinstance(module, qSlicerScriptedLoadableModule):
            self._help.setHtml(module.property("helpText"))
            self._thanks.setHtml(module.property("acknowledgementText"))
            self._column.insertWidget(1, self._current)
            self._current.setVisible(True)
        self._current.enter()

    helpAndAcknowledgmentVisible = Property(
        bool,
        lambda self: not self._help_button.isHidden(),
        lambda self, shown: self._help_button.setVisible(shown),
    )

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        """The panel is never narrower than what it shows, as in Slicer."""
        if event.type() == QtCore.QEvent.Type.LayoutRequest and watched is self.widget():
            bar = self.verticalScrollBar().sizeHint().width()
            self.setMinimumWidth(watched.minimumSizeHint().width() + bar)
        return False


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window with the panel to the left; the views are elsewhere (`standin.views`)."""

    def __init__(self, manager: qSlicerModuleManager) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer")
        self.resize(560, 900)
        self._selector = qSlicerModuleSelectorToolBar(self, manager)
        self.addToolBar(self._selector)
        dock = QtWidgets.QDockWidget(self)
        dock.setObjectName("PanelDockWidget")
        dock.setTitleBarWidget(QtWidgets.QWidget(dock))
        self._panel = qSlicerModulePanel(dock)
        dock.setWidget(self._panel)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self.statusBar()

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        """The selector of the module."""
        return self._selector
