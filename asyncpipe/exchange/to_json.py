"""L1, the table of a compiled schedule, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncpipe.ir import Cell, Table
from asyncpipe.ir.action import relative_text

__all__ = ["table_document"]


def table_document(table: Table) -> dict[str, Any]:
    """Per stream the actions of warmup, body and cooldown with the versions that they read, as in the text of L1.

    In the body indices and versions are relative: `2F[m-1]` reads version g + `reads`.
    """
    return {
        "schema": "asyncpipe.table/1",
        "schedule": table.schedule,
        "stages": table.stages,
        "every": table.every,
        "start": table.start,
        "step": table.step,
        "iterations": table.iterations,
        "microbatches": table.microbatches,
        "slots": list(table.slots),
        "streams": [
            {
                "name": stream.name,
                "device": stream.device,
                "warmup": _cells(stream.warmup),
                "body": _cells(stream.body, relative=True),
                "cooldown": _cells(stream.cooldown),
            }
            for stream in table.streams
        ],
    }


def _cells(cells: Iterable[Cell], relative: bool = False) -> list[dict[str, Any]]:
    return [
        {"action": relative_text(cell.action) if relative else str(cell.action), "reads": cell.reads} for cell in cells
    ]
