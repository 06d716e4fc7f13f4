"""Progress on stderr: a live bar on a terminal, elsewhere a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["Progress"]

_PLAIN_SECONDS = 5.0


class Progress:
    """Says where a run of `total` microbatches is. Nothing is printed where `quiet` is set."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total = total
        self.quiet = quiet
        self.bar = _bar() if sys.stderr.isatty() and not quiet else None
        self.start = self.last = time.monotonic()

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.bar.add_task("", total=self.total, loss="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, loss: float | None) -> None:
        """Called often; where there is no bar, it prints at most every few seconds."""
        shown = "" if loss is None else f"loss {loss:.4f}"
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, loss=shown, refresh=True)
        elif not self.quiet and now - self.last >= _PLAIN_SECONDS:
            self.last = now
            rate = done / (now - self.start)
            left = f"{(self.total - done) / rate:.0f} s left" if rate else ""
            print(f"{done}/{self.total} microbatches  {shown}  {rate:.1f}/s  {left}", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        """A line that stays."""
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)
        self.last = time.monotonic()


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("microbatches {task.fields[loss]}"), TimeRemainingColumn())
    return Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
