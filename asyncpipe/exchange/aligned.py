"""Tables whose columns are points in time, as torch's PipelineScheduleMulti needs them."""

from __future__ import annotations

from math import gcd

from asyncpipe.compiler import Compiled
from asyncpipe.errors import Diagnostic, ScheduleError
from asyncpipe.exchange.window import Window
from asyncpipe.ir import Action

__all__ = ["align"]

_MOST_CELLS = 2_000_000


def align(compiled: Compiled, found: Window) -> list[list[Action | None]]:
    """Rows of equal length with each action in the column of its start; what needs a result stands in a later one.

    A column is the greatest time that all starts are multiples of. ScheduleError with an AP142 where two actions of a
    device start at one time, since one of them costs nothing, or where the table would be immense.
    """
    column = gcd(*(start for _, _, start in found.order)) or 1
    width = max((start for _, _, start in found.order), default=0) // column + 1
    if width * found.devices > _MOST_CELLS:
        size = f"{found.devices} rows with {width:,} columns of {column * compiled.ticks.unit}"
        _refuse(compiled, f"aligned in time the table has {size}", "choose costs that are multiples of one another")
    rows: list[list[Action | None]] = [[None] * width for _ in range(found.devices)]
    for device, action, start in found.order:
        other = rows[device][start // column]
        if other is not None:
            message = f"{other} and {action} start at the same time on device {device}: {other} costs nothing"
            _refuse(compiled, message, "give every F, B, I and W a cost, as in --costs F=1,B=2")
        rows[device][start // column] = action
    return rows


def _refuse(compiled: Compiled, message: str, hint: str) -> None:
    raise ScheduleError([Diagnostic("AP142", message, compiled.schedule.where("costs", "streams"), hint)])
