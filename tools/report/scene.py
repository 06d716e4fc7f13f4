"""A picture as a list of shapes, so that one drawing becomes SVG for the page and PNG for a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncpipe.errors import MachineError
from asyncpipe.pictures.axis import number

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = [
    "INK",
    "PAPER",
    "QUIET",
    "Area",
    "Label",
    "Line",
    "Rect",
    "Scene",
    "Shape",
    "require_pillow",
    "svg",
    "write_png",
]

PAPER, INK, QUIET = "#ffffff", "#14181d", "#57606a"
Points = tuple[tuple[float, float], ...]
_FINER = 2
"""A PNG has so many pixels for each unit; it is drawn as many times finer again, then scaled down."""


@dataclass(frozen=True)
class Rect:
    """`title` is its hover text, on the page."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str = ""


@dataclass(frozen=True)
class Line:
    points: Points
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()
    """Lengths drawn and left out in turn; nothing: all drawn."""


@dataclass(frozen=True)
class Area:
    """A filled polygon; `opacity` over what is below."""

    points: Points
    fill: str
    opacity: float


@dataclass(frozen=True)
class Label:
    """Text whose baseline begins (`start`), has its middle or its `end` at (x, y)."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: float = 11.0
    colour: str = INK


Shape = Rect | Line | Area | Label


@dataclass(frozen=True)
class Scene:
    """Shapes in the order in which they cover each other, on white paper."""

    width: float
    height: float
    title: str
    shapes: tuple[Shape, ...]


def svg(scene: Scene) -> str:
    """The scene as an SVG element that looks the same in every page: it has no style sheet."""
    size = f"{number(scene.width, 1)} {number(scene.height, 1)}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" font-family="system-ui, sans-serif">'
    )
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return "\n".join([head, f"<title>{escape(scene.title)}</title>", paper, *map(_element, scene.shapes), "</svg>"])


def _element(shape: Shape) -> str:
    match shape:
        case Rect():
            place = f'x="{number(shape.x, 2)}" y="{number(shape.y, 2)}"'
            size = f'width="{number(shape.width, 2)}" height="{number(shape.height, 2)}"'
            title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
            return f'<rect {place} {size} fill="{shape.fill}">{title}</rect>'
        case Line():
            dash = f' stroke-dasharray="{" ".join(map(number, shape.dash))}"' if shape.dash else ""
            look = f'fill="none" stroke="{shape.colour}" stroke-width="{number(shape.width)}"{dash}'
            return f'<polyline points="{_points(shape.points)}" {look}/>'
        case Area():
            return f'<polygon points="{_points(shape.points)}" fill="{shape.fill}" fill-opacity="{shape.opacity:g}"/>'
        case Label():
            place = f'x="{number(shape.x, 2)}" y="{number(shape.y, 2)}" text-anchor="{shape.anchor}"'
            return f'<text {place} font-size="{shape.size:g}" fill="{shape.colour}">{escape(shape.text)}</text>'


def _points(points: Points) -> str:
    return " ".join(f"{number(x, 2)},{number(y, 2)}" for x, y in points)


def require_pillow() -> None:
    """MachineError where pillow is missing or too old."""
    try:
        from PIL import ImageFont

        ImageFont.load_default(10)
    except (ImportError, TypeError, OSError) as error:
        message = f"--png needs pillow 10.1 or later with FreeType ({error})"
        raise MachineError(message, "pip install 'asyncpipe[report]', or leave --png out") from None


def write_png(scene: Scene, path: Path) -> None:
    """Draws the scene with pillow and its own font: the same bytes on every machine with the same pillow."""
    from PIL import Image, ImageDraw

    scale = _FINER * 2
    width, height = round(scene.width * _FINER), round(scene.height * _FINER)
    image = Image.new("RGB", (width * 2, height * 2), PAPER)
    draw = ImageDraw.Draw(image, "RGBA")
    for shape in scene.shapes:
        _draw(draw, shape, scale)
    image.resize((width, height), Image.Resampling.LANCZOS).save(path)


def _draw(draw: ImageDraw, shape: Shape, scale: int) -> None:
    match shape:
        case Rect():
            right, bottom = shape.x + shape.width, shape.y + shape.height
            draw.rectangle((shape.x * scale, shape.y * scale, right * scale, bottom * scale), shape.fill)
        case Line():
            width = max(1, round(shape.width * scale))
            for part in _dashes(shape.points, shape.dash):
                draw.line([(x * scale, y * scale) for x, y in part], shape.colour, width, "curve")
        case Area():
            colour = f"{shape.fill}{round(shape.opacity * 255):02x}"
            draw.polygon([(x * scale, y * scale) for x, y in shape.points], colour)
        case Label():
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
            place = (shape.x * scale, shape.y * scale)
            draw.text(place, shape.text, shape.colour, _font(shape.size * scale), anchor)


def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _dashes(points: Points, dash: tuple[float, ...]) -> Iterator[list[tuple[float, float]]]:
    """The line itself, or the pieces of it that are drawn: pillow knows no dashes."""
    if not dash:
        yield list(points)
        return
    lengths = _endless(dash)
    left, drawn = next(lengths), True
    piece = [points[0]]
    for (x0, y0), (x1, y1) in pairwise(points):
        whole = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        at = 0.0
        while whole - at > left:
            at += left
            corner = (x0 + (x1 - x0) * at / whole, y0 + (y1 - y0) * at / whole)
            if drawn:
                yield [*piece, corner]
            piece, drawn, left = [corner], not drawn, next(lengths)
        left -= whole - at
        piece.append((x1, y1))
    if drawn:
        yield piece


def _endless(lengths: Iterable[float]) -> Iterator[float]:
    while True:
        yield from lengths
