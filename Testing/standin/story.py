"""The pictures of the documentation: the module through its story, in both of Slicer's themes.

Run as a program it writes them into a folder: ``make screenshots``.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import slicer

import standin

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "FoBSAM" / "FoBSAM.py"
#: A slice of the sample whose mask spills over into the liver, and a place there, in its pixels.
SPILLED = 11
LIVER = (90.0, 62.0)


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
    """Takes a picture of the panel beside the views."""

    def __init__(self, module: Any, folder: Path) -> None:
        from standin import screenshots

        self._screenshots = screenshots
        self._module = module
        self._folder = folder

    def take(self, name: str, themes: tuple[str, ...] = ("light", "dark")) -> None:
        for theme in themes:
            self._screenshots.use_theme(theme)
            self._module.widget.ui.modelLabel.setText("")  # links keep the colours of their theme
            self._module.widget.panel.models.refresh()
            standin.process_events()
            panel = self._module.widget.parent
            picture = self._screenshots.compose(panel, slicer.app.layoutManager())
            _save(picture, self._folder / f"{name}-{theme}.png")


def _save(picture: Any, path: Path) -> None:
    """As a PNG of 256 colours, a third of the size."""
    from PIL import Image

    size = (picture.width(), picture.height())
    pixels = Image.frombytes("RGB", size, bytes(picture.constBits()), "raw", "BGRX")
    pixels.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _drag_into(module: Any, index: int, place: tuple[float, float]) -> None:
    """Drag the background point that lies nearest to a place in a slice there."""
    panel = module.widget.panel
    panel.review.go_to(index)
    points = panel.review.points._points
    node, image = points.background, panel.review.target.image
    wanted = (image.ijk_to_ras @ [*place, index, 1])[:3]
    found = [
        node.GetNthControlPointPositionWorld(n) for n in range(node.GetNumberOfControlPoints())
    ]
    nearest = min(range(len(found)), key=lambda n: np.linalg.norm(np.subtract(found[n], wanted)))
    node.InvokeEvent(node.PointStartInteractionEvent)
    node.SetNthControlPointPositionWorld(nearest, *wanted)
    node.InvokeEvent(node.PointEndInteractionEvent)
    corrected = panel.review.target.corrected
    standin.wait_until(lambda: index in corrected.get(panel.review.segment_id, {}))


def tell(folder: Path) -> None:
    """Take the pictures: the steps of the tutorial, an error, and models."""
    os.environ["FOBSAM_DATA"] = "/home/user/.local/share/FoBSAM"  # no folder of who takes them
    folder.mkdir(parents=True, exist_ok=True)
    module = start()
    panel = module.widget.panel
    pictures = _Pictures(module, folder)
    _segment(module, pictures)
    _correct(module, pictures)
    _fail(module, pictures)
    panel.messages.hide()
    module.widget.ui.inputsButton.collapsed = True
    pictures.take("models")
    standin.quit_application(module)


def _segment(module: Any, pictures: _Pictures) -> None:
    """The sample, a run and its review."""
    from standin import screenshots

    ui, panel = module.widget.ui, module.widget.panel
    standin.click(ui.tryButton)
    standin.wait_until(lambda: panel.inputs.drawn is not None)
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


def _correct(module: Any, pictures: _Pictures) -> None:
    """A slice in which the mask spills over into the liver, before and after; answers; accepted."""
    ui, panel = module.widget.ui, module.widget.panel
    panel.review.go_to(SPILLED)
    pictures.take("spilled", ("light",))
    _drag_into(module, SPILLED, LIVER)
    standin.wait(2.0)
    pictures.take("corrected", ("light",))
    standin.click(ui.suggestButton)
    standin.wait_until(lambda: panel.messages.text)
    pictures.take("suggested", ("light",))
    panel.messages.hide()
    panel.review.go_to(SPILLED)
    standin.click(ui.acceptButton)
    node = module.widget._parameterNode.segmentation
    node.CreateClosedSurfaceRepresentation()  # "Show 3D" of the Segment Editor
    standin.wait(1.0)
    pictures.take("accepted", ("light",))


def _fail(module: Any, pictures: _Pictures) -> None:
    """A model that is not there."""
    ui, panel = module.widget.ui, module.widget.panel
    panel.messages.hide()
    ui.segmenterComboBox.setCurrentText("sam-vit-b")
    standin.click(ui.segmentButton)
    standin.wait_until(lambda: not panel.running.under_way, 120)
    pictures.take("error")


if __name__ == "__main__":
    tell(Path(sys.argv[1]))
