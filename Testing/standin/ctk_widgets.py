"""The module `ctk`: the widgets of CTK a module's panel is made of."""

# ruff: noqa: N801, N802, N815 (CTK's and Qt's names)

from __future__ import annotations

import types
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from . import dialogs
from .properties import forwarded, stored
from .pythonqt import proxy_class
from .uiloader import WIDGETS

# Qt's QWIDGETSIZE_MAX.
_ANY_HEIGHT = 2**24 - 1


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that shows and hides the widgets laid out in it."""

    contentsCollapsed = Signal(bool)
    collapsedHeight = stored(int, "collapsedHeight", 10)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    contentsMidLineWidth = stored(int, "contentsMidLineWidth", 0)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        parent = next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._hidden_by_me: list[QtWidgets.QWidget] = []
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(self._show_contents)

    def _collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _collapsed, _set_collapsed)

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 8

    def _show_contents(self, shown: bool) -> None:
        children = [c for c in self.children() if isinstance(c, QtWidgets.QWidget)]
        if shown:
            self.setMaximumHeight(_ANY_HEIGHT)
            for child in self._hidden_by_me:
                child.setVisible(True)
            self._hidden_by_me = []
        else:
            self._hidden_by_me = [c for c in children if not c.isHidden()]
            for child in self._hidden_by_me:
                child.setVisible(False)
            self.setMaximumHeight(self._header_height())
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)

    def hitButton(self, position: QtCore.QPoint) -> bool:
        """Only the header is the button."""
        return position.y() < self._header_height()

    def sizeHint(self) -> QtCore.QSize:
        """The header's size, or that of the layout within the margins."""
        header = QtCore.QSize(
            self.fontMetrics().horizontalAdvance(self.text()) + 40, self._header_height()
        )
        if self.layout() is None or not self.isChecked():
            return header
        return header.expandedTo(self.layout().totalSizeHint())

    def minimumSizeHint(self) -> QtCore.QSize:
        """As `sizeHint`: the contents are not squeezed."""
        if self.layout() is None or not self.isChecked():
            return self.sizeHint()
        return self.layout().totalMinimumSize()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        """A flat header with an arrow."""
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        header = QtCore.QRect(0, 0, self.width(), self._header_height())
        option.rect = header
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        option.rect = QtCore.QRect(6, (header.height() - 10) // 2, 10, 10)
        arrow = "PE_IndicatorArrowDown" if self.isChecked() else "PE_IndicatorArrowRight"
        painter.drawPrimitive(QtWidgets.QStyle.PrimitiveElement[arrow], option)
        flags = QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft
        flags = flags.value | QtCore.Qt.TextFlag.TextShowMnemonic.value
        painter.drawItemText(
            header.adjusted(24, 0, -6, 0), flags, self.palette(), self.isEnabled(), self.text()
        )


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box whose check mark shows and hides its contents."""

    collapsedHeight = stored(int, "collapsedHeight", 14)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._hidden_by_me: list[QtWidgets.QWidget] = []
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._show_contents)

    def _collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _collapsed, _set_collapsed)

    def _show_contents(self, shown: bool) -> None:
        children = [c for c in self.children() if isinstance(c, QtWidgets.QWidget)]
        if shown:
            self.setMaximumHeight(_ANY_HEIGHT)
            for child in self._hidden_by_me:
                child.setVisible(True)
            self._hidden_by_me = []
        else:
            self._hidden_by_me = [c for c in children if not c.isHidden()]
            for child in self._hidden_by_me:
                child.setVisible(False)
            self.setMaximumHeight(self.fontMetrics().height() + 14)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box of one value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimals = forwarded(int, "_spin_box", "decimals")
    singleStep = forwarded(float, "_spin_box", "singleStep")
    minimum = forwarded(float, "_spin_box", "minimum")
    maximum = forwarded(float, "_spin_box", "maximum")
    value = forwarded(float, "_spin_box", "value")
    prefix = forwarded(str, "_spin_box", "prefix")
    suffix = forwarded(str, "_spin_box", "suffix")
    pageStep = stored(float, "pageStep", 10.0)
    tickInterval = stored(float, "tickInterval", 0.0)
    tracking = stored(bool, "tracking", True)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        self._spin_box = QtWidgets.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider)
        row.addWidget(self._spin_box)
        self._spin_box.valueChanged.connect(self._on_value)
        self._slider.sliderMoved.connect(self._on_slider)

    def _on_value(self, value: float) -> None:
        span = self._spin_box.maximum() - self._spin_box.minimum()
        if span > 0:
            self._slider.setValue(round(1000 * (value - self._spin_box.minimum()) / span))
        self.valueChanged.emit(value)

    def _on_slider(self, position: int) -> None:
        low, high = self._spin_box.minimum(), self._spin_box.maximum()
        self._spin_box.setValue(low + position / 1000 * (high - low))

    def setValue(self, value: float) -> None:
        """Set the value, within the range."""
        self._spin_box.setValue(value)

    def setSpinBoxVisible(self, visible: bool) -> None:
        """Show or hide the spin box."""
        self._spin_box.setVisible(visible)

    def reset(self) -> None:
        """Back to zero."""
        self._spin_box.setValue(0.0)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes of a range's ends; the lower is never above the upper."""

    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    minimumValueIsChanging = Signal(float)
    maximumValueIsChanging = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)
    tickInterval = stored(float, "tickInterval", 0.0)
    tracking = stored(bool, "tracking", True)
    symmetricMoves = stored(bool, "symmetricMoves", False)
    prefix = forwarded(str, "_low", "prefix")

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        self._values = (0.0, 99.0)
        self._ends = (0.0, 99.0)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._low)
        row.addStretch(1)
        row.addWidget(self._high)
        self._show()
        self._low.valueChanged.connect(lambda v: self.setValues(v, max(v, self._values[1])))
        self._high.valueChanged.connect(lambda v: self.setValues(min(v, self._values[0]), v))

    def setValues(self, low: float, high: float) -> None:
        """Set both ends at once, within the range."""
        first, last = self._ends
        low, high = sorted((min(max(low, first), last), min(max(high, first), last)))
        before, self._values = self._values, (low, high)
        self._show()
        if before[0] != low:
            self.minimumValueChanged.emit(low)
        if before[1] != high:
            self.maximumValueChanged.emit(high)
        if before != self._values:
            self.valuesChanged.emit(low, high)

    def setMinimumValue(self, value: float) -> None:
        """Set the lower end."""
        self.setValues(value, max(value, self._values[1]))

    def setMaximumValue(self, value: float) -> None:
        """Set the upper end."""
        self.setValues(min(value, self._values[0]), value)

    def reset(self) -> None:
        """Both back to zero."""
        self.setValues(0.0, 0.0)

    def _show(self) -> None:
        for box, value in zip((self._low, self._high), self._values, strict=True):
            with QtCore.QSignalBlocker(box):
                box.setRange(*self._ends)
                box.setValue(value)

    def _set_ends(self, first: float, last: float) -> None:
        if (first, last) != self._ends:
            self._ends = (first, last)
            self.setValues(*self._values)
            self._show()
            self.rangeChanged.emit(first, last)

    def _set_decimals(self, decimals: int) -> None:
        self._low.setDecimals(decimals)
        self._high.setDecimals(decimals)

    def _set_step(self, step: float) -> None:
        self._low.setSingleStep(step)
        self._high.setSingleStep(step)

    def _set_suffix(self, suffix: str) -> None:
        self._low.setSuffix(suffix)
        self._high.setSuffix(suffix)

    decimals = Property(int, lambda self: self._low.decimals(), _set_decimals)
    singleStep = Property(float, lambda self: self._low.singleStep(), _set_step)
    suffix = Property(str, lambda self: self._low.suffix(), _set_suffix)
    minimum = Property(
        float, lambda self: self._ends[0], lambda self, v: self._set_ends(v, max(v, self._ends[1]))
    )
    maximum = Property(
        float, lambda self: self._ends[1], lambda self, v: self._set_ends(min(v, self._ends[0]), v)
    )
    minimumValue = Property(float, lambda self: self._values[0], setMinimumValue)
    maximumValue = Property(float, lambda self: self._values[1], setMaximumValue)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type or to browse for."""

    Dirs, Files, Drives = 0x1, 0x2, 0x4
    Readable, Writable, Executable = 0x10, 0x20, 0x40
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    label = stored(str, "label", "")
    filters = stored(int, "filters", 0x7)
    options = stored(int, "options", 0)
    settingKey = stored(str, "settingKey", "")
    nameFilters = stored("QStringList", "nameFilters", [])
    showHistoryButton = stored(bool, "showHistoryButton", True)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = QtWidgets.QLineEdit(self)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit)
        row.addWidget(self._button)
        self._edit.textChanged.connect(self.currentPathChanged)
        self._button.clicked.connect(self.browse)

    def setCurrentPath(self, path: str) -> None:
        """Show another path."""
        self._edit.setText(path)

    def browse(self) -> None:
        """The dialog the button opens: its answer is a path, or "" for cancel."""
        path = dialogs.ask("ctkPathLineEdit", self.property("label"), self._edit.text())
        if path:
            self._edit.setText(path)

    def addCurrentPathToHistory(self) -> None:
        """Keep the path in the history of `settingKey`."""

    def retrieveHistory(self) -> None:
        """Read the history of `settingKey`."""

    currentPath = Property(str, lambda self: self._edit.text(), setCurrentPath)
    showBrowseButton = Property(
        bool,
        lambda self: not self._button.isHidden(),
        lambda self, shown: self._button.setVisible(shown),
    )


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen" and access to the user data."""

    currentUserDataAsStringChanged = Signal(str)
    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)
    scrollWheelEffect = stored(int, "scrollWheelEffect", 1)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.currentIndexChanged.connect(
            lambda index: self.currentUserDataAsStringChanged.emit(self._data())
        )

    def _data(self) -> str:
        data = self.currentData()
        return "" if data is None else str(data)

    def setCurrentUserDataAsString(self, data: str) -> None:
        """Choose the item of these data."""
        self.setCurrentIndex(self.findData(data))

    currentUserDataAsString = Property(str, _data, setCurrentUserDataAsString)


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with "don't show again"."""

    def _remember(self) -> None:
        if self._stored_dontShowAgainSettingsKey:
            self._stored_dontShowAgainVisible = True

    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "", _remember)


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """A text browser as high as its text."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Minimum
        )
        self.textChanged.connect(self.updateGeometry)

    def sizeHint(self) -> QtCore.QSize:
        """The height of all the text at the present width."""
        document = self.document().clone()
        document.setTextWidth(max(100, self.viewport().width()))
        return QtCore.QSize(200, int(document.size().height()) + 2 * self.frameWidth())

    minimumSizeHint = sizeHint

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        """Another width wants another height."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()


CLASSES: dict[str, type] = {
    c.__name__: c
    for c in (
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSliderWidget,
        ctkRangeWidget,
        ctkPathLineEdit,
        ctkComboBox,
        ctkMessageBox,
        ctkFittedTextBrowser,
    )
}
WIDGETS.update(CLASSES)


class CtkModule(types.ModuleType):
    """`ctk.ctkCollapsibleButton`; unknown names raise AttributeError."""

    def __getattr__(self, name: str) -> Any:
        if name in CLASSES:
            return proxy_class(CLASSES[name])
        raise AttributeError(f"module 'ctk' has no attribute '{name}'")


module = CtkModule("ctk")
module.__file__ = __file__
