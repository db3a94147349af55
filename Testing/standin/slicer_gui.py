"""Puts everything that needs Qt into `slicer` and `sys.modules`."""

# ruff: noqa: N803 (Slicer's names)

from __future__ import annotations

import sys
import types
from typing import Any

import slicer
import slicer.util
from PySide6 import QtCore

from . import (
    app,
    ctk_widgets,
    dialogs,
    errors,
    i18n,
    modules,
    node_combo_box,
    packages,
    parameters,
    qtmodule,
    sample_data,
    scripted,
    segment_editor,
    segment_widgets,
    signals,
)
from .pythonqt import proxy_class, raw_of, wrap
from .uiloader import WIDGETS

_MRML_WIDGETS = (
    node_combo_box.qMRMLWidget,
    node_combo_box.qMRMLNodeComboBox,
    node_combo_box.qMRMLCheckableNodeComboBox,
    segment_widgets.qMRMLSegmentsTableView,
    segment_widgets.qMRMLSegmentSelectorWidget,
)
_CLASSES = (
    modules.qSlicerScriptedLoadableModule,
    modules.qSlicerScriptedLoadableModuleWidget,
    modules.qSlicerModulePanel,
    modules.qSlicerMainWindow,
)
_WRAPPER_NAMES = (
    "parameterNodeWrapper",
    "isParameterNodeWrapper",
    "Default",
    "Validator",
    "WithinRange",
    "Minimum",
    "Maximum",
    "Choice",
    "Decimals",
    "SingleStep",
    "ObservedList",
)
messages: list[str] = []


def install() -> None:
    """Make `qt`, `ctk`, `slicer.app`, the widgets and the modules; a second call does nothing."""
    if "qt" in sys.modules:
        return
    sys.modules["qt"], sys.modules["ctk"] = qtmodule.module, ctk_widgets.module
    segment_editor.install()
    slicer.app = wrap(app.install(slicer.app))
    for raw_class in _MRML_WIDGETS:
        WIDGETS[raw_class.__name__] = raw_class
        setattr(slicer, raw_class.__name__, proxy_class(raw_class))
    for raw_class in _CLASSES:
        setattr(slicer, raw_class.__name__, proxy_class(raw_class))
    slicer.util.delayDisplay = _delay_display
    _provide("ScriptedLoadableModule", vars(scripted), scripted.__all__)
    _provide("parameterNodeWrapper", vars(parameters), _WRAPPER_NAMES)
    _provide("i18n", vars(i18n), ("tr", "translate"))
    sys.modules["SampleData"] = sample_data
    packages.install()


def unload_modules() -> None:
    """Leave and unload the modules loaded from files, as at the end of the application."""
    manager = raw_of(slicer.app.moduleManager())
    slicer.util.selectModule("Data")
    for name, module in list(manager._modules.items()):
        if isinstance(module, modules.qSlicerScriptedLoadableModule):
            manager._unload(name)
    # The application of the next test knows nothing of the modules of this one.
    signals.disconnect_all(manager)
    signals.disconnect_all(raw_of(slicer.app))


def reset() -> None:
    """Forget what the test before scripted, registered, set and left open."""
    unload_modules()
    errors.caught.clear()
    dialogs.forget()
    packages.forget()
    messages.clear()
    sample_data.served.clear()
    vars(slicer.modules).pop("sampleDataSources", None)
    QtCore.QSettings().clear()


def _provide(name: str, source: dict[str, Any], names: Any) -> None:
    """Make `slicer.NAME` a module with these names alone."""
    module = types.ModuleType(f"slicer.{name}")
    for attribute in names:
        setattr(module, attribute, source[attribute])
    module.__all__ = list(names)
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)


def _delay_display(
    message: str, autoCloseMsec: int = 1000, parent: Any = None, **more: Any
) -> None:
    """A message that goes by itself: kept in `messages`."""
    messages.append(message)
    slicer.app.processEvents()
