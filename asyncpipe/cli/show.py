"""`asyncpipe show`: the picture of a schedule, or one of its levels as text."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import click

from asyncpipe.cli.options import counted, instance_options, json_option, override_option
from asyncpipe.compiler import Compiled, compile_schedule, stage_count
from asyncpipe.errors import UsageError
from asyncpipe.pictures.terminal import draw
from asyncpipe.pictures.timeline import Timeline, planned
from asyncpipe.schedule import Costs, load

__all__ = ["command"]

_PERIODS = 3
_MOST_DRAWN = 10_000


@click.command("show")
@click.argument("schedule", metavar="SCHEDULE")
@instance_options
@click.option("--level", type=click.Choice(["L0", "L1", "L2"]), help="Print this level as text instead.")
@click.option("--width", type=click.IntRange(40, 10_000), help="Columns of the picture; default: the terminal's.")
@click.option("--color/--no-color", default=None, help="Default: on a terminal, unless NO_COLOR is set.")
@override_option
@json_option
def command(
    schedule: str,
    stages: int | None,
    microbatches: int | None,
    costs: Costs | None,
    level: str | None,
    width: int | None,
    color: bool | None,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Draw a schedule as streams over time: F, B and W boxes, idle dots, and ^ where an update takes effect.

    Levels: L0 the file with its defaults, L1 the table of actions, L2 the program of launches and events.
    Without --microbatches L1 and L2 are endless, with warmup and the steady body.
    """
    loaded = load(schedule, overrides)
    if level == "L0":
        click.echo(_wrapped("L0", str(loaded)) if as_json else str(loaded), nl=as_json)
        return
    compiled = compile_schedule(loaded, stage_count(loaded, stages), costs)
    if level is not None:
        text = str(compiled.table(microbatches) if level == "L1" else compiled.program(microbatches))
        click.echo(_wrapped(level, text) if as_json else text, nl=as_json)
        return
    count = microbatches or compiled.unrolled.start + _PERIODS * compiled.unrolled.step
    if count > _MOST_DRAWN:
        message = f"a picture shows at most {_MOST_DRAWN:,} microbatches, not {count:,}"
        raise UsageError(message, "use fewer; `--level L1` and `--level L2` show any number")
    timeline = planned(compiled.program(count))
    if as_json:
        click.echo(json.dumps(_document(compiled, timeline, count)))
        return
    _draw(compiled, timeline, count, width, color)


def _wrapped(level: str, text: str) -> str:
    return json.dumps({"schema": "asyncpipe.show/1", "level": level, "text": text})


def _draw(compiled: Compiled, timeline: Timeline, count: int, width: int | None, color: bool | None) -> None:
    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    size = f"{counted(compiled.stages, 'stage')}, {counted(count, 'microbatch', 'microbatches')}"
    click.echo(f"{compiled.schedule.name}: {size}")
    click.echo(draw(timeline, width or shutil.get_terminal_size((120, 24)).columns, color), nl=False, color=color)
    staleness = " ".join(str(value) for value in compiled.staleness.apply)
    click.echo(f"period {compiled.period} per microbatch; staleness per stage {staleness}")


def _document(compiled: Compiled, timeline: Timeline, count: int) -> dict[str, Any]:
    rows = [
        {
            "name": row.name,
            "device": row.device,
            "busy": row.busy,
            "actions": [{"action": str(b.action), "start": b.start, "end": b.end} for b in row.boxes],
        }
        for row in timeline.rows
    ]
    return {
        "schema": "asyncpipe.show/1",
        "schedule": compiled.schedule.name,
        "stages": compiled.stages,
        "microbatches": count,
        "makespan": timeline.end,
        "streams": rows,
    }
