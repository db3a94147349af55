"""torchvision imports whether or not its compiled operators load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from FoBSAMLib.errors import FoBSAMError
from FoBSAMLib.models.torchvision_ops import ensure_torchvision


def test_networks_and_transforms_are_there_and_a_second_call_is_free() -> None:
    torchvision = ensure_torchvision()
    assert torchvision.models.resnet18
    assert torchvision.transforms.functional.resize
    assert ensure_torchvision() is torchvision


def test_a_fresh_process_imports_it_after_a_failed_attempt() -> None:
    script = (
        "try:\n    import torchvision\nexcept RuntimeError: pass\n"
        "from FoBSAMLib.models.torchvision_ops import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "from torchvision.transforms.functional import resize\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_without_torchvision_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(FoBSAMError, match="pip install torchvision"):
        ensure_torchvision()
