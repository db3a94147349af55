"""One picture of a one-shot result: what was drawn, what was found, how sure it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from FoBSAMLib.image.io import atomic_path
from FoBSAMLib.image.segmentation import Structure
from FoBSAMLib.image.volume import Axis, Volume
from FoBSAMLib.image.windows import CT_WINDOW, detect_modality
from FoBSAMLib.session.results import SliceResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from FoBSAMLib.session.oneshot import OneShot

#: Query slices shown of each structure; the curves below them cover every slice.
QUERIES_SHOWN = 5
#: Shown instead of the soft-tissue window where the structure is darker than that, in HU.
LUNG_WINDOW = (-1200.0, 200.0)
FOREGROUND, BACKGROUND, CONTOUR = "#2ecc40", "#ff4136", "#ffdc00"


def save_figure(oneshot: OneShot, path: str | os.PathLike[str]) -> None:
    """Write the picture of a result as PNG, PDF or SVG, by the name's ending.

    Raises FoBSAMError (``unwritable``) when the file cannot be written; none is left then.
    """
    figure = draw(oneshot)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def draw(oneshot: OneShot) -> Figure:
    """Two rows a structure: the support slice and query slices; below, curves over all slices."""
    structures = oneshot.support.structures
    size = 2.6 * (QUERIES_SHOWN + 1), 4.9 * len(structures)
    figure = Figure(figsize=size, layout="constrained")
    parts = figure.subfigures(len(structures), 1, squeeze=False)
    for structure, part in zip(structures, parts[:, 0], strict=True):
        results = [r for r in oneshot.results if r.structure.name == structure.name]
        results.sort(key=lambda result: result.index)
        slices, curves = part.subfigures(2, 1, height_ratios=(1.45, 1))
        part.suptitle(f"{structure.name} in {oneshot.volume.name}")
        _draw_slices(slices, oneshot, structure, results)
        _draw_curves(curves.subplots(), oneshot, structure, results)
    return figure


def choose_queries(results: Sequence[SliceResult], count: int = QUERIES_SHOWN) -> list[SliceResult]:
    """Results to show: spread evenly over the slices that hold the structure, if any does."""
    candidates = [r for r in results if r.mask.any()] or list(results)
    steps = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
    return [candidates[n] for n in np.rint(steps).astype(int)]


def _draw_slices(
    part: SubFigure, oneshot: OneShot, structure: Structure, results: Sequence[SliceResult]
) -> None:
    support = oneshot.support
    panels = part.subplots(1, QUERIES_SHOWN + 1)
    for panel in panels:
        panel.set_axis_off()
    drawn = support.indices(structure)
    index = drawn[len(drawn) // 2]
    mask = support.mask(structure, index)
    _draw_slice(panels[0], support.volume, support.axis, index, mask)
    panels[0].set_title(f"support, slice {index}", fontsize=9)
    _look_at(panels[0], [mask], np.zeros((0, 2)))

    shown = choose_queries(results)
    prompts = [p for r in shown for p in (r.prompts.background, r.prompts.foreground)]
    for panel, result in zip(panels[1:], shown, strict=False):
        _draw_slice(panel, oneshot.volume, result.axis, result.index, result.mask)
        panel.plot(*result.prompts.background.T, "o", color=BACKGROUND, markersize=3)
        panel.plot(*result.prompts.foreground.T, "o", color=FOREGROUND, markersize=3)
        panel.set_title(f"slice {result.index}, confidence {result.confidence:.2f}", fontsize=9)
        _look_at(panel, [r.mask for r in shown], np.concatenate(prompts))


def _draw_slice(panel: Axes, volume: Volume, axis: Axis, index: int, mask: np.ndarray) -> None:
    image = volume.take(axis, index)
    row_mm, column_mm = volume.slice_spacing(axis)
    panel.imshow(image, "gray", _grey_range(image, volume, mask), aspect=row_mm / column_mm)
    if mask.any():
        # One pixel wider, so that the contour closes where the structure meets the border.
        height, width = mask.shape
        rows, columns = np.arange(-1, height + 1), np.arange(-1, width + 1)
        panel.contour(columns, rows, np.pad(mask, 1), [0.5], colors=CONTOUR, linewidths=1.2)
        panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    _turn_to_patient(panel, volume, axis)


def _grey_range(image: np.ndarray, volume: Volume, mask: np.ndarray) -> Normalize | None:
    modality = volume.modality
    if modality == "auto":
        modality = detect_modality(Volume(image[np.newaxis], volume.ijk_to_ras))
    if modality == "rgb":
        return None
    if modality != "ct":
        low, high = np.percentile(image, (0.5, 99.5))
    elif mask.any() and np.median(image[mask]) < CT_WINDOW[0]:
        low, high = LUNG_WINDOW
    else:
        low, high = CT_WINDOW
    return Normalize(float(low), float(high))


def _turn_to_patient(panel: Axes, volume: Volume, axis: Axis) -> None:
    """Show a slice as radiology does: the patient's left to the right, anterior and head up."""
    column, row = {"k": (0, 1), "j": (0, 2), "i": (1, 2)}[axis]
    for direction, invert in ((column, panel.invert_xaxis), (row, panel.invert_yaxis)):
        along = volume.ijk_to_ras[:3, direction]
        if along[np.argmax(np.abs(along))] > 0:
            invert()


def _look_at(panel: Axes, masks: Sequence[np.ndarray], prompts: np.ndarray) -> None:
    """Zoom to masks and prompts with a quarter of their size around; all of it for none."""
    rows, columns = np.nonzero(np.any(masks, axis=0))
    x, y = np.append(columns, prompts[:, 0]), np.append(rows, prompts[:, 1])
    if not x.size:
        return
    height, width = masks[0].shape
    margin = max(10.0, 0.25 * max(np.ptp(x), np.ptp(y)))
    left, right = max(x.min() - margin, -0.5), min(x.max() + margin, width - 0.5)
    top, bottom = max(y.min() - margin, -0.5), min(y.max() + margin, height - 0.5)
    panel.set_xlim((right, left) if panel.xaxis_inverted() else (left, right))
    panel.set_ylim((bottom, top) if panel.yaxis_inverted() else (top, bottom))


def _draw_curves(
    panel: Axes, oneshot: OneShot, structure: Structure, results: Sequence[SliceResult]
) -> None:
    index = [r.index for r in results]
    panel.plot(index, [r.presence for r in results], ".-", color="tab:blue", label="presence")
    panel.plot(index, [r.confidence for r in results], ".-", color="tab:orange", label="confidence")
    panel.set(ylim=(-0.03, 1.03), ylabel="presence, confidence")
    panel.set_xlabel(f"slice along {oneshot.support.axis}")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))

    volume, support = oneshot.volume, oneshot.support
    pixel_mm2 = float(np.prod(volume.slice_spacing(support.axis)))
    areas = {r.index: int(r.mask.sum()) for r in results}
    if volume is support.volume:
        drawn = support.indices(structure)
        areas |= {n: int(support.mask(structure, n).sum()) for n in drawn}
        for position, n in enumerate(drawn):
            label = "support" if position == 0 else None
            panel.axvline(n, color=CONTOUR, linestyle="--", label=label)
    right = panel.twinx()
    ordered = sorted(areas)
    right.fill_between(
        ordered, [areas[n] * pixel_mm2 for n in ordered], color="0.6", alpha=0.35, label="area"
    )
    photograph = volume.slice_count(support.axis) == 1 and volume.spacing == (1.0, 1.0, 1.0)
    right.set(ylim=(0, None), ylabel=f"area ({'pixels' if photograph else 'mm²'})")
    dots = [
        Line2D([], [], color=color, marker="o", linestyle="", label=f"{kind} prompt")
        for color, kind in ((FOREGROUND, "foreground"), (BACKGROUND, "background"))
    ]
    curves = [*panel.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
    panel.legend(
        handles=[*curves, *dots], loc="center left", bbox_to_anchor=(1.07, 0.5), frameon=False
    )
