"""`asyncpipe show --compare RUN`: a measured run beside what the simulator made of it, in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from asyncpipe.analysis.prediction import microbatch_ends, predict, predict_drawn, steady_period
from asyncpipe.analysis.workers import WorkerRun
from asyncpipe.cli.options import counted
from asyncpipe.cli.pictures import write_pictures
from asyncpipe.ir import AUTHORED, Action, Program, TimedRun
from asyncpipe.pictures.html import Panel
from asyncpipe.pictures.side_by_side import clipped, interleaved, rescaled, with_rows_of
from asyncpipe.pictures.terminal import draw
from asyncpipe.pictures.timeline import Timeline, timeline_of
from asyncpipe.schedule import Schedule
from asyncpipe.tools.profile.files import (
    PROFILE_NAME,
    program_of_run,
    read_document,
    read_measured_costs,
    read_timeline,
)
from asyncpipe.tools.profile.steps import times_of_replica
from asyncpipe.tools.profile.text import signed_percent

__all__ = ["Comparison", "compare", "comparison_json", "draw_comparison"]

_MICROBATCHES = 6
"""At least one iteration is shown, and of short ones about so many microbatches."""
_MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Comparison:
    """Some steady iterations of replica 0, measured and simulated, in milliseconds; periods are in seconds.

    The simulation is drawn at mean times; its period is that of runs with times drawn from the measured ones.
    """

    title: str
    measured: Timeline
    simulated: Timeline
    measured_period: float
    simulated_period: float
    workers: int

    @property
    def error(self) -> float:
        """Of the simulator, as a share of what was measured."""
        return self.simulated_period / self.measured_period - 1

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        on = f"on {counted(self.workers, 'worker')}"
        return (
            ("measured", f"{self.measured_period * _MILLISECONDS:.3f} ms per microbatch"),
            ("simulated", f"{self.simulated_period * _MILLISECONDS:.3f} ms {on}: {signed_percent(self.error)}"),
        )


def compare(schedule: Schedule, run: str) -> Comparison:
    """Reads a folder of `asyncpipe tools profile`; UsageError where it is none, or one of another schedule."""
    document = read_document(run)
    program = program_of_run(schedule, run, document)
    costs = read_measured_costs(f"{run}/{PROFILE_NAME}")
    timed = TimedRun(program, read_timeline(run, program))
    drawn = predict(program, costs.seconds, costs.workers)
    period = predict_drawn(program, costs.times, costs.workers).period
    ends = microbatch_ends((t.replica, t.action, t.end) for t in timed.actions)
    measured_times, simulated_times = times_of_replica(timed, 0), _simulated(drawn.run)
    first, after = _part(program)
    size = f"{counted(program.stages, 'stage')}, microbatches {first} to {after - 1} of {program.microbatches}"
    length = max(_begin(times, after) - _begin(times, first) for times in (measured_times, simulated_times))
    return Comparison(
        f"{program.schedule}: {size}, measured and simulated",
        _shown(program, measured_times, first, length),
        _shown(program, simulated_times, first, length),
        steady_period(ends, program),
        period,
        costs.workers.count,
    )


def _simulated(run: WorkerRun) -> dict[Action, tuple[float, float]]:
    pairs = zip(run.starts[0], run.ends[0], strict=True)
    return {run.graph.action(launch): pair for launch, pair in enumerate(pairs)}


def _part(program: Program) -> tuple[int, int]:
    """Some iterations in the middle of the run: their first microbatch, and the first one after them."""
    assert program.iterations is not None
    shown = max(1, _MICROBATCHES // program.step)
    first = program.start + max(0, (program.iterations - shown) // 2) * program.step
    return first, first + shown * program.step


def _begin(times: Mapping[Action, tuple[float, float]], microbatch: int) -> float:
    """When the first action of a microbatch began, at any stage."""
    return min(begin for action, (begin, _) in times.items() if not action.op.by_update and action.index == microbatch)


def _shown(program: Program, times: Mapping[Action, tuple[float, float]], first: int, length: float) -> Timeline:
    begin = _begin(times, first)
    whole = with_rows_of(timeline_of(program, times, "s"), AUTHORED)
    return rescaled(clipped(whole, begin, begin + length), _MILLISECONDS, "ms")


def draw_comparison(found: Comparison, targets: Mapping[str, str], width: int, colour: bool) -> None:
    """Into files where there are targets, else on the terminal. A trace is of the measured run."""
    panels = [Panel("measured", found.measured, found.facts[:1]), Panel("simulated", found.simulated, found.facts[1:])]
    both = interleaved({"measured": found.measured, "simulated": found.simulated})
    pictures = {option: file for option, file in targets.items() if option == "--svg"}
    write_pictures(pictures, found.title, [Panel("both", both)])
    write_pictures({option: file for option, file in targets.items() if option != "--svg"}, found.title, panels)
    if not targets:
        click.echo(found.title)
        click.echo(draw(both, width, colour), nl=False, color=colour)
        click.echo("; ".join(f"{name} {value}" for name, value in found.facts))


def comparison_json(found: Comparison) -> dict[str, Any]:
    """`asyncpipe.show/1`, with all times in seconds."""
    return {
        "schema": "asyncpipe.show/1",
        "title": found.title,
        "workers": found.workers,
        "period_s": {"measured": found.measured_period, "simulated": found.simulated_period},
        "error": found.error,
        "measured": _streams(found.measured),
        "simulated": _streams(found.simulated),
    }


def _streams(timeline: Timeline) -> list[dict[str, Any]]:
    unit = 1 / _MILLISECONDS
    return [
        {
            "name": row.name,
            "device": row.device,
            "actions": [{"action": str(b.action), "start": b.start * unit, "end": b.end * unit} for b in row.boxes],
        }
        for row in timeline.rows
    ]
