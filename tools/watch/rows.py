"""The rows of a metrics.jsonl that somebody else is writing, each read once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from asyncpipe.errors import UsageError

__all__ = ["Row", "RowTail"]

_CHUNK = 2**22
Row = Mapping[str, Any]


class RowTail:
    """`new` gives what came since the last call; a line without its end is left for later.

    damaged: how many lines were no rows, which are left out. written: when the file grew last, since 1970.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.written = 0.0
        self._offset = 0
        self._rest = b""

    def new(self) -> Iterator[Row]:
        """UsageError where the file is gone, or is another one now."""
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                self.written = found.st_mtime
                yield from self._rows(found.st_size, file)
        except OSError as error:
            message = f"{self.path}: cannot be read any more: {error.strerror}"
            raise UsageError(message, "was the run directory moved or removed?") from None

    def _rows(self, size: int, file: BinaryIO) -> Iterator[Row]:
        if size < self._offset:
            raise UsageError(f"{self.path}: became shorter: it is another run's now", "watch that one")
        file.seek(self._offset)
        while self._offset < size and (text := file.read(min(_CHUNK, size - self._offset))):
            self._offset += len(text)
            *lines, self._rest = (self._rest + text).split(b"\n")
            for line in lines:
                row = _parsed(line)
                if row is None:
                    self.damaged += 1
                else:
                    yield row


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("kind"), str) else None
