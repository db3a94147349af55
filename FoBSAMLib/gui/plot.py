"""Confidence and area along the slices; a click goes to a slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import qt
from slicer.i18n import tr as _

#: Pixels round the plot for its words, and its height.
MARGIN, TOP, BOTTOM, HEIGHT = 34, 18, 20, 150
#: Slices nearer to each other, in pixels, are not drawn one by one.
CLOSE = 6
#: Surely wrong ones are seen at once in these colours, in light and dark themes alike.
CONFIDENCE, UNCERTAIN, AREA, DRAWN = "#2f7fd6", "#d64545", "#8a8f98", "#3aa655"


@dataclass(frozen=True)
class Bar:
    """One slice of the plot: area in mm², confidence in [0, 1], None where it was drawn."""

    index: int
    area: float
    confidence: float | None


@dataclass(frozen=True)
class _Scale:
    """Where things are in a widget of a size in pixels that shows some slices."""

    width: int
    height: int
    slices: range

    @property
    def step(self) -> float:
        """Pixels from one slice to the next."""
        return (self.width - 8 - MARGIN) / len(self.slices)

    def x(self, index: int) -> float:
        """Of the middle of a slice."""
        return MARGIN + (index - self.slices[0] + 0.5) * self.step

    def y(self, value: float) -> float:
        """Of a value from 0 to 1."""
        return self.height - BOTTOM - value * (self.height - BOTTOM - TOP)


@dataclass(frozen=True)
class _Paths:
    """What is drawn of the slices, kept: there are hundreds, and each takes its time."""

    areas: qt.QPainterPath
    drawn: qt.QPainterPath
    line: qt.QPainterPath
    sure: qt.QPainterPath
    doubtful: qt.QPainterPath


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
        self._made: tuple[_Scale, _Paths] | None = None
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
        self._made = None
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
        return qt.QPoint(round(self._scale().x(index)), self.height // 2)

    def mousePressEvent(self, event: qt.QMouseEvent) -> None:  # noqa: N802, Qt's name
        """Go to the slice that was clicked."""
        if self._bars:
            place, scale = event.pos().x(), self._scale()
            nearest = min(self._bars, key=lambda bar: abs(scale.x(bar.index) - place))
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
        scale = self._scale()
        self._paint_frame(painter, scale, text)
        if self._made is None or self._made[0] != scale:
            self._made = (scale, self._paths(scale))
        self._paint_paths(painter, self._made[1])
        self._paint_current(painter, scale, text)
        painter.end()

    def _scale(self) -> _Scale:
        return _Scale(self.width, self.height, self._slices)

    def _paint_frame(self, painter: qt.QPainter, scale: _Scale, text: qt.QColor) -> None:
        faint = qt.QColor(text)
        faint.setAlpha(60)
        for value in (0.0, 0.5, 1.0):
            y = scale.y(value)
            painter.setPen(_pen(faint))
            painter.drawLine(qt.QPointF(MARGIN, y), qt.QPointF(scale.width - 8, y))
            painter.setPen(_pen(text))
            box = qt.QRect(0, round(y) - 8, MARGIN - 5, 16)
            painter.drawText(box, int(qt.Qt.AlignRight | qt.Qt.AlignVCenter), f"{value:.1f}")
        low, high = self._slices[0], self._slices[-1]
        y = scale.height - BOTTOM + 3
        width = scale.width - 8 - MARGIN
        below = qt.QRect(MARGIN, y, width, BOTTOM - 3)
        painter.drawText(below, int(qt.Qt.AlignLeft), str(low))
        painter.drawText(below, int(qt.Qt.AlignHCenter), _("slice"))
        painter.drawText(below, int(qt.Qt.AlignRight), str(high))
        top = _("confidence, and area up to {area:.0f} mm²").format(area=self._largest)
        painter.drawText(qt.QRect(MARGIN, 1, width, TOP - 2), int(qt.Qt.AlignLeft), top)

    def _paths(self, scale: _Scale) -> _Paths:
        """The bars, the line and its dots at this scale.

        Where slices are close together bars become one area and dots one line: hundreds of pieces
        in a path take Qt long.
        """
        paths = _Paths(*(qt.QPainterPath() for _ in range(5)))
        apart, bottom = scale.step >= CLOSE, scale.y(0)
        width = scale.step * (0.8 if apart else 1.0)
        before = Bar(-2, 0.0, None)
        for bar in self._bars:
            x, top = scale.x(bar.index), scale.y(bar.area / self._largest)
            follows = bar.index == before.index + 1 and before.confidence is not None
            if bar.confidence is None:
                wide = max(2.0, width)  # there are few
                paths.drawn.addRect(x - wide / 2, top, wide, bottom - top)
            elif apart and bar.area:
                paths.areas.addRect(x - width / 2, top, width, bottom - top)
            elif not apart:
                if not follows:
                    if paths.areas.elementCount():
                        paths.areas.lineTo(scale.x(before.index), bottom)
                    paths.areas.moveTo(x, bottom)
                paths.areas.lineTo(x, top)
            if bar.confidence is not None:
                self._add_confidence(paths, scale, bar, follows=follows)
            before = bar
        if paths.areas.elementCount():
            paths.areas.lineTo(scale.x(before.index), bottom)
        return paths

    def _add_confidence(self, paths: _Paths, scale: _Scale, bar: Bar, *, follows: bool) -> None:
        """A slice's point of the line; ``follows`` the slice before, of which it is known, too."""
        assert bar.confidence is not None
        x, y, apart = scale.x(bar.index), scale.y(bar.confidence), scale.step >= CLOSE
        if follows:
            paths.line.lineTo(x, y)
        else:
            paths.line.moveTo(x, y)
        if bar.confidence < self._uncertain:
            if apart:
                paths.doubtful.addEllipse(x - 3, y - 3, 6, 6)
            else:
                paths.doubtful.addRect(x - scale.step / 2, y - 2, scale.step, 4)
        elif apart:
            paths.sure.addEllipse(x - 2, y - 2, 4, 4)

    def _paint_paths(self, painter: qt.QPainter, paths: _Paths) -> None:
        for path, name, alpha in (
            (paths.areas, AREA, 110),
            (paths.drawn, DRAWN, 200),
            (paths.sure, CONFIDENCE, 255),
            (paths.doubtful, UNCERTAIN, 255),
        ):
            color = qt.QColor(name)
            color.setAlpha(alpha)
            painter.fillPath(path, qt.QBrush(color))
            if path is paths.drawn:
                painter.strokePath(paths.line, _pen(qt.QColor(CONFIDENCE), 1.5))

    def _paint_current(self, painter: qt.QPainter, scale: _Scale, text: qt.QColor) -> None:
        shown = self._current
        if shown is None or shown not in self._slices:
            return
        painter.setPen(_pen(text, style=qt.Qt.DashLine))
        x = scale.x(shown)
        painter.drawLine(qt.QPointF(x, TOP), qt.QPointF(x, scale.height - BOTTOM))


def _pen(color: qt.QColor, width: float = 1.0, style: int = qt.Qt.SolidLine) -> qt.QPen:
    pen = qt.QPen(color)
    pen.setWidthF(width)
    pen.setStyle(style)
    return pen
