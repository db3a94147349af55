"""The slice views as a review needs them: which slice is shown, and going to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk

from FoBSAMLib.image.volume import Axis
from FoBSAMLib.mrml.navigation import (
    jump_to_slice,
    parallel_views,
    shown_slice,
    slice_nodes,
)


class SliceViews:
    """Follows the slice view that shows a grid's slices best."""

    def __init__(self, on_moved: Callable[[int | None], None]) -> None:
        """``on_moved`` is told of the slice that is shown when it is another one."""
        self._on_moved = on_moved
        self._observed: list[tuple[Any, int]] = []
        self._grid: tuple[np.ndarray, tuple[int, int, int], Axis] | None = None
        #: The index of the slice that is shown, None where no view shows these slices.
        self.current: int | None = None

    def follow(self, ijk_to_world: np.ndarray, shape: tuple[int, int, int], axis: Axis) -> None:
        """Follow the slices of a grid of ``shape`` (K, J, I) along an axis."""
        self._grid = (ijk_to_world, shape, axis)
        if not self._observed:
            for node in slice_nodes(slicer.mrmlScene):
                tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._moved)
                self._observed.append((node, tag))
        self.current = self._shown()

    def unfollow(self) -> None:
        """Follow none any more."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        self._grid = None
        self.current = None

    def go_to(self, index: int, mask: np.ndarray | None) -> None:
        """Show a slice, and in the other views the middle of a mask, bool [H, W]."""
        if self._grid is not None:
            jump_to_slice(slice_nodes(slicer.mrmlScene), *self._grid, index, mask)
            self._moved()

    def _shown(self) -> int | None:
        if self._grid is None:
            return None
        ijk_to_world, shape, axis = self._grid
        views = parallel_views([node for node, _tag in self._observed], ijk_to_world, axis)
        if not views:
            return None
        index = shown_slice(views[0], ijk_to_world, axis)
        return index if 0 <= index < shape["kji".index(axis)] else None

    def _moved(self, *_: Any) -> None:
        shown = self._shown()
        if shown != self.current:
            self.current = shown
            self._on_moved(shown)
