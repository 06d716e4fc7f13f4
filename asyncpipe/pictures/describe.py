"""What a picture says about one box."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.pictures.axis import number
from asyncpipe.pictures.timeline import Box

__all__ = ["describe"]


def describe(box: Box, stream: str) -> str:
    """A few lines: the action, its stream, its time, versions, staleness, and its event waits."""
    return "\n".join(_lines(box, stream))


def _lines(box: Box, stream: str) -> Iterator[str]:
    yield f"{box.action} {box.action.op.words}, on {stream}"
    if box.end > box.start:
        yield f"{number(box.start)} to {number(box.end)}, takes {number(box.end - box.start)}"
    else:
        yield f"at {number(box.start)}"
    if box.reads is not None:
        yield f"reads version {box.reads}"
    if box.writes is not None:
        yield f"writes version {box.writes}"
    if box.staleness is not None:
        yield f"staleness {box.staleness}"
    for name, time in box.waited:
        if time > 0:
            yield f"waited {number(time)} for {name}"
    ready = [name for name, time in box.waited if time == 0]
    if ready:
        yield f"needs {', '.join(ready)}, which was ready"
