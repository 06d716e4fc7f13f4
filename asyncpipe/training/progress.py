"""Progress on stderr: one live line on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

_PLAIN_SECONDS = 5.0


class Progress:
    """Says where a run of `total` microbatches is. Nothing is printed where `quiet` is set."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total = total
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self.start = time.monotonic()
        self.last = self.start
        self.width = 0

    def update(self, done: int, loss: float | None, note: str = "") -> None:
        """Called often; prints at most every few seconds where it is not live."""
        now = time.monotonic()
        if self.quiet or (not self.live and now - self.last < _PLAIN_SECONDS):
            return
        self.last = now
        text = self._text(done, loss, now - self.start, note)
        if self.live:
            sys.stderr.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _text(self, done: int, loss: float | None, seconds: float, note: str) -> str:
        rate = done / seconds if seconds > 0 else 0.0
        left = f", {(self.total - done) / rate:.0f} s left" if rate else ""
        shown = "" if loss is None else f"  loss {loss:.4f}"
        return f"{done}/{self.total} microbatches{shown}  {rate:.1f}/s{left}{note}"

    def line(self, text: str) -> None:
        """A line that stays."""
        if self.quiet:
            return
        sys.stderr.write(("\r" + text.ljust(self.width) if self.live else text) + "\n")
        sys.stderr.flush()
        self.last = time.monotonic()
