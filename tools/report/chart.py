"""Curves with their spread, and staleness histograms, as scenes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asyncpipe.pictures.axis import number, round_step, ticks
from asyncpipe.tools.report.scene import PAPER, QUIET, Area, Label, Line, Rect, Scene, Shape

__all__ = ["Chart", "Curve", "Histogram", "draw_chart", "draw_histogram"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#14181d", "#8a7a00")
"""After Okabe and Ito; beyond eight curves the lines are dashed too."""
_DASHES: tuple[tuple[float, ...], ...] = ((), (6, 3), (2, 3), (9, 3, 2, 3))
_GRID = "#e3e7eb"
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM, _LINE = 560.0, 300.0, 58.0, 14.0, 44.0, 40.0, 17.0
_LETTER = 6.2


@dataclass(frozen=True)
class Curve:
    """Points in ascending x: the mean of several runs, and from `low` to `high` their spread."""

    name: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    style: int = 0
    """Equal numbers look alike, in every chart."""


@dataclass(frozen=True)
class Chart:
    name: str
    """Of its file."""
    title: str
    x_label: str
    curves: tuple[Curve, ...]
    percent: bool = False


@dataclass(frozen=True)
class Histogram:
    """By stage the share of microbatches with each staleness."""

    name: str
    title: str
    shares: tuple[Mapping[int, float], ...]


@dataclass(frozen=True)
class _Frame:
    """From values to places."""

    end: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value / self.end if self.end else 0.0)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - self.low) / (self.high - self.low)


def draw_chart(chart: Chart) -> Scene:
    """Axes from 0 to the last x and over all values, the curves, and a legend below."""
    frame = _frame(chart)
    shapes: list[Shape] = [Label(_LEFT, 22, chart.title, size=13)]
    shapes += _axes(chart, frame)
    for curve in chart.curves:
        shapes += _curve(curve, frame)
    rows, height = _legend(chart.curves)
    return Scene(_WIDTH, height, chart.title, (*shapes, *rows))


def _frame(chart: Chart) -> _Frame:
    values = [value for curve in chart.curves for value in (*curve.low, *curve.high)] or [0.0]
    low, high = min(values), max(values)
    step = round_step((high - low) / 5 or abs(high) / 5 or 1.0)
    bottom, top = math.floor(low / step * (1 + 1e-9)) * step, math.ceil(high / step * (1 - 1e-9)) * step
    end = max((x for curve in chart.curves for x in curve.x), default=0.0)
    return _Frame(end, bottom, top if top > bottom else bottom + step)


def _axes(chart: Chart, frame: _Frame) -> Iterator[Shape]:
    step = round_step((frame.high - frame.low) / 6)
    for i in range(round((frame.high - frame.low) / step) + 1):
        value = frame.low + i * step
        y = frame.y(value)
        yield Line(((_LEFT, y), (_WIDTH - _RIGHT, y)), _GRID)
        yield Label(_LEFT - 6, y + 4, f"{100 * value:g} %" if chart.percent else number(value, 4), "end", 10, QUIET)
    for value in ticks(frame.end, frame.end / 6) if frame.end else (0.0,):
        x = frame.x(value)
        yield Line(((x, _HEIGHT - _BOTTOM), (x, _HEIGHT - _BOTTOM + 4)), QUIET)
        yield Label(x, _HEIGHT - _BOTTOM + 16, number(value, 4), "middle", 10, QUIET)
    yield Line(((_LEFT, _HEIGHT - _BOTTOM), (_WIDTH - _RIGHT, _HEIGHT - _BOTTOM)), QUIET)
    yield Label(_WIDTH - _RIGHT, _HEIGHT - _BOTTOM + 31, chart.x_label, "end", 10, QUIET)


def _curve(curve: Curve, frame: _Frame) -> Iterator[Shape]:
    colour = _COLOURS[curve.style % len(_COLOURS)]
    upper = tuple((frame.x(x), frame.y(y)) for x, y in zip(curve.x, curve.high, strict=True))
    lower = tuple((frame.x(x), frame.y(y)) for x, y in zip(curve.x, curve.low, strict=True))
    if len(upper) > 1 and upper != lower:
        yield Area((*upper, *reversed(lower)), colour, 0.18)
    points = tuple((frame.x(x), frame.y(y)) for x, y in zip(curve.x, curve.mean, strict=True))
    if len(points) > 1:
        yield Line(points, colour, 1.8, _dash(curve))
    else:
        yield from (Rect(x - 2.5, y - 2.5, 5, 5, colour) for x, y in points)


def _dash(curve: Curve) -> tuple[float, ...]:
    return _DASHES[curve.style // len(_COLOURS) % len(_DASHES)]


def _legend(curves: Sequence[Curve]) -> tuple[list[Shape], float]:
    """(the names below the chart, the height of the whole)."""
    shapes: list[Shape] = []
    x, y = _LEFT, _HEIGHT + 8
    for curve in curves:
        width = 34 + len(curve.name) * _LETTER
        if x > _LEFT and x + width > _WIDTH:
            x, y = _LEFT, y + _LINE
        colour = _COLOURS[curve.style % len(_COLOURS)]
        shapes += [Line(((x, y - 4), (x + 20, y - 4)), colour, 3, _dash(curve)), Label(x + 25, y, curve.name)]
        x += width
    return shapes, y + 10


def draw_histogram(histogram: Histogram) -> Scene:
    """A row for each stage, a column for each staleness; the darker, the more microbatches."""
    values = sorted({value for shares in histogram.shares for value in shares})
    columns = list(range(values[-1] + 1)) if values and values[-1] < 64 else values
    rows = len(histogram.shares)
    high = min(24.0, max(6.0, 400 / max(1, rows)))
    wide = min(64.0, (_WIDTH - _LEFT - _RIGHT) / max(1, len(columns)))
    shapes: list[Shape] = [Label(_LEFT, 22, histogram.title, size=13)]
    for stage, shares in enumerate(histogram.shares):
        y = _TOP + stage * high
        if high >= 11 or stage % 10 == 0:
            shapes.append(Label(_LEFT - 6, y + high / 2 + 4, f"stage {stage}", "end", 10, QUIET))
        for column, value in enumerate(columns):
            shapes += _cell(_LEFT + column * wide, y, wide - 2, high - min(2, high / 4), stage, value, shares)
    bottom = _TOP + rows * high
    every = max(1, math.ceil(24 / wide))
    for column in range(0, len(columns), every):
        shapes.append(Label(_LEFT + (column + 0.5) * wide - 1, bottom + 13, str(columns[column]), "middle", 10, QUIET))
    shapes.append(Label(_LEFT, bottom + 28, "staleness, updates", size=10, colour=QUIET))
    return Scene(_WIDTH, bottom + 40, histogram.title, tuple(shapes))


def _cell(
    x: float, y: float, width: float, height: float, stage: int, value: int, shares: Mapping[int, float]
) -> Iterator[Shape]:
    share = shares.get(value, 0.0)
    title = f"stage {stage}: staleness {value} in {share:.1%} of the microbatches"
    yield Rect(x, y, width, height, _shade(share), title)
    if share and width >= 34 and height >= 14:
        yield Label(
            x + width / 2, y + height / 2 + 4, f"{share:.1%}", "middle", 10, PAPER if share > 0.5 else "#14181d"
        )


def _shade(share: float) -> str:
    """From nearly white to the blue of forwards; what there is at all can be seen."""
    if not share:
        return "#f3f5f7"
    weight = 0.15 + 0.85 * share
    parts = (round(255 + (part - 255) * weight) for part in (0x00, 0x60, 0xA0))
    return "#" + "".join(f"{part:02x}" for part in parts)
