"""The paper's ablation: how many background points, refined or not, from which context.

Parts are switched off in a trained generator; nothing is trained again. The mask is drawn from
points alone, so that points matter, and the foreground points are always those of the whole
generator, so that only the background points differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from FoBSAMLib.evaluation.points import KnownSlice
from FoBSAMLib.evaluation.settings import Variant
from FoBSAMLib.generator.base import Generator, Remembered
from FoBSAMLib.generator.compatible import CompatibleFoB
from FoBSAMLib.generator.lite import FobLite
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.session.slices import ImageSlices

POINT_COUNTS = (0, 1, 2, 3, 4, 6, 8, 10)


def ablated_points(
    slices: ImageSlices, index: int, support: KnownSlice
) -> Iterator[tuple[Variant, Prompts]]:
    """Points of a slice for every variant, in pixels of the 256×256 grid, from a slice of another
    image."""
    memory = support.remembered()
    query = slices.features(index)
    foreground = slices.generator.propose(query, [memory], foreign=True).prompts.foreground
    for refinement, context in product((True, False), repeat=2):
        background = background_points(
            slices.generator, query, memory, refinement=refinement, context=context
        )
        for count in POINT_COUNTS:
            variant = Variant(count, refinement, context)
            yield variant, Prompts(thin(background, count), foreground)


def thin(points: np.ndarray, count: int) -> np.ndarray:
    """``count`` of the points [n, 2] of a ring, evenly along it; all where there are no more."""
    if count >= len(points):
        return points
    return points[np.arange(count) * len(points) // max(count, 1)]


def background_points(
    generator: Generator, query: Any, support: Remembered, *, refinement: bool, context: bool
) -> np.ndarray:
    """The generator's background points [n, 2] with parts of it switched off.

    Without ``context`` the query's own features stand for those from which the structure was
    taken out (features × (1 − likeness)).
    """
    model = generator.model  # type: ignore[attr-defined]
    with ExitStack() as stack:
        if isinstance(model, CompatibleFoB):
            if not context:
                stack.enter_context(_plain_features(model.masked_attention))
            mask = support.inside.astype(np.float32)
            return model.propose(support.features, mask, query, refine=refinement)[0].background
        assert isinstance(model, FobLite)
        if not context:
            stack.enter_context(_plain_features(model.background.matching))
        if not refinement:
            stack.enter_context(_as_given(model.background.refinement))
        return generator.propose(query, [support], foreign=True).prompts.background


@contextmanager
def _plain_features(matching: nn.Module) -> Iterator[None]:
    """Within it, a module that takes (features, likeness, …) is told that nothing is alike."""

    def forget(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        features, likeness, *rest = given
        return (features, torch.zeros_like(likeness), *rest)

    handle = matching.register_forward_pre_hook(forget)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _as_given(refinement: nn.Module) -> Iterator[None]:
    """Within it, a module that takes (features, points, …) returns the points as given."""

    def undo(module: nn.Module, given: tuple[Tensor, ...], refined: Tensor) -> Tensor:
        return given[1]

    handle = refinement.register_forward_hook(undo)
    try:
        yield
    finally:
        handle.remove()
