"""The panel with a small image on which a structure is drawn, and a worker that only copies it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import standin

SLICES = 24
DRAWN = 12


def small_scene(
    volume: str = "CT", segmentation: str = "Organs", structures: tuple[str, ...] = ("Liver",)
) -> tuple[Any, Any]:
    """A volume node and a segmentation node; each structure is drawn on slice `DRAWN`."""
    rows, columns = np.mgrid[:40, :48]
    inside = (rows - 20) ** 2 + (columns - 24) ** 2 < 100
    image = np.where(inside, 100, 0).astype(np.int16)[None].repeat(SLICES, axis=0)
    volume_node = slicer.util.addVolumeFromArray(image, name=volume)
    segmentation_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", segmentation)
    segmentation_node.CreateDefaultDisplayNodes()
    segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    for n, name in enumerate(structures):
        mask = np.zeros(image.shape, np.uint8)
        mask[DRAWN] = inside & (columns // 8 % len(structures) == n)
        segment_id = segmentation_node.GetSegmentation().AddEmptySegment(f"s{n}", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask, segmentation_node, segment_id, volume_node
        )
    return volume_node, segmentation_node


@pytest.fixture
def small(module: Any) -> Any:
    """The module, entered with the small scene."""
    small_scene()
    module.enter()
    return module


def scripted(seconds: float = 0.0) -> str:
    """The command line of a worker that takes some time for each slice."""
    program = Path(__file__).with_name("scripted_worker.py")
    return shlex.join([sys.executable, str(program), str(seconds)])


def use_worker(module: Any, command: str) -> None:
    """Type a worker's command into the panel."""
    ui = module.widget.ui
    if ui.workerButton.collapsed:
        standin.click(ui.workerButton)
    ui.workerCommandLineEdit.selectAll()
    standin.press_key(ui.workerCommandLineEdit, "Delete")
    standin.type_text(ui.workerCommandLineEdit, command)
