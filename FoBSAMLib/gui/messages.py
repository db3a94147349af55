"""What the user must read, on top of the panel: it stays until it is closed or out of date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.gui.report import Names

#: Background colours that the words stay readable on, whatever the theme.
ERROR, WARNING, NOTE = "#f7d6d6", "#fdeec8", "#d8e8f8"


class Messages:
    """The frame with a message and, where something can be done about it, a button."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._act: Callable[[], None] | None = None
        #: What went wrong last, for the report; and the names that are not for it.
        self.last_error = ""
        self.names = Names()
        ui.messageLabel.setTextFormat(qt.Qt.PlainText)  # names of nodes are no HTML
        ui.messageCloseButton.connect("clicked(bool)", lambda _checked: self.hide())
        ui.messageButton.connect("clicked(bool)", lambda _checked: self._pressed())
        self.hide()

    def error(self, error: FoBSAMError) -> None:
        """Something went wrong."""
        self.last_error = f"{error.code}: {error}"
        self.names.remember()  # the error may be about what is gone when the report is asked for
        self._show(str(error), ERROR)

    def warn(self, text: str, action: str = "", act: Callable[[], None] | None = None) -> None:
        """Something should be looked at; ``action`` names the button that calls ``act``."""
        self._show(text, WARNING, action, act)

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

    def _show(
        self, text: str, color: str, action: str = "", act: Callable[[], None] | None = None
    ) -> None:
        self._act = act
        self._ui.messageLabel.setText(text)
        self._ui.messageButton.setText(action)
        self._ui.messageButton.setVisible(bool(action))
        self._ui.messageFrame.setStyleSheet(
            f"#messageFrame {{ background: {color}; }} "
            "#messageFrame QLabel, #messageFrame QToolButton { color: black; }"
        )
        self._ui.messageFrame.setVisible(True)

    def _pressed(self) -> None:
        act = self._act
        self.hide()
        if act is not None:
            act()
