"""Modal dialogs: a test says beforehand what the user will answer; else opening one raises.

`answer("Discard", qt.QMessageBox.Yes)` answers the next dialog whose title or text holds that
word. The answer may be a button (its enum or its label), what a static function returns (a path, a
text), or a function that gets the dialog, works with it and returns its result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6 import QtWidgets

from . import errors
from .pythonqt import EXTRA, Proxy, raw_of, wrap


class UnexpectedDialogError(AssertionError):
    """A dialog no test has foreseen: a real application would wait for the user here."""


@dataclass(frozen=True)
class Shown:
    """A dialog that was opened."""

    kind: str
    title: str
    text: str
    answer: Any


shown: list[Shown] = []
opened_urls: list[str] = []
_answers: list[tuple[str, Any]] = []


def answer(words: str, reply: Any) -> None:
    """Script one dialog; without words, the next one whatever it says."""
    _answers.append((words, reply))


def forget() -> None:
    """Drop what was scripted and shown."""
    shown.clear()
    opened_urls.clear()
    _answers.clear()


def unused() -> list[str]:
    """The scripted dialogs that did not come."""
    return [words for words, _ in _answers]


def ask(kind: str, title: str, text: str) -> Any:
    """The scripted reply to a dialog; UnexpectedDialogError if there is none."""
    for position, (words, reply) in enumerate(_answers):
        if words in title or words in text:
            del _answers[position]
            shown.append(Shown(kind, title, text, reply))
            return reply
    problem = UnexpectedDialogError(
        f"{kind} {title!r} opened, and no answer was scripted: {text!r}"
    )
    # A handler may swallow it; the test must see it all the same.
    errors.record(problem)
    raise problem


def _run_dialog(self: Proxy) -> Any:
    """`dialog.exec_()`: the scripted function works with it while it is shown."""
    raw = raw_of(self)
    labels = [label.text() for label in raw.findChildren(QtWidgets.QLabel)]
    reply = ask(type(self).__name__, raw.windowTitle(), "\n".join(labels))
    if not callable(reply):
        return int(reply)
    raw.show()
    result = reply(self)
    if result is None:
        result = raw.result()
    raw.hide()
    return int(result)


def _run_message_box(self: Proxy) -> int:
    """`box.exec_()`: the button is really clicked, so clickedButton() and checkBox work."""
    raw = raw_of(self)
    text = "\n".join(filter(None, [raw.text(), raw.informativeText()]))
    reply = ask(type(self).__name__, raw.windowTitle().strip(), text)
    if callable(reply):
        reply = reply(self)
    button = _button(raw, reply)
    button.click()
    standard = raw.standardButton(button)
    return standard.value or raw.buttons().index(button)


def _button(raw: QtWidgets.QMessageBox, reply: Any) -> Any:
    """The button a reply means, by standard button or by label."""
    for button in raw.buttons():
        if reply == raw.standardButton(button).value or reply == button.text().replace("&", ""):
            return button
    labels = [button.text() for button in raw.buttons()]
    raise UnexpectedDialogError(f"the message box has no button {reply!r}, only {labels}")


def _run_menu(self: Proxy, *position: Any) -> Any:
    """`menu.exec_(pos)`: the action of the scripted label is triggered and returned."""
    raw = raw_of(self)
    labels = {action.text().replace("&", ""): action for action in raw.actions()}
    reply = ask("QMenu", raw.title(), "\n".join(labels))
    if reply is None:
        return None
    if reply not in labels:
        raise UnexpectedDialogError(f"the menu has no action {reply!r}, only {list(labels)}")
    labels[reply].trigger()
    return wrap(labels[reply])


def _static(kind: str) -> Callable:
    """A static function that opens a dialog: (parent, title, text, ...) -> the reply."""

    def function(parent: Any, title: str, text: str = "", *more: Any) -> Any:
        if parent is not None and not isinstance(parent, Proxy):
            raise TypeError(f"{kind}: the first argument is the parent widget")
        reply = ask(kind, title, text)
        return tuple(reply) if isinstance(reply, list) else reply

    return staticmethod(function)


def _open_url(url: Proxy) -> bool:
    """Recorded, not opened."""
    opened_urls.append(raw_of(url).toString())
    return True


_MESSAGES = ("about", "critical", "information", "question", "warning")
_INPUTS = ("getText", "getMultiLineText", "getItem", "getInt", "getDouble")
_FILES = ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory")
EXTRA["QDialog"] = {"exec_": _run_dialog, "exec": _run_dialog}
EXTRA["QMessageBox"] = {
    "exec_": _run_message_box,
    "exec": _run_message_box,
    **{name: _static(f"QMessageBox.{name}") for name in _MESSAGES},
}
EXTRA["QMenu"] = {"exec_": _run_menu, "exec": _run_menu, "popup": _run_menu}
EXTRA["QInputDialog"] = {name: _static(f"QInputDialog.{name}") for name in _INPUTS}
EXTRA["QFileDialog"] = {name: _static(f"QFileDialog.{name}") for name in _FILES}
EXTRA["QDesktopServices"] = {"openUrl": staticmethod(_open_url)}
