"""What the user reads can be translated, and every input says what it is for."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = (*sorted((ROOT / "FoBSAMLib" / "gui").glob("*.py")), ROOT / "FoBSAM" / "FoBSAM.py")
#: What shows its arguments to the user.
SHOWING = {
    "setText",
    "setToolTip",
    "setFormat",
    "setTitle",
    "setWindowTitle",
    "setPlaceholderText",
    "setPrefix",
    "setSuffix",
    "showMessage",
    "note",
    "warn",
    "confirmOkCancelDisplay",
    "confirmYesNoDisplay",
    "errorDisplay",
    "warningDisplay",
    "infoDisplay",
}
#: Attributes whose value the user sees.
SHOWN = {"text", "toolTip", "title", "helpText", "acknowledgementText"}
INPUTS = {
    "QCheckBox",
    "QComboBox",
    "QLineEdit",
    "QListWidget",
    "QPlainTextEdit",
    "QPushButton",
    "QSpinBox",
    "QToolButton",
    "qMRMLNodeComboBox",
}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """All calls, with the last part of what is called."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found.append((name, node))
    return found


def words(node: ast.AST) -> bool:
    """Whether an expression is text of this file, with letters in it."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and any(map(str.isalpha, node.value))
    if isinstance(node, ast.JoinedStr):
        return any(words(part) for part in node.values)
    return isinstance(node, ast.BinOp) and (words(node.left) or words(node.right))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_shown_can_be_translated(path):
    tree = ast.parse(path.read_text("utf-8"))
    wrong = []
    for name, call in calls(tree):
        if name in ("_", "translate"):
            # lupdate reads the source: it finds whole texts only.
            text = call.args[-1]
            if not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
                wrong.append(f"line {call.lineno}: no plain text within {name}()")
        elif name in SHOWING:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            wrong += [f"line {call.lineno}: {name} of plain text" for one in given if words(one)]
        elif name == "FoBSAMError":
            wrong += [
                f"line {call.lineno}: an error of plain text" for a in call.args[1:] if words(a)
            ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and words(node.value):
            names = [t.attr for t in node.targets if isinstance(t, ast.Attribute)]
            wrong += [
                f"line {node.lineno}: {name} is plain text" for name in names if name in SHOWN
            ]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_placeholders_are_filled(path):
    """Every {name} of a text is given to its format()."""
    wrong = []
    for name, call in calls(ast.parse(path.read_text("utf-8"))):
        inner = call.func.value if isinstance(call.func, ast.Attribute) else None
        if name != "format" or not isinstance(inner, ast.Call) or not inner.args:
            continue
        text = getattr(inner.args[-1], "value", "")
        given = {keyword.arg for keyword in call.keywords}
        wanted = {part.partition("}")[0].partition(":")[0] for part in str(text).split("{")[1:]}
        if None not in given and given != wanted:
            wrong.append(f"line {call.lineno}: {wanted} is not {given}")
    assert not wrong


def test_every_input_has_a_tool_tip():
    form = ElementTree.parse(ROOT / "Resources" / "UI" / "FoBSAM.ui")
    without = []
    for widget in form.iter("widget"):
        if widget.get("class") in INPUTS:
            tip = widget.find("property[@name='toolTip']/string")
            if tip is None or not (tip.text or "").strip():
                without.append(widget.get("name"))
    assert not without


def test_no_text_of_the_form_says_the_same_twice():
    form = ElementTree.parse(ROOT / "Resources" / "UI" / "FoBSAM.ui")
    tips = [tip.text for tip in form.iterfind(".//property[@name='toolTip']/string")]
    assert sorted(tips) == sorted(set(tips))
