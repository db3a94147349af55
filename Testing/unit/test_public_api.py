"""The public names, how quickly they come, and the README's example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import phantom
import pytest

import FoBSAMLib

README = Path(__file__).resolve().parents[2] / "README.md"


def run(code: str, environment: dict[str, str], folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("code", ["import FoBSAMLib", "import FoBSAMLib.cli"])
def test_import_is_light(code, environment, tmp_path):
    loaded = run(f"{code}; import sys; print(*sys.modules)", environment, tmp_path).split()
    assert "FoBSAMLib" in loaded
    assert not {"torch", "skimage", "scipy", "SimpleITK", "matplotlib", "numpy"} & set(loaded)


def test_every_public_name_is_there():
    for name in FoBSAMLib.__all__:
        assert getattr(FoBSAMLib, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = FoBSAMLib.nonsense


def test_example_of_the_readme_runs(environment, tmp_path):
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    phantom.save(tmp_path / "mr.nii.gz", phantom.voxels())
    phantom.save(tmp_path / "drawn.nii.gz", phantom.drawn())
    assert examples
    for example in examples:
        if "import mrml" not in example:  # for Slicer's console: see test_mrml_console.py
            run(example, environment, tmp_path)
    assert (tmp_path / "found.seg.nrrd").stat().st_size > 0
