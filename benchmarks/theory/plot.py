"""The densities of the double well as one SVG: what was seen, the laws beside it, and their distance by staleness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stationary import CENTRES

__all__ = ["picture"]

WIDTH, HEIGHT, MARGIN, COLUMNS = 280.0, 170.0, 34.0, 3
REACH, TOP = 2.2, 0.75
"""theta is shown from -REACH to REACH, the density up to TOP."""
LAWS = {
    "A": ("#8b949e", "no staleness"),
    "B": ("#0969da", "staleness as independent noise"),
    "C": ("#bc4c00", "staleness as weaker pull"),
}
STYLE = """\
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #14181d }
.paper { fill: #ffffff } .seen { fill: #d4d9de } .axis { stroke: #8b949e } .law { fill: none; stroke-width: 1.6 }
.in { text-anchor: middle }
"""


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as `stationary.measure` gives them; the last panel is the distance, over those of constant staleness."""
    constant = [row for row in rows if row["case"].startswith("staleness")]
    panels = [_densities(row) for row in rows] + [_distances(constant)]
    lines = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * (WIDTH + MARGIN) + MARGIN, lines * (HEIGHT + 2 * MARGIN) + 2 * MARGIN
    body = [f'<rect class="paper" width="{width:g}" height="{height:g}"/>', *_legend()]
    for number, panel in enumerate(panels):
        x = MARGIN + number % COLUMNS * (WIDTH + MARGIN)
        y = 2 * MARGIN + number // COLUMNS * (HEIGHT + 2 * MARGIN)
        body += [f'<g transform="translate({x:g} {y:g})">', *panel, "</g>"]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *body, "</svg>", ""])


def _legend() -> Iterator[str]:
    yield f'<text x="{MARGIN:g}" y="20">grey area: seen on the real runtime</text>'
    for number, (name, (colour, text)) in enumerate(LAWS.items()):
        x = MARGIN + 260 + 225 * number
        yield f'<line x1="{x - 20:g}" x2="{x - 4:g}" y1="16" y2="16" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{x:g}" y="20">{name}: {text}</text>'


def _axes(title: str, marks: Sequence[tuple[float, str]]) -> Iterator[str]:
    yield f'<text x="{WIDTH / 2:g}" y="-8" class="in">{title}</text>'
    yield f'<line class="axis" x1="0" x2="{WIDTH:g}" y1="{HEIGHT:g}" y2="{HEIGHT:g}"/>'
    for x, text in marks:
        yield f'<line class="axis" x1="{x:g}" x2="{x:g}" y1="{HEIGHT:g}" y2="{HEIGHT + 4:g}"/>'
        yield f'<text x="{x:g}" y="{HEIGHT + 16:g}" class="in">{text}</text>'


def _densities(row: dict[str, Any]) -> list[str]:
    shown = [i for i, theta in enumerate(CENTRES) if abs(theta) <= REACH]

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{_x(CENTRES[i]):.1f},{HEIGHT * (1 - min(1.0, values[i] / TOP)):.1f}" for i in shown)

    area = f"{_x(CENTRES[shown[0]]):.1f},{HEIGHT:g} {points(row['density'])} {_x(CENTRES[shown[-1]]):.1f},{HEIGHT:g}"
    lines = [
        f'<polyline class="law" stroke="{LAWS[name][0]}" points="{points(law)}"/>' for name, law in row["laws"].items()
    ]
    marks = [(_x(theta), f"{theta:g}") for theta in (-2, -1, 0, 1, 2)]
    return [f'<polygon class="seen" points="{area}"/>', *lines, *_axes(row["case"], marks)]


def _x(theta: float) -> float:
    return (theta + REACH) / (2 * REACH) * WIDTH


def _distances(rows: Sequence[dict[str, Any]]) -> list[str]:
    most = max(row["staleness"] for row in rows) or 1.0
    lines = []
    for name, (colour, _) in LAWS.items():
        points = " ".join(
            f"{row['staleness'] / most * WIDTH:.1f},{HEIGHT * (1 - min(1.0, 2 * row['distance'][name])):.1f}"
            for row in rows
        )
        lines.append(f'<polyline class="law" stroke="{colour}" points="{points}"/>')
    marks = [(row["staleness"] / most * WIDTH, f"{row['staleness']:g}") for row in rows if row["staleness"] % 4 == 0]
    return [*lines, *_axes("total variation (top: 0.5) by staleness", marks)]
