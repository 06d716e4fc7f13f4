"""`asyncpipe show`: the picture of a schedule, or one of its levels as text."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from asyncpipe.cli.options import counted, instance_options, json_option, override_option
from asyncpipe.cli.pictures import check_targets, picture_options, write_pictures
from asyncpipe.compiler import Compiled, compile_schedule, stage_count
from asyncpipe.errors import UsageError
from asyncpipe.pictures.html import Panel
from asyncpipe.pictures.terminal import draw
from asyncpipe.pictures.timeline import Timeline, planned
from asyncpipe.schedule import Costs, Schedule, load

__all__ = ["command"]

_PERIODS = 3
_MOST_DRAWN = 10_000
_MOST_PLANNED = 2_000_000


@click.command("show")
@click.argument("schedule", metavar="SCHEDULE")
@instance_options
@click.option("--compare", "run", metavar="RUN", help="Beside it a run that `tools profile` measured.")
@click.option("--level", type=click.Choice(["L0", "L1", "L2"]), help="Print this level as text instead.")
@picture_options
@click.option("--width", type=click.IntRange(40, 10_000), help="Columns of the picture; default: the terminal's.")
@click.option("--color/--no-color", default=None, help="Default: on a terminal, unless NO_COLOR is set.")
@override_option
@json_option
def command(
    schedule: str,
    stages: int | None,
    microbatches: int | None,
    costs: Costs | None,
    run: str | None,
    level: str | None,
    svg: str | None,
    html: str | None,
    trace: str | None,
    width: int | None,
    color: bool | None,
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Draw a schedule as streams over time: F, B and W boxes, idle dots, and ^ where an update takes effect.

    With --svg, --html or --trace the picture goes into files instead; `-` is stdout.

    With --compare some periods of a run in a folder of `asyncpipe tools profile` are drawn, as measured and as
    simulated at the measured costs, with the simulator's error.

    Levels: L0 the file with its defaults, L1 the table of actions, L2 the program of launches and events.
    Without --microbatches L1 and L2 are endless, with warmup and the steady body.
    """
    files = {"--svg": svg, "--html": html, "--trace": trace}
    targets = {option: file for option, file in files.items() if file is not None}
    instance = {"--stages": stages, "--microbatches": microbatches, "--costs": costs}
    terminal = {"--width": width, "--color": color or None}
    _refuse_meaningless(level, as_json, targets, instance, terminal)
    if run is not None:
        _refuse_with_run(level, instance)
    loaded = load(schedule, overrides)
    if run is not None:
        _compare(loaded, run, targets, as_json, width, color)
        return
    if level == "L0":
        click.echo(_wrapped("L0", str(loaded)) if as_json else str(loaded), nl=as_json)
        return
    compiled = compile_schedule(loaded, stage_count(loaded, stages), costs)
    if level is not None:
        text = str(compiled.table(microbatches) if level == "L1" else compiled.program(microbatches))
        click.echo(_wrapped(level, text) if as_json else text, nl=as_json)
        return
    count = microbatches or compiled.unrolled.start + _PERIODS * compiled.unrolled.step
    timeline = _planned(compiled, count)
    write_pictures(targets, _title(compiled, count), [Panel("plan", timeline, _facts(compiled))])
    if as_json:
        click.echo(json.dumps(_document(compiled, timeline, count)))
    elif not targets:
        _draw(compiled, timeline, count, width, color)


def _refuse_meaningless(
    level: str | None,
    as_json: bool,
    targets: Mapping[str, str],
    instance: Mapping[str, object],
    terminal: Mapping[str, object],
) -> None:
    """UsageError for an option that would change nothing, and for two outputs in one place."""
    idle: dict[str, object] = {}
    why = ""
    if level is not None:
        idle, why = {**(instance if level == "L0" else {}), **targets, **terminal}, f"--level {level}"
    elif targets or as_json:
        idle, why = dict(terminal), next(iter(targets), "--json")
    given = [option for option, value in idle.items() if value is not None]
    if given:
        verb = "has" if len(given) == 1 else "have"
        hint = "L0 is the file with its defaults, the same for all" if "--stages" in idle else "leave it out"
        raise UsageError(f"{', '.join(given)} {verb} no meaning with {why}", hint)
    check_targets(targets, as_json)


def _refuse_with_run(level: str | None, instance: Mapping[str, object]) -> None:
    """UsageError for an option that a finished run answers itself."""
    given = [option for option, value in {**instance, "--level": level}.items() if value is not None]
    if given:
        verb = "has" if len(given) == 1 else "have"
        raise UsageError(f"{', '.join(given)} {verb} no meaning with --compare", "the run has its own; leave it out")


def _compare(
    loaded: Schedule, run: str, targets: Mapping[str, str], as_json: bool, width: int | None, color: bool | None
) -> None:
    from asyncpipe.cli.compare_runs import compare, comparison_json, draw_comparison

    found = compare(loaded, run)
    if as_json:
        click.echo(json.dumps(comparison_json(found)))
    if targets or not as_json:
        draw_comparison(found, targets, _columns(width), _has_colour(color))


def _columns(width: int | None) -> int:
    return width or shutil.get_terminal_size((120, 24)).columns


def _has_colour(color: bool | None) -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") if color is None else color


def _planned(compiled: Compiled, count: int) -> Timeline:
    if count > _MOST_DRAWN:
        message = f"a picture shows at most {_MOST_DRAWN:,} microbatches, not {count:,}"
        raise UsageError(message, "use fewer; `--level L1` and `--level L2` show any number")
    program = compiled.program(count)
    bodies = len(program.body) * (program.iterations or 0)
    instructions = len(program.warmup) + bodies + len(program.cooldown)
    if instructions > _MOST_PLANNED:
        message = f"a picture shows at most {_MOST_PLANNED:,} launches and waits, not {instructions:,}"
        raise UsageError(message, "use fewer --microbatches or --stages")
    return planned(program)


def _title(compiled: Compiled, count: int) -> str:
    size = f"{counted(compiled.stages, 'stage')}, {counted(count, 'microbatch', 'microbatches')}"
    return f"{compiled.schedule.name}: {size}"


def _facts(compiled: Compiled) -> tuple[tuple[str, str], ...]:
    """What the steady state is like."""
    staleness = " ".join(str(value) for value in compiled.staleness.apply)
    return ("period", f"{compiled.period} per microbatch"), ("staleness per stage", staleness)


def _wrapped(level: str, text: str) -> str:
    return json.dumps({"schema": "asyncpipe.show/1", "level": level, "text": text})


def _draw(compiled: Compiled, timeline: Timeline, count: int, width: int | None, color: bool | None) -> None:
    colour = _has_colour(color)
    click.echo(_title(compiled, count))
    click.echo(draw(timeline, _columns(width), colour), nl=False, color=colour)
    click.echo("; ".join(f"{name} {value}" for name, value in _facts(compiled)))


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
