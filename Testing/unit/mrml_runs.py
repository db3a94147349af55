"""What the tests of runs share: a phantom in a scene of real MRML, and workers that run for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import phantom
import pytest
from mrml_small import STRAIGHT, Scene, voxels

from FoBSAMLib import mrml
from FoBSAMLib.mrml import console, waiting

#: About as many slices along each axis, so that a run along any of them takes seconds.
SHAPE = (12, 24, 26)
#: Slices (k, j, i) that cross both structures of `phantom.labels(SHAPE)`, or one of them.
MIDDLE = {"k": 6, "j": 8, "i": 9}
LABELS = {"ball": phantom.BALL, "egg": phantom.EGG}
SCRIPTED = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene without Slicer's application, whatever tests have installed before."""
    monkeypatch.setattr(console, "_engine", waiting.shared_engine)
    return Scene()


@pytest.fixture(scope="module", autouse=True)
def worker_ends() -> Iterator[None]:
    """One worker serves all tests of a module, and ends with it."""
    yield
    waiting.shared_engine().reset()


def truth(name: str, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Where a structure is, bool [K, J, I]."""
    return phantom.labels(shape) == LABELS[name]


def drawn(name: str, axis: str = "k", *indices: int) -> np.ndarray:
    """A structure on slices only, bool [K, J, I]."""
    result, whole = np.zeros(SHAPE, bool), truth(name)
    n = "kji".index(axis)
    for index in indices or (MIDDLE[axis],):
        np.moveaxis(result, n, 0)[index] = np.moveaxis(whole, n, 0)[index]
    return result


class Patient:
    """A volume of the phantom and a segmentation with structures drawn on slices."""

    def __init__(
        self,
        scene: Scene,
        masks: Mapping[str, np.ndarray] | None = None,
        ijk_to_ras: np.ndarray = STRAIGHT,
        seed: int = 0,
        name: str = "CT",
    ) -> None:
        self.scene, self.geometry = scene, ijk_to_ras
        self.volume = scene.volume(phantom.voxels(SHAPE, seed), ijk_to_ras, name)
        self.masks = masks if masks is not None else {"ball": drawn("ball")}
        self.node = scene.segmentation(self.masks, ijk_to_ras, self.volume)

    def segment(self, **options: Any) -> mrml.Segmented:
        return mrml.segment(self.volume, self.node, **options)

    def scripted(self, *arguments: object, **options: Any) -> mrml.Segmented:
        """The same through a worker without torch, which finds in every slice what is drawn."""
        return self.segment(workerCommand=[*SCRIPTED, *map(str, arguments)], **options)

    def voxels(self, name: str = "ball") -> np.ndarray:
        return voxels(self.node, name, SHAPE)


def dice(found: np.ndarray, expected: np.ndarray) -> float:
    return float(2 * (found & expected).sum() / (found.sum() + expected.sum()))


def previews(scene: Scene) -> list[Any]:
    """The previews in a scene."""
    nodes = scene.mrml.GetNodesByClass("vtkMRMLSegmentationNode")
    every = [nodes.GetItemAsObject(n) for n in range(nodes.GetNumberOfItems())]
    return [node for node in every if node.GetHideFromEditors()]


def names(scene: Scene) -> list[str]:
    """What all nodes of a scene are called: nothing may be left over."""
    every = [scene.mrml.GetNthNode(n) for n in range(scene.mrml.GetNumberOfNodes())]
    return sorted(f"{node.GetClassName()} {node.GetName()}" for node in every)
