"""A look after another on a terminal, each in the place of the one before."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from asyncpipe.tools.watch.frame import frame
from asyncpipe.tools.watch.watched import Look

__all__ = ["LiveFrames"]


class LiveFrames:
    """A context manager; the last frame stays. `width`: None for that of the terminal."""

    def __init__(self, width: int | None, braille: bool) -> None:
        self._console = Console(width=width, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._braille = braille

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, look: Look) -> None:
        lines = frame(look, self._console.width, self._braille)
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
