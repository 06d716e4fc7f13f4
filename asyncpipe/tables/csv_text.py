"""Tables as CSV text in the compute-only dialect of torch.distributed.pipelining.

One line for each device, no header; a cell is stage, op, microbatch (`2F0`), an empty cell is a gap. Besides torch's F,
B, I and W a table may hold the update of a stage, `2U0`, once. Reading is strict, and says where each cell stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from asyncpipe.errors import Position, Report
from asyncpipe.ir import Action, Op
from asyncpipe.tables.cells import Place, Rows
from asyncpipe.tables.wording import and_more

__all__ = ["csv_text", "read_rows", "read_text"]

_MAX_BYTES = 64 * 1024 * 1024
_MOST_FINDINGS = 50
_INDEX = "0|[1-9][0-9]{0,8}"
_CELL = re.compile(rf"({_INDEX})([FBIWU])({_INDEX})")
_COMPOSITE = re.compile(r"\((.*)\)OVERLAP_F_B")
_TRANSFER = re.compile(r"[0-9]+(SEND_F|RECV_F|SEND_B|RECV_B|UNSHARD|RESHARD|REDUCE_GRAD)[0-9]*")
_NEAR = re.compile(r"([0-9]{1,9})([FBIWU])([0-9]{1,9})")
_HINTS = (
    (re.compile(r"\("), "a composite is (0F7;3B2)OVERLAP_F_B"),
    (re.compile(r"Rank|Step|Device|Stage", re.IGNORECASE), "a table has no header: only cells such as 2F0"),
    (re.compile(r'["\']'), "remove the quotes: a cell needs none"),
    (re.compile(r".*#"), "remove the comment: a table has none"),
    (re.compile(r"[^;\t|]+[;\t|]"), "separate cells by commas"),
    (re.compile(r"[0-9]+[fbiwu][0-9]+$"), "ops are in upper case, as in 2F0"),
    (re.compile(r"[0-9]+R[0-9]+$"), "the compiler places R: `recompute` in the schedule asks for it"),
    (re.compile(r"[A-Za-z]+-?[0-9]+$"), "a cell begins with its stage; `--from zero-bubble` reads F0 B0 W0"),
)


def csv_text(rows: Iterable[Iterable[Action | None]]) -> str:
    """The table as text, one line for each device; None is an empty cell."""
    return "".join(",".join("" if action is None else str(action) for action in row) + "\n" for row in rows)


def read_text(path: str | Path, report: Report, named: Position | None = None) -> str | None:
    """The text of a table's file, or None with an AP100. `named` is the place in a schedule that names the file."""
    where = named or Position(str(path), 1, 1)
    subject = f"{path}: " if named else ""
    try:
        file = Path(path)
        size = file.stat().st_size
        if size > _MAX_BYTES:
            report.error("AP100", f"{subject}expected a table, found {size:,} bytes", where, "is it the right file?")
            return None
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        report.error("AP100", f"{subject}cannot be read: {reason}", where, "a table is a CSV file in UTF-8")
        return None


def read_rows(text: str, file: str, report: Report) -> Rows | None:
    """The cells with their places; AP130 for each that is no action, AP138 for an empty file.

    After such findings the rows hold what was meant where that is plain, so that more can be said about them.
    """
    lines = re.split(r"\r\n?|\n", text.removeprefix("\ufeff").rstrip())
    if lines == [""]:
        report.error("AP138", "the table is empty", Position(file, 1, 1), "one line for each device: 0F0,0F1,0B0,0B1")
        return None
    reader = _Reader(file, report)
    rows = [reader.row(line, number) for number, line in enumerate(lines, 1)]
    reader.summarize()
    actions = tuple(tuple(action for action, _ in row) for row in rows)
    places = tuple(tuple(place for _, place in row) for row in rows)
    return Rows(actions, places, file, not reader.lost)


class _Reader:
    """Reads lines; counts findings, so that a file in another format gives a page of them and not a book."""

    def __init__(self, file: str, report: Report) -> None:
        self.file = file
        self.report = report
        self.lost = False
        self.findings = 0
        self.transfers: list[tuple[Place, str]] = []
        self.composites: list[tuple[Place, str]] = []

    def row(self, line: str, number: int) -> list[tuple[Action, Place]]:
        cells: list[tuple[Action, Place]] = []
        column = 1
        for written in line.split(","):
            text = written.strip()
            match = _CELL.fullmatch(text)
            if match is not None:
                place = Place(number, column + written.index(text), len(text))
                cells.append((Action(int(match[1]), Op(match[2]), int(match[3])), place))
            elif text:
                cells += self._other(text, Place(number, column + written.index(text), len(text)))
            column += len(written) + 1
        return cells

    def _other(self, text: str, place: Place) -> Iterator[tuple[Action, Place]]:
        """A composite's parts, or what a cell that is no action was meant to be."""
        composite = _COMPOSITE.fullmatch(text)
        if composite is not None:
            yield from self._parts(composite[1], text, place)
        elif _TRANSFER.fullmatch(text):
            self.transfers.append((place, text))
        else:
            self._refuse(text, place)
            near = _NEAR.match(text)
            if near is None:
                self.lost = True
            else:
                yield Action(int(near[1]), Op(near[2]), int(near[3])), place

    def _parts(self, inside: str, text: str, place: Place) -> Iterator[tuple[Action, Place]]:
        self.composites.append((place, text))
        column = place.column + 1
        for written in inside.split(";"):
            part = written.strip()
            match = _CELL.fullmatch(part)
            here = Place(place.line, column + (written.index(part) if part else 0), max(1, len(part)))
            if match is None or match[2] == "U":
                self.lost = True
                self._refuse(part, here)
            else:
                yield Action(int(match[1]), Op(match[2]), int(match[3])), here
            column += len(written) + 1

    def _refuse(self, text: str, place: Place) -> None:
        self.findings += 1
        if self.findings <= _MOST_FINDINGS:
            hints = (hint for pattern, hint in _HINTS if pattern.match(text))
            hint = next(hints, "a cell is stage, op, microbatch: 2F0")
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            self.report.error("AP130", f"expected an action such as 2F0, found {shown!r}", self._where(place), hint)

    def summarize(self) -> None:
        """What many cells have in common is said once, at the first of them."""
        if self.findings > _MOST_FINDINGS:
            message = f"{self.findings - _MOST_FINDINGS:,} more cells are no actions"
            self.report.error("AP130", message, Position(self.file, 1, 1), "is it a table in torch's dialect?")
        if self.transfers:
            place, text = self.transfers[0]
            more = and_more(len(self.transfers) - 1, "cell like it", "cells like it")
            message = f"expected F, B, I, W or U, found {text!r}{more}: not a compute-only table"
            hint = "export torch's compute_only form; the compiler adds transfers and gradient reductions itself"
            self.report.error("AP130", message, self._where(place), hint)
        if self.composites and not self.lost:
            place, text = self.composites[0]
            more = and_more(len(self.composites) - 1, "composite")
            message = f"{text}{more}: the actions run one after another, in the order written"
            hint = "two actions of a device overlap when two of its streams run them"
            self.report.error("AP130", message, self._where(place), hint, severity="note")

    def _where(self, place: Place) -> Position:
        return Position(self.file, *place)
