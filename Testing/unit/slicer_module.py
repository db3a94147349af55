"""The module in the stand-in for Slicer, with an image of a package and a painted slice."""

from __future__ import annotations

import importlib.resources
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import standin
from standin import dialogs, sample_data
from standin.brush import paint
from standin.driving import RunningModule

ROOT = Path(__file__).resolve().parents[2]
#: On this slice the lung is painted: somewhere in its middle, in world (RAS, mm).
LUNG = (-75.0, -25.0, -140.0)
#: Hounsfield units of lungs.
AIR = (-1100.0, -400.0)


def sample(name: str) -> Path:
    """A file of the package slicerio."""
    return Path(str(importlib.resources.files("slicerio") / "data" / name))


class Module(RunningModule):
    """A module that is not used before it shows what there is to segment."""

    def enter(self) -> None:
        """The user selects the module, and looks; on a busy machine reading takes a while."""
        super().enter()
        inputs = self.widget.panel.inputs
        standin.wait_until(lambda: not inputs._timer.active)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, loaded in a fresh application, not entered yet; at the end Slicer is quit.

    VTK swallows what observers raise, but tells ``sys.excepthook``: here it fails the test.
    """
    errors: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    standin.install()
    standin.reset()
    slicer.app.userSettings().clear()
    loaded = Module(standin.load_module(ROOT / "FoBSAM" / "FoBSAM.py")._raw)
    yield loaded
    standin.quit_application(loaded)
    standin.raise_caught()
    assert not errors, errors
    assert not dialogs.unused()


@pytest.fixture
def chest() -> Any:
    """The chest CT, shown in the slice views."""
    volume = slicer.util.loadVolume(str(sample("CTChest4.nrrd")))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume


def serve_sample() -> None:
    """Have the sample data come from the files of slicerio instead of the network."""
    from FoBSAMLib.gui import samples

    for name in samples.FILES:
        sample_data.served[samples.SOURCE + name] = sample(name)


def segment_editor() -> Any:
    """The Segment Editor's widget, as after the user has opened it."""
    widget = slicer.modules.segmenteditor.widgetRepresentation().self()
    widget.enter()
    return widget.editor


def paint_lung(volume: Any, view: Any = "axial", place: tuple[float, ...] = LUNG) -> Any:
    """Paint a lung on one slice, as a user does: a new segment, a large brush, and only where the
    image is dark. Returns the segmentation node."""
    editor = segment_editor()
    segmentation = editor.segmentationNode()  # the editor makes one when it is opened
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    editor.setSourceVolumeNode(volume)
    segment_id = segmentation.GetSegmentation().AddEmptySegment("lung", "Lung", (0.2, 0.6, 0.9))
    node = editor.mrmlSegmentEditorNode()
    node.SetSourceVolumeIntensityMask(True)
    node.SetSourceVolumeIntensityMaskRange(*AIR)
    paint(editor, segment_id, view, place, 70.0)
    node.SetSourceVolumeIntensityMask(False)
    return segmentation


def voxels(segmentation: Any, volume: Any, segment_id: str = "lung") -> np.ndarray:
    """A segment's voxels on the volume's grid, bool [K, J, I]."""
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
    return np.zeros(mask.shape, bool) if mask is None else mask.astype(bool)


def segmented(module: Any, seconds: float = 120.0) -> Any:
    """Press Segment and wait for the end; the panel's widgets."""
    ui = module.widget.ui
    standin.click(ui.segmentButton)
    running = module.widget.panel.running
    standin.wait_until(lambda: not running.under_way, seconds)
    return ui
