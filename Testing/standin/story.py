"""The pictures of the documentation: the module through its story, in both of Slicer's themes.

Run as a program it writes them into a folder: ``make screenshots``.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
from pathlib import Path
from typing import Any

import slicer

import standin

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "FoBSAM" / "FoBSAM.py"


def serve_sample() -> None:
    """Have the sample data come from the files of slicerio instead of the network."""
    from FoBSAMLib.gui import samples
    from standin import sample_data

    folder = importlib.resources.files("slicerio") / "data"
    for name in samples.FILES:
        sample_data.served[samples.SOURCE + name] = Path(str(folder / name))


def start() -> Any:
    """The module, open in an application that has just started."""
    standin.install()
    sys.path.insert(0, str(ROOT))
    module = standin.load_module(MODULE)
    serve_sample()
    module.enter()
    return module


class _Pictures:
    """Takes a picture of the panel beside the views in both themes."""

    def __init__(self, module: Any, folder: Path) -> None:
        from standin import screenshots

        self._screenshots = screenshots
        self._module = module
        self._folder = folder

    def take(self, name: str) -> None:
        for theme in ("light", "dark"):
            self._screenshots.use_theme(theme)
            self._module.widget.ui.modelLabel.setText("")  # links keep the colours of their theme
            self._module.widget.panel.models.refresh()
            standin.process_events()
            panel = self._module.widget.parent
            picture = self._screenshots.compose(panel, slicer.app.layoutManager())
            picture.save(str(self._folder / f"{name}-{theme}.png"))


def tell(folder: Path) -> None:
    """Take the pictures: idle, running, review, error and models."""
    os.environ["FOBSAM_DATA"] = "/home/user/.local/share/FoBSAM"  # no folder of who takes them
    folder.mkdir(parents=True, exist_ok=True)
    module = start()
    ui, panel = module.widget.ui, module.widget.panel
    pictures = _Pictures(module, folder)
    standin.click(ui.tryButton)
    standin.wait_until(lambda: panel.inputs.drawn is not None)
    from standin import screenshots

    screenshots.fit_views(slicer.app.layoutManager())
    (drawn,) = panel.inputs.drawn.structures
    panel.inputs.show_drawn(drawn)
    pictures.take("idle")
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: panel.running.run.found > 8, 120)
    pictures.take("running")
    standin.wait_until(lambda: not panel.running.under_way, 120)
    standin.click(ui.show3DCheckBox)
    standin.wait(2.0)  # surfaces are made when nothing changes any more
    screenshots.fit_views(slicer.app.layoutManager())
    standin.click(ui.uncertainButton)
    pictures.take("review")
    standin.click(ui.discardButton)
    ui.segmenterComboBox.setCurrentText("sam-vit-b")
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: not panel.running.under_way, 120)
    pictures.take("error")
    panel.messages.hide()
    ui.inputsButton.collapsed = True
    pictures.take("models")
    standin.quit_application(module)


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
