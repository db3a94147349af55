"""A user's corrections: the prompts of one slice edited, its mask again.

A segmenter that lives on prompts makes the mask from all of them. One that draws on a prior takes
the points that the user added or moved for corrections: round each, the pixels of the class that
it contradicts become unsure and the segmenter decides them anew, between the point and what stays.
The start is always the automatic mask, so that neither order nor repetition matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from FoBSAMLib.generator.base import Remembered
from FoBSAMLib.prompts import Prompts
from FoBSAMLib.segmenters.base import inside
from FoBSAMLib.session.chain import segment_slice
from FoBSAMLib.session.cleanup import clean
from FoBSAMLib.session.results import SliceResult
from FoBSAMLib.session.slices import ImageSlices

# The four numbers were chosen with Testing/benchmarks/corrections.py on development subjects (MR,
# CT: mean Dice of poor slices 0.57, 0.47; with three points 0.84, 0.85; 3 % and 6 % of the points
# made it worse). A reach of 1.5 gives 0.84, 0.84 and 2 %, 5 %;
# one of 3 gives 0.83, 0.83 and 8 %, 11 %.
#: How far a point acts, in units of its distance to the nearest pixel of its own class: people
#: click in the middle of a mistake, so that this tells the mistake's size.
REACH = 2.0
#: The disc round a point that is sure, in the same units.
SURE = 0.4
#: A background point deeper than this share of the depth of the part it lies in, in the middle
#: that is, says that the whole part is wrong: without it wrong masks take several points.
MIDDLE = 0.95
#: A point in a slice without the structure is this deep, in radii of its nearest mask.
EMPTY = 0.7
#: Points closer than this, in pixels, are the same point.
SAME = 1e-3


@dataclass(frozen=True)
class Guide:
    """What is known of a structure elsewhere, for slices in which nothing of it was found.

    ``radius`` in mm of a disc as large as its nearest mask. ``index`` and ``mask``, bool [H, W]:
    the nearest slice of the same image that holds it, None where there is none.
    """

    radius: float
    index: int | None = None
    mask: np.ndarray | None = None


def correct(
    slices: ImageSlices, index: int, original: SliceResult, prompts: Prompts, guide: Guide
) -> np.ndarray:
    """The mask of a slice from its edited prompts, bool [H, W].

    Args:
        original: what was found automatically.
        prompts: all prompts of the slice, in its pixels, as checked by `prompts.check_prompts`.
        guide: of use where ``original`` is empty.
    """
    added = _without(prompts, original.prompts)
    removed = _without(original.prompts, prompts)
    if not (_count(added) or _count(removed)):
        return original.mask
    if slices.segmenter.draws_on_prior:
        return _redraw_near(slices, index, original.mask, added, guide)
    probability = slices.segmenter.segment(slices.embedding(index), prompts)
    drawn = probability >= 0.5
    # A small part or hole goes, unless the user points at it.
    return _change_at(clean(drawn), drawn, prompts)


def _redraw_near(
    slices: ImageSlices,
    index: int,
    mask: np.ndarray,
    added: Prompts,
    guide: Guide,
) -> np.ndarray:
    if not mask.any():
        mask = _as_if_present(slices, index, added, guide)
    spacing = slices.volume.slice_spacing(slices.axis)
    prior = mask.astype(np.float32)
    discs: list[tuple[np.ndarray, float]] = []
    for value, points in ((0.0, added.background), (1.0, added.foreground)):
        contradicted = mask != value
        pixels = np.rint(inside(points, mask.shape)).astype(int)
        depths = _depths(contradicted, pixels, spacing, guide.radius)
        for (column, row), depth in zip(pixels, depths, strict=True):
            apart = _distance(mask.shape, (row, column), spacing)
            unsure = contradicted & (apart <= REACH * depth)
            if not value:
                unsure |= _part_round(mask, (row, column), depth, spacing)
            prior[unsure] = 0.5
            discs.append((apart <= SURE * depth, value))
    for disc, value in discs:
        prior[disc] = value
    if not (prior == 1).any():
        prior[:] = 0.0  # no pixel of the mask is sure: nothing of it stays
    drawn = slices.segmenter.segment(slices.embedding(index), added, prior) >= 0.5
    return _change_at(mask, drawn, added)


def _part_round(
    mask: np.ndarray, pixel: tuple[int, int], depth: float, spacing: tuple[float, float]
) -> np.ndarray:
    """The part of a mask in whose middle a pixel (row, column) lies, bool [H, W]; else nothing."""
    parts, _ = ndimage.label(mask)
    part = mask & (parts == parts[pixel])
    if not part.any():
        return part
    deepest = ndimage.distance_transform_edt(part, sampling=spacing).max()
    return part if depth >= MIDDLE * deepest else np.zeros_like(part)


def _as_if_present(slices: ImageSlices, index: int, added: Prompts, guide: Guide) -> np.ndarray:
    """What would have been found in a slice judged empty, if the user points at it: bool [H, W]."""
    empty = np.zeros(slices.image(index).shape, bool)
    if guide.index is None or guide.mask is None or not len(inside(added.foreground, empty.shape)):
        return empty
    item = Remembered(slices.features(guide.index), slices.grid.mask_to_network(guide.mask))
    proposal = slices.generator.propose(slices.features(index), [item])
    _, probability = segment_slice(slices, index, proposal)
    return _change_at(empty, clean(probability >= 0.5), Prompts(foreground=added.foreground))


def _depths(
    contradicted: np.ndarray,
    pixels: np.ndarray,
    spacing: tuple[float, float],
    radius: float,
) -> np.ndarray:
    """How deep pixels (column, row) [n, 2] lie in what they contradict, in mm: their distance to
    the nearest pixel that is not; where there is none, ``EMPTY`` of ``radius``."""
    if not len(pixels) or contradicted.all():
        return np.full(len(pixels), EMPTY * radius)
    depth = ndimage.distance_transform_edt(contradicted, sampling=spacing)
    return np.asarray(depth[pixels[:, 1], pixels[:, 0]])


def _distance(
    shape: tuple[int, ...], pixel: tuple[int, int], spacing: tuple[float, float]
) -> np.ndarray:
    """Distance in mm from a pixel (row, column), [H, W]."""
    rows, columns = (
        (np.arange(n) - at) * step for n, at, step in zip(shape, pixel, spacing, strict=True)
    )
    return np.hypot(rows[:, np.newaxis], columns)


def _change_at(before: np.ndarray, after: np.ndarray, prompts: Prompts) -> np.ndarray:
    """A mask with those of the changes to another, bool [H, W], that prompts lie in."""
    changes, _ = ndimage.label(before != after)
    points = np.concatenate([prompts.background, prompts.foreground])
    columns, rows = np.rint(inside(points, before.shape)).astype(int).T
    touched = np.zeros(changes.max() + 1, bool)
    touched[changes[rows, columns]] = True
    touched[0] = False
    return np.where(touched[changes], after, before)


def _without(prompts: Prompts, others: Prompts) -> Prompts:
    return Prompts(
        _points_without(prompts.background, others.background),
        _points_without(prompts.foreground, others.foreground),
    )


def _points_without(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    apart = np.abs(points[:, np.newaxis] - others[np.newaxis]).max(axis=2)
    return points[(apart > SAME).all(axis=1)]


def _count(prompts: Prompts) -> int:
    return len(prompts.background) + len(prompts.foreground)
