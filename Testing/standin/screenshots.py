"""Pictures of a module's panel beside the views, as Slicer's window shows them, without a window.

``compose`` draws the panel on the left and Slicer's four views on the right, each under its bar:
the colour, the letter, the slider and the position. `standin.story` composes the pictures of the
documentation.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from standin import views
from standin.pythonqt import unwrap
from standin.scene import SLICE_VIEWS

#: Pixels: the picture at least, the panel's width, a view's bar, and what lies between the parts.
WINDOW = (1600, 960)
PANEL_WIDTH = 440
BAR_HEIGHT = 22
GAP = 3
#: Rows of views in Slicer's four-up layout.
FOUR_UP = (("Red", views.THREE_D_VIEW), ("Green", "Yellow"))
#: Letters of the patient's directions: towards lower and higher R, A and S.
DIRECTIONS = ("LR", "PA", "IS")

# Colours near those of Slicer's two styles; what is not named here, Qt derives.
_THEMES = {
    "light": {
        "Window": "#efefef",
        "WindowText": "#000000",
        "Base": "#ffffff",
        "AlternateBase": "#f7f7f7",
        "ToolTipBase": "#ffffdc",
        "ToolTipText": "#000000",
        "Text": "#000000",
        "PlaceholderText": "#808080",
        "Button": "#efefef",
        "ButtonText": "#000000",
        "Light": "#ffffff",
        "Midlight": "#cacaca",
        "Dark": "#9f9f9f",
        "Mid": "#b8b8b8",
        "Shadow": "#767676",
        "Highlight": "#308cc6",
        "HighlightedText": "#ffffff",
        "Link": "#0057ae",
    },
    "dark": {
        "Window": "#323232",
        "WindowText": "#ffffff",
        "Base": "#1e1e1e",
        "AlternateBase": "#323232",
        "ToolTipBase": "#ffffff",
        "ToolTipText": "#323232",
        "Text": "#ffffff",
        "PlaceholderText": "#8c8c8c",
        "Button": "#323232",
        "ButtonText": "#ffffff",
        "Light": "#828284",
        "Midlight": "#5a5a5b",
        "Dark": "#232323",
        "Mid": "#2b2b2b",
        "Shadow": "#141414",
        "Highlight": "#3ca4ff",
        "HighlightedText": "#ffffff",
        "Link": "#3ca4ff",
    },
}
_DISABLED_TEXT = {"light": "#a0a0a0", "dark": "#6d6d6d"}


def use_theme(theme: str) -> None:
    """Give the application Slicer's "light" or "dark" style; widgets that exist follow."""
    application = QtWidgets.QApplication.instance()
    application.setStyle("Fusion")
    palette = QtGui.QPalette()
    for role, color in _THEMES[theme].items():
        palette.setColor(QtGui.QPalette.ColorRole[role], QtGui.QColor(color))
    for role in ("WindowText", "Text", "ButtonText"):
        palette.setColor(
            QtGui.QPalette.ColorGroup.Disabled,
            QtGui.QPalette.ColorRole[role],
            QtGui.QColor(_DISABLED_TEXT[theme]),
        )
    application.setPalette(palette)


def compose(panel, manager: views.LayoutManager) -> QtGui.QImage:
    """The panel (a QWidget of PySide6, or as scripts see it) beside the views of the manager.

    The picture grows where the panel is higher than it. The views keep their scale; call
    ``fit_views`` before to see the whole volume.
    """
    left = grab(panel, PANEL_WIDTH, WINDOW[1])
    frame = QtWidgets.QWidget()
    frame.setFixedSize(WINDOW[0], max(WINDOW[1], left.height()))
    panel_place = QtWidgets.QLabel(frame)
    panel_place.setPixmap(QtGui.QPixmap.fromImage(left))
    panel_place.resize(left.size())
    for name, rectangle in _places(frame.size()).items():
        view = _view(manager, name, rectangle.size())
        view.setParent(frame)
        view.setGeometry(rectangle)
    return grab(frame, frame.width(), frame.height())


def grab(widget, width: int, height: int) -> QtGui.QImage:
    """A widget as an image of that width and at least that height."""
    widget = unwrap(widget)
    # A widget that is not shown hears nothing of a new style.
    widget.setPalette(QtWidgets.QApplication.palette())
    needed = widget.heightForWidth(width) if widget.hasHeightForWidth() else -1
    widget.resize(width, max(height, needed, widget.minimumSizeHint().height()))
    return widget.grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB32)


def fit_views(manager: views.LayoutManager) -> None:
    """Make the views as large as in a picture; fit volume and surfaces into them, without box."""
    for name, rectangle in _places(QtCore.QSize(*WINDOW)).items():
        views.resize(manager, name, (rectangle.width(), rectangle.height() - BAR_HEIGHT))
    manager.resetSliceViews()
    manager.resetThreeDViews()
    node, view = manager.activeMRMLThreeDViewNode(), manager.threeDWidget(0).threeDView()
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    view.renderer().ResetCamera()


def _places(window: QtCore.QSize) -> dict[str, QtCore.QRect]:
    """Where the views lie in a window, their bars included."""
    width = (window.width() - PANEL_WIDTH - 2 * GAP) // 2
    height = (window.height() - GAP) // 2
    return {
        name: QtCore.QRect(
            PANEL_WIDTH + GAP + column * (width + GAP), row * (height + GAP), width, height
        )
        for row, names in enumerate(FOUR_UP)
        for column, name in enumerate(names)
    }


def _view(manager: views.LayoutManager, name: str, size: QtCore.QSize) -> QtWidgets.QWidget:
    """A view under its bar."""
    widget = QtWidgets.QWidget()
    column = QtWidgets.QVBoxLayout(widget)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(0)
    bar = _three_d_bar() if name == views.THREE_D_VIEW else _slice_bar(manager, name)
    bar.setFixedHeight(BAR_HEIGHT)
    column.addWidget(bar)
    views.resize(manager, name, (size.width(), size.height() - BAR_HEIGHT))
    shown = QtWidgets.QLabel()
    shown.setPixmap(QtGui.QPixmap.fromImage(_image(views.picture(manager, name))))
    column.addWidget(shown)
    return widget


def _slice_bar(manager: views.LayoutManager, name: str) -> QtWidgets.QWidget:
    """Letter on the view's colour, slider, and position in mm with the letter of its direction."""
    letter, _orientation, color = SLICE_VIEWS[name]
    bar = _bar(letter, color)
    logic = manager.sliceWidget(name).sliceLogic()
    offset = logic.GetSliceOffset()
    limits, step = [0.0, 0.0], vtk.reference(0.0)
    slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
    if logic.GetSliceOffsetRangeResolution(limits, step):
        slider.setRange(round(10 * limits[0]), round(10 * limits[1]))
        slider.setValue(round(10 * offset))
    bar.layout().addWidget(slider, 1)
    position = QtWidgets.QDoubleSpinBox()
    position.setRange(-1e6, 1e6)
    position.setDecimals(2)
    position.setPrefix(_direction(logic.GetSliceNode()))
    position.setSuffix("mm")
    position.setValue(offset)
    position.setFixedWidth(118)
    bar.layout().addWidget(position)
    return bar


def _three_d_bar() -> QtWidgets.QWidget:
    bar = _bar(views.THREE_D_VIEW, views.THREE_D_COLOR)
    bar.layout().addStretch(1)
    return bar


def _bar(letter: str, color: tuple[float, float, float]) -> QtWidgets.QWidget:
    bar = QtWidgets.QWidget()
    bar.setAutoFillBackground(True)
    background = QtGui.QColor.fromRgbF(*color)
    palette = bar.palette()
    palette.setColor(QtGui.QPalette.ColorRole.Window, background)
    bar.setPalette(palette)
    row = QtWidgets.QHBoxLayout(bar)
    row.setContentsMargins(2, 0, 2, 0)
    row.setSpacing(4)
    label = QtWidgets.QLabel(letter)
    label.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
    label.setFixedWidth(22)
    dark = background.lightnessF() < 0.5
    label.setStyleSheet(f"font-weight: bold; color: {'white' if dark else 'black'}")
    row.addWidget(label)
    return bar


def _direction(slice_node) -> str:
    """The letter of the patient's direction a slice moves along, nothing in a turned view."""
    normal = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())[:3, 2]
    axis = int(np.argmax(np.abs(normal)))
    if abs(normal[axis]) < 0.9999:
        return ""
    return f"{DIRECTIONS[axis][int(normal[axis] > 0)]}: "


def _image(pixels: np.ndarray) -> QtGui.QImage:
    """RGB, uint8 [H, W, 3], as an image of its own."""
    height, width, _ = pixels.shape
    return QtGui.QImage(
        pixels.tobytes(), width, height, 3 * width, QtGui.QImage.Format.Format_RGB888
    ).copy()
