"""How far the work is, on a terminal and without one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from FoBSAMLib import progress
from FoBSAMLib.progress import show_progress


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_being_done_is_shown_beside_how_much_is_done(monkeypatch, terminal):
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=120)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    with show_progress("chaos") as show:
        show(1, 4)
        show(doing="subject 19, [liver] done")
    text = shown.getvalue()
    assert "subject 19, [liver] done" in text
    assert ("1/4" if terminal else "chaos: 1 of 4, 0 s left") in text
