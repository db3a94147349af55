"""What the user must read, on top of the panel: it stays until it is closed or out of date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.mrml.private import shared_names

#: Background colours that the words stay readable on, whatever the theme.
ERROR, WARNING, NOTE = "#f7d6d6", "#fdeec8", "#d8e8f8"


class Messages:
    """The frame with a message."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        #: What went wrong last, for the report.
        self.last_error = ""
        #: Called with every error that is shown.
        self.on_error: Callable[[FoBSAMError], None] = lambda error: None
        ui.messageLabel.setTextFormat(qt.Qt.PlainText)  # names of nodes are no HTML
        ui.messageCloseButton.connect("clicked(bool)", lambda _checked: self.hide())
        self.hide()

    def error(self, error: FoBSAMError) -> None:
        """Something went wrong."""
        self.last_error = f"{error.code}: {error}"
        shared_names().remember(slicer.mrmlScene)  # they may be gone when the report is asked for
        self._show(str(error), ERROR)
        self.on_error(error)

    def warn(self, text: str) -> None:
        """Something should be looked at."""
        self._show(text, WARNING)

    def note(self, text: str) -> None:
        """Something is worth knowing."""
        self._show(text, NOTE)

    def hide(self) -> None:
        """No message."""
        self._ui.messageFrame.setVisible(False)

    @property
    def text(self) -> str:
        """What is shown, empty for nothing."""
        frame = self._ui.messageFrame
        return "" if frame.isHidden() else str(self._ui.messageLabel.text)

    def _show(self, text: str, color: str) -> None:
        self._ui.messageLabel.setText(text)
        self._ui.messageFrame.setStyleSheet(
            f"#messageFrame {{ background: {color}; }} "
            "#messageFrame QLabel, #messageFrame QToolButton { color: black; }"
        )
        self._ui.messageFrame.setVisible(True)
