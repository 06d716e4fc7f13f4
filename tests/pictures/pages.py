"""Reads pages back: their elements, and the timelines of their data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from asyncpipe.ir import parse_action
from asyncpipe.pictures.timeline import Box, Row, Timeline

__all__ = ["Page", "read_timelines"]


class Page(HTMLParser):
    """Every element with its attributes, and the text of those that have an id or matter by their name."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        return json.loads(self.texts["data"])


def read_timelines(data: Any) -> list[tuple[str, Timeline]]:
    """(name, timeline) of each panel."""
    found = []
    for panel in data["panels"]:
        rows = (Row(row["name"], row["device"], tuple(map(_box, row["boxes"]))) for row in panel["rows"])
        found.append((panel["name"], Timeline(tuple(rows), panel["end"], data["unit"])))
    return found


def _box(values: list[Any]) -> Box:
    text, start, end, reads, writes, staleness, waited = values + [None] * (7 - len(values))
    return Box(parse_action(text), start, end, reads, writes, staleness, tuple(map(tuple, waited or ())))
