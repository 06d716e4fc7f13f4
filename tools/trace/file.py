"""A trace as a file, whole or not at all."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asyncpipe.errors import UsageError
from asyncpipe.pictures.trace import Event, trace_file

__all__ = ["MOST_COMFORTABLE_BYTES", "Written", "write_trace"]

MOST_COMFORTABLE_BYTES = 200_000_000
"""Of JSON; Perfetto's page fails somewhere above 500 MB (kineto issues 595 and 760, perfetto issue 1392)."""
_LEVEL = 6
"""Of compression: higher ones take long for little."""


@dataclass(frozen=True)
class Written:
    """json_bytes: what a viewer has to read; file_bytes: what lies on the disk."""

    events: int
    json_bytes: int
    file_bytes: int


def write_trace(path: Path, events: Iterable[Event], about: Mapping[str, str]) -> Written:
    """Compressed where the name ends in .gz. UsageError where it cannot be written."""
    counted = _Counted(events)
    try:
        with _new(path) as temporary:
            size = _write_pieces(temporary, trace_file(counted, about), path.suffix == ".gz")
            found = Written(counted.count, size, temporary.stat().st_size)
    except OSError as error:
        hint = "name a file in a folder that exists and that you may write to"
        raise UsageError(f"--out {path}: cannot be written: {error.strerror}", hint) from None
    return found


@dataclass
class _Counted:
    events: Iterable[Event]
    count: int = 0

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            self.count += 1
            yield event


def _write_pieces(path: Path, pieces: Iterable[str], compressed: bool) -> int:
    """The bytes before compression. No name and no time go into the header, so that equal traces are equal files."""
    with path.open("xb") as raw:
        if not compressed:
            return sum(raw.write(piece.encode()) for piece in pieces)
        with gzip.GzipFile("", "wb", _LEVEL, raw, 0) as file:
            return sum(file.write(piece.encode()) for piece in pieces)


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    """A file that takes the place of `path` when it is whole."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, "Is a directory")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
