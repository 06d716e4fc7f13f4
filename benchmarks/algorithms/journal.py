"""Trials that were run, one line each, so that a killed benchmark goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Journal"]

Found = dict[str, Any]


class Journal:
    """Results by their keys, in a file of JSON lines; a line that was cut off counts as not run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._found = dict(_lines(path)) if path.exists() else {}

    def get(self, key: dict[str, Any], run: Callable[[], Found]) -> Found:
        """The result of `key`: as it stands in the file, else that of `run`, which is then written there."""
        text = json.dumps(key, sort_keys=True)
        if text not in self._found:
            self._found[text] = run()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "found": self._found[text]}) + "\n")
        return self._found[text]


def _lines(path: Path) -> list[tuple[str, Found]]:
    text = path.read_text("utf-8")
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, "utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [(json.dumps(row["key"], sort_keys=True), row["found"]) for row in rows]
