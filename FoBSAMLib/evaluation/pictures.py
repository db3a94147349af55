"""Pictures of slices: the truth, what was found and the prompts."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from FoBSAMLib.prompts import Prompts

#: Told apart on grey and without colour vision; as in the window, green is "here", red "not here".
TRUTH, FOUND, FOREGROUND, BACKGROUND = "#56b4e9", "#ffdc00", "#2ecc40", "#ff4136"
PAPER = "#101214"


@dataclass(frozen=True)
class Picture:
    """One slice of one subject, with what a method made of it.

    ``image`` is [H, W], or [H, W, 3] in [0, 1] for a photograph; ``truth`` and ``found`` are bool
    [H, W]; ``prompts`` are in pixels; ``confidence`` is None for a method that gives none;
    ``spacing`` is the pixels' (row, column) size in mm.
    """

    subject: int
    organ: str
    method: str
    index: int
    dice: float
    confidence: float | None
    image: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    prompts: Prompts
    spacing: tuple[float, float] = (1.0, 1.0)

    @property
    def where(self) -> str:
        return f"{self.organ}, subject {self.subject}, slice {self.index}"

    @property
    def how_well(self) -> str:
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        return f"{self.method}: Dice {100 * self.dice:.0f}{sure}"


def worst(pictures: Iterable[Picture], count: int) -> list[Picture]:
    """The ``count`` pictures of the lowest Dice, the worst first.

    One of each organ of each subject as long as there are any, so that one missed organ does
    not fill them all. Of the same Dice, the larger error comes first.
    """
    ordered = sorted(pictures, key=lambda p: (p.dice, -int(np.count_nonzero(p.truth ^ p.found))))
    seen: set[tuple[int, str, str]] = set()
    first: list[Picture] = []
    further: list[Picture] = []
    for picture in ordered:
        case = (picture.subject, picture.organ, picture.method)
        (further if case in seen else first).append(picture)
        seen.add(case)
    chosen = (first + further)[:count]
    return sorted(chosen, key=lambda picture: picture.dice)


def draw(picture: Picture) -> bytes:
    """A PNG: the slice, contours of the truth and of what was found, prompts, a caption."""
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(3.4, 3.9), dpi=140, layout="constrained", facecolor=PAPER)
        panel = figure.subplots()
        _draw_slice(panel, picture)
        figure.suptitle(f"{picture.where}\n{picture.how_well}", color="white", fontsize=9)
        figure.legend(
            handles=_legend(picture),
            loc="outside lower center",
            ncols=4,
            fontsize=7.5,
            handlelength=1.2,
            frameon=False,
            labelcolor="white",
            handletextpad=0.4,
            columnspacing=1.0,
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_slice(panel: Axes, picture: Picture) -> None:
    row_mm, column_mm = picture.spacing
    image = picture.image
    grey = None if image.ndim == 3 else _grey_range(image)
    panel.imshow(image, "gray", grey, aspect=row_mm / column_mm)
    for mask, color in ((picture.truth, TRUTH), (picture.found, FOUND)):
        if mask.any():
            # One pixel wider, so that the contour closes where the structure meets the border.
            height, width = mask.shape
            rows, columns = np.arange(-1, height + 1), np.arange(-1, width + 1)
            panel.contour(columns, rows, np.pad(mask, 1), [0.5], colors=color, linewidths=1.2)
    for points, color, marker in (
        (picture.prompts.background, BACKGROUND, "x"),
        (picture.prompts.foreground, FOREGROUND, "+"),
    ):
        panel.plot(*points.T, marker, color=color, markersize=6, markeredgewidth=1.5)
    panel.set_axis_off()
    _look_at(panel, picture)


def _grey_range(image: np.ndarray) -> Normalize:
    low, high = np.percentile(image, (0.5, 99.5))
    return Normalize(float(low), float(high))


def _look_at(panel: Axes, picture: Picture) -> None:
    """Zoom to masks and prompts, in a square with half their size around; all of it for none."""
    rows, columns = np.nonzero(picture.truth | picture.found)
    points = np.concatenate([picture.prompts.background, picture.prompts.foreground])
    x, y = np.append(columns, points[:, 0]), np.append(rows, points[:, 1])
    height, width = picture.truth.shape
    if not x.size:
        panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        return
    half = max(24.0, 0.75 * max(np.ptp(x), np.ptp(y)))
    middle_x, middle_y = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    panel.set_xlim(max(middle_x - half, -0.5), min(middle_x + half, width - 0.5))
    panel.set_ylim(min(middle_y + half, height - 0.5), max(middle_y - half, -0.5))


def _legend(picture: Picture) -> list[Line2D]:
    lines = [Line2D([], [], color=TRUTH, label="truth"), Line2D([], [], color=FOUND, label="found")]
    for points, color, marker, label in (
        (picture.prompts.foreground, FOREGROUND, "+", "foreground"),
        (picture.prompts.background, BACKGROUND, "x", "background"),
    ):
        if len(points):
            lines.append(Line2D([], [], color=color, marker=marker, linestyle="", label=label))
    return lines
