"""A curve of any length in bounded memory, and its picture in a few lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Curve", "chart"]

_MOST_BINS = 1024
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille character (Unicode block U+2800) by row and column of its dots."""
_BRAILLE = 0x2800


@dataclass
class Curve:
    """Means of equally many values each; when there are many of them, neighbours become one."""

    size: int = 1
    _means: list[float] = field(default_factory=list)
    _open: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Values that are not finite have no place on a chart."""
        if not math.isfinite(value):
            return
        self._open.append(value)
        if len(self._open) == self.size:
            self._means.append(math.fsum(self._open) / self.size)
            self._open.clear()
        if len(self._means) == _MOST_BINS:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means, self.size = [(a + b) / 2 for a, b in pairs], self.size * 2

    def points(self, most: int) -> list[float]:
        """At most so many means, of equal parts of the curve."""
        means = self._means or self._open
        count = min(most, len(means))
        bounds = [len(means) * part // count for part in range(count + 1)] if count else []
        return [math.fsum(means[low:high]) / (high - low) for low, high in pairwise(bounds)]


def chart(points: Sequence[float], width: int, height: int, braille: bool = True) -> Iterator[str]:
    """Lines of at most `width` columns, a line of dots from the first point to the last; stars instead of braille."""
    low, high = min(points), max(points)
    lowest = 4 * height - 1
    rows = [lowest - round((point - low) / ((high - low) or 1) * lowest) for point in points]
    cells = [[0] * min(width, (len(points) + 1) // 2) for _ in range(height)]
    before = rows[0]
    for column, row in enumerate(rows):
        # From beside the dot before to this one, so that a steep curve has no gaps.
        step = 1 if row >= before else -1
        for dot in range(before + step if abs(row - before) > 1 else row, row + step, step):
            cells[dot // 4][column // 2] |= _DOTS[dot % 4][column % 2]
        before = row
    for line in cells:
        yield "".join((chr(_BRAILLE + cell) if braille else "*") if cell else " " for cell in line).rstrip()
