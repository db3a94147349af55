"""Confidence and area along the slices; a click goes to a slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import qt
from slicer.i18n import tr as _

#: Pixels round the plot for its words, and its height.
MARGIN, TOP, BOTTOM, HEIGHT = 34, 18, 20, 150
#: Surely wrong ones are seen at once in these colours, in light and dark themes alike.
CONFIDENCE, UNCERTAIN, AREA, DRAWN = "#2f7fd6", "#d64545", "#8a8f98", "#3aa655"


@dataclass(frozen=True)
class Bar:
    """One slice of the plot: area in mm², confidence in [0, 1], None where it was drawn."""

    index: int
    area: float
    confidence: float | None


class ReviewPlot(qt.QWidget):
    """A plot of one structure's slices, drawn with the colours of Slicer's theme."""

    def __init__(self, on_click: Callable[[int], None], uncertain: float) -> None:
        """``on_click`` is told of a slice's index; ``uncertain`` is the confidence below which a
        slice should be looked at."""
        qt.QWidget.__init__(self)
        self._on_click = on_click
        self._uncertain = uncertain
        self._bars: list[Bar] = []
        self._largest = 1.0
        self._slices = range(1)
        self._current: int | None = None
        self.setMinimumHeight(HEIGHT)
        self.setCursor(qt.QCursor(qt.Qt.PointingHandCursor))
        self.setToolTip(
            _(
                "Confidence (line) and area (grey) of each slice. Green: painted by you. "
                "Red: look at it. Click to go to a slice."
            )
        )

    def show_bars(self, bars: Sequence[Bar], slices: range) -> None:
        """Show what is known of these slices."""
        self._bars = sorted(bars, key=lambda bar: bar.index)
        self._largest = max((bar.area for bar in bars), default=0.0) or 1.0
        self._slices = slices
        self.update()

    def show_current(self, index: int | None) -> None:
        """Mark the slice that a view shows."""
        if index != self._current:
            self._current = index
            self.update()

    def place_of(self, index: int) -> qt.QPoint:
        """Where in the widget a slice is."""
        return qt.QPoint(round(self._x(index)), self.height // 2)

    def mousePressEvent(self, event: qt.QMouseEvent) -> None:  # noqa: N802, Qt's name
        """Go to the slice that was clicked."""
        if self._bars:
            place = event.pos().x()
            nearest = min(self._bars, key=lambda bar: abs(self._x(bar.index) - place))
            self._on_click(nearest.index)

    def paintEvent(self, event: qt.QPaintEvent) -> None:  # noqa: N802, Qt's name
        """Draw it."""
        painter = qt.QPainter(self)
        painter.setRenderHint(qt.QPainter.Antialiasing)
        text = self.palette.color(qt.QPalette.WindowText)
        painter.fillRect(self.rect, self.palette.color(qt.QPalette.Base))
        if not self._bars:
            painter.setPen(_pen(text))
            painter.drawText(self.rect, int(qt.Qt.AlignCenter), _("No results yet"))
            painter.end()
            return
        self._paint_frame(painter, text)
        self._paint_areas(painter)
        self._paint_confidence(painter)
        self._paint_current(painter, text)
        painter.end()

    def _paint_frame(self, painter: qt.QPainter, text: qt.QColor) -> None:
        faint = qt.QColor(text)
        faint.setAlpha(60)
        for value in (0.0, 0.5, 1.0):
            y = self._y(value)
            painter.setPen(_pen(faint))
            painter.drawLine(qt.QPointF(MARGIN, y), qt.QPointF(self.width - 8, y))
            painter.setPen(_pen(text))
            box = qt.QRect(0, round(y) - 8, MARGIN - 5, 16)
            painter.drawText(box, int(qt.Qt.AlignRight | qt.Qt.AlignVCenter), f"{value:.1f}")
        low, high = self._slices[0], self._slices[-1]
        y = self.height - BOTTOM + 3
        width = self.width - 8 - MARGIN
        below = qt.QRect(MARGIN, y, width, BOTTOM - 3)
        painter.drawText(below, int(qt.Qt.AlignLeft), str(low))
        painter.drawText(below, int(qt.Qt.AlignHCenter), _("slice"))
        painter.drawText(below, int(qt.Qt.AlignRight), str(high))
        top = _("confidence, and area up to {area:.0f} mm²").format(area=self._largest)
        painter.drawText(qt.QRect(MARGIN, 1, width, TOP - 2), int(qt.Qt.AlignLeft), top)

    def _paint_areas(self, painter: qt.QPainter) -> None:
        painter.setPen(_pen(qt.QColor(AREA), style=qt.Qt.NoPen))
        width = max(1.5, self._step() * 0.8)
        for name, alpha, drawn in ((AREA, 110, False), (DRAWN, 200, True)):
            color = qt.QColor(name)
            color.setAlpha(alpha)
            painter.setBrush(qt.QBrush(color))
            # In one call: hundreds of them, one by one, take a while each time it is painted.
            path = qt.QPainterPath()
            for bar in self._bars:
                if (bar.confidence is None) == drawn:
                    top = self._y(bar.area / self._largest)
                    left = self._x(bar.index) - width / 2
                    path.addRect(left, top, width, self._y(0) - top)
            painter.drawPath(path)

    def _paint_confidence(self, painter: qt.QPainter) -> None:
        known = [(self._x(b.index), b.confidence) for b in self._bars if b.confidence is not None]
        painter.setPen(_pen(qt.QColor(CONFIDENCE), 1.5))
        for (x0, before), (x1, after) in pairwise(known):
            if x1 - x0 < 1.5 * self._step():  # none across a slice that was drawn
                painter.drawLine(qt.QPointF(x0, self._y(before)), qt.QPointF(x1, self._y(after)))
        painter.setPen(_pen(qt.QColor(AREA), style=qt.Qt.NoPen))
        for x, confidence in known:
            doubtful = confidence < self._uncertain
            painter.setBrush(qt.QBrush(qt.QColor(UNCERTAIN if doubtful else CONFIDENCE)))
            radius = 3.0 if doubtful else 2.0
            painter.drawEllipse(qt.QPointF(x, self._y(confidence)), radius, radius)

    def _paint_current(self, painter: qt.QPainter, text: qt.QColor) -> None:
        shown = self._current
        if shown is None or shown not in self._slices:
            return
        painter.setPen(_pen(text, style=qt.Qt.DashLine))
        x = self._x(shown)
        painter.drawLine(qt.QPointF(x, TOP), qt.QPointF(x, self.height - BOTTOM))

    def _step(self) -> float:
        """Pixels from one slice to the next."""
        return (self.width - 8 - MARGIN) / len(self._slices)

    def _x(self, index: int) -> float:
        return MARGIN + (index - self._slices[0] + 0.5) * self._step()

    def _y(self, value: float) -> float:
        return self.height - BOTTOM - value * (self.height - BOTTOM - TOP)


def _pen(color: qt.QColor, width: float = 1.0, style: int = qt.Qt.SolidLine) -> qt.QPen:
    pen = qt.QPen(color)
    pen.setWidthF(width)
    pen.setStyle(style)
    return pen
