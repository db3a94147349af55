"""Prompts as points, edited with the mouse in a view: Slicer's own widget makes the events."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
standin = pytest.importorskip("standin", reason="Testing/standin is not on the path")
standin.require()
standin.install()

import slicer  # noqa: E402

from FoBSAMLib.mrml.prompt_points import PromptPoints  # noqa: E402
from FoBSAMLib.prompts import Prompts  # noqa: E402

application = pytest.fixture(autouse=True)(standin.fresh)

SPACING = np.diag([0.7, 0.7, 2.0, 1.0])
SHAPE = (30, 200, 200)
FIRST, SECOND, FREE = (60.0, 80.0), (120.0, 90.0), (150.0, 150.0)
SLICE = 15


class View:
    """The red view on an axial slice, a mouse in it, and what was told of the prompts."""

    def __init__(self) -> None:
        scene = slicer.mrmlScene
        volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        slicer.util.updateVolumeFromArray(volume, np.zeros(SHAPE, np.int16))
        volume.SetSpacing(*SPACING.diagonal()[:3])
        volume.CreateDefaultDisplayNodes()
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        widget = slicer.app.layoutManager().sliceWidget("Red")
        widget.sliceLogic().SetSliceOffset(SLICE * 2.0)
        self.view = widget.sliceView()
        self.points = PromptPoints(scene, SPACING, SHAPE)
        self.told: list[Prompts] = []
        self.points.on_edited(self.told.append)
        background = np.array([[20, 20]], np.float32)
        self.points.show(Prompts(background, np.array([FIRST, SECOND], np.float32)), "k", SLICE)
        self.view.forceRender()

    def mouse(self, event: str, pixel: tuple[float, float]) -> None:
        x, y, _ = self.view.convertRASToXYZ((SPACING @ [*pixel, SLICE, 1])[:3])
        interactor = self.view.interactor()
        interactor.SetEventInformation(round(x), round(y), 0, 0, chr(0), 0, None)
        interactor.InvokeEvent(event)

    def click(self, pixel: tuple[float, float]) -> None:
        for event in ("MouseMoveEvent", "LeftButtonPressEvent", "LeftButtonReleaseEvent"):
            self.mouse(event, pixel)


@pytest.fixture
def view(application) -> View:
    return View()


def test_a_point_is_dragged(view):
    view.mouse("MouseMoveEvent", FIRST)
    view.mouse("LeftButtonPressEvent", FIRST)
    for part in (0.3, 0.6, 1.0):
        step = np.add(FIRST, part * np.subtract(FREE, FIRST))
        view.mouse("MouseMoveEvent", tuple(step))
    assert len(view.told) == 3, "the mask can follow"
    view.mouse("LeftButtonReleaseEvent", FREE)
    assert np.allclose(view.told[-1].foreground, [FREE, SECOND], atol=1)
    assert np.allclose(view.told[-1].background, [[20, 20]])


def test_a_point_is_clicked_only(view):
    view.click(FIRST)
    assert view.told == []


def test_points_are_placed(view):
    logic = slicer.app.applicationLogic()
    selection, interaction = logic.GetSelectionNode(), logic.GetInteractionNode()
    selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsFiducialNode")
    selection.SetActivePlaceNodeID(view.points.background.GetID())
    interaction.SetPlaceModePersistence(1)
    interaction.SetCurrentInteractionMode(interaction.Place)
    for pixel in ((140.0, 140.0), (145.0, 145.0)):
        view.mouse("MouseMoveEvent", pixel)
    assert view.told == []
    view.click(FREE)
    assert len(view.told) == 1
    assert np.allclose(view.told[0].background, [[20, 20], FREE], atol=1)
    view.mouse("MouseMoveEvent", (160.0, 160.0))
    interaction.SetCurrentInteractionMode(interaction.ViewTransform)
    assert len(view.told) == 1
    assert view.points.background.GetNumberOfControlPoints() == 2


def test_a_point_is_deleted_by_its_key(view):
    view.mouse("MouseMoveEvent", FREE)
    view.mouse("MouseMoveEvent", FIRST)
    view.view.interactor().SetKeySym("Delete")
    view.view.interactor().InvokeEvent("KeyPressEvent")
    assert len(view.told) == 1
    assert np.allclose(view.told[0].foreground, [SECOND])
