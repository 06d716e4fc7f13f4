"""Every trial that came to an end, one line each, so that a killed tuning goes on where it was.

The file only grows. A line that was cut off while it was written is no result, and the next one begins behind it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Journal"]

Document = Mapping[str, Any]


class Journal:
    """Results by their keys, both plain JSON values."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._known = dict(_read(path)) if path.exists() else {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Document) -> dict[str, Any] | None:
        """The result of a trial that has ended, however it did."""
        return self._known.get(_text(key))

    def put(self, key: Document, result: dict[str, Any]) -> None:
        """Writes a result so that it survives a crash of this process, and of the machine."""
        line = json.dumps({"key": key, "result": result}) + "\n"
        with self.path.open("ab+") as file:
            if file.tell() and not _ends_with_a_line(file):
                line = "\n" + line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._known[_text(key)] = result


def _ends_with_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _text(key: Document) -> str:
    return json.dumps(key, sort_keys=True)


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            yield _text(row["key"]), dict(row["result"])
        except (ValueError, KeyError, TypeError):
            continue  # cut off in the middle
