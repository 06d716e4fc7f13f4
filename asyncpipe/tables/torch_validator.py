"""What the validator of torch.distributed.pipelining accepts, so that a finding can say that torch would not tell.

It reads the beginning of a cell and ignores the rest, compares numbers of distinct microbatches, not which they are,
and looks at each row by itself. Tests run torch's own validator beside this one.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from asyncpipe.errors import Report

__all__ = ["accepted_by_torch", "note_what_torch_accepts"]

_VERSIONS = "2.11 to 2.13"
_CELL = re.compile(r"(\d+)(F|I|B|W|UNSHARD|RESHARD|REDUCE_GRAD|SEND_F|RECV_F|SEND_B|RECV_B)(\d*)")
_NEEDS = {"B": "F", "I": "F", "W": "I"}
_REASONS = {
    "AP130": "it ignores what follows the beginning of a cell",
    "AP131": "it compares sets of microbatches, so it does not see an action twice",
    "AP133": "it counts microbatches and does not ask which they are",
    "AP134": "it counts backwards and does not ask of which microbatch",
    "AP136": "it looks at each stage by itself",
    "AP138": "it does not ask whether a device has anything to do",
    "AP201": "it looks at each row by itself; a later pass stops, without naming a device or a cell",
}


class _Cell(NamedTuple):
    stage: int
    op: str
    microbatch: int | None


def note_what_torch_accepts(text: str, stages: int, microbatches: int, report: Report) -> None:
    """Says so at the first error of each kind, where torch's validator takes the same table."""
    if not report.has_errors or not accepted_by_torch(text, stages, microbatches):
        return
    said: set[str] = set()
    for number, diagnostic in enumerate(report.diagnostics):
        if diagnostic.is_error and diagnostic.code in _REASONS and diagnostic.code not in said:
            said.add(diagnostic.code)
            note = f"the validator of torch {_VERSIONS} accepts this table: {_REASONS[diagnostic.code]}"
            report.diagnostics[number] = replace(diagnostic, notes=(*diagnostic.notes, (note, None)))


def accepted_by_torch(text: str, stages: int, microbatches: int) -> bool:
    """Whether torch reads the text as a compute-only table and its `_validate_schedule` passes it."""
    done: dict[tuple[int, str], set[int | None]] = defaultdict(set)
    device_of: dict[int, int] = {}
    try:
        rows = list(csv.reader(text.splitlines()))
        for device, row in enumerate(rows):
            for cell in (cell for written in row for cell in _read(written)):
                if not _takes(cell, stages, done) or device_of.setdefault(cell.stage, device) != device:
                    return False
                done[cell.stage, cell.op].add(cell.microbatch)
    except (ValueError, csv.Error):
        return False
    return all(_complete(done, stage, microbatches) for stage in range(stages))


def _takes(cell: _Cell, stages: int, done: dict[tuple[int, str], set[int | None]]) -> bool:
    needs = _NEEDS.get(cell.op)
    return cell.stage < stages and (needs is None or cell.microbatch in done[cell.stage, needs])


def _complete(done: dict[tuple[int, str], set[int | None]], stage: int, microbatches: int) -> bool:
    forwards, wholes, inputs, weights = (len(done[stage, op]) for op in "FBIW")
    return forwards == microbatches and inputs == weights and wholes + inputs == microbatches


def _read(written: str) -> Iterator[_Cell]:
    """The actions that torch makes of a cell; ValueError where it raises."""
    text = written.strip()
    if text.startswith("(") and ")" in text:
        inside, _, word = text[1:].partition(")")
        if word != "OVERLAP_F_B" or not inside.strip():
            raise ValueError(text)
        for part in inside.split(";"):
            yield from _read(part)
    elif text:
        match = _CELL.match(text)
        if match is None or match[2] not in "FBIW":
            raise ValueError(text)
        yield _Cell(int(match[1]), match[2], int(match[3]) if match[3] else None)
