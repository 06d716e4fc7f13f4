"""The Python door to the compiler and the simulator.

program = asyncpipe.compile(asyncpipe.load("my.yaml"), stages=8)
asyncpipe.simulate(program, costs={"F": 1, "B": "normal(2, 0.1)"}, delays={"backward[0]": 0.5}).period
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Program
from asyncpipe.schedule import Costs, Schedule, load
from asyncpipe.schedule.counts import MOST_STAGES, require_count

if TYPE_CHECKING:
    from asyncpipe.analysis.arguments import CostArgument, Time
    from asyncpipe.analysis.simulate import Simulation

__all__ = ["compile", "simulate"]


def compile(
    schedule: Schedule | str | Path,
    stages: int | None = None,
    microbatches: int | None = None,
    costs: Costs | None = None,
) -> Program:
    """The program of a schedule: for `microbatches` of them, or endless. ScheduleError carries every finding."""
    require_count("stages", stages, MOST_STAGES)
    require_count("microbatches", microbatches)
    chosen = schedule if isinstance(schedule, Schedule) else load(schedule)
    return compile_schedule(chosen, stages, costs).program(microbatches)


def simulate(
    program: Program | Schedule | str | Path,
    costs: CostArgument | None = None,
    delays: Mapping[str, Time] | None = None,
    stragglers: Mapping[str, Time] | None = None,
    samples: int = 20,
    seed: int = 0,
) -> Simulation:
    """What a program does in virtual time under other costs: one time per op, or a list with one for each stage.

    A schedule (a library name, a file or a Schedule) stands for its endless program, as `compile` makes it.

    Times are numbers, or texts such as "normal(2, 0.1)". `delays` (times) and `stragglers` (factors) name streams as
    `asyncpipe simulate` does. The order inside the streams stays that of the program; a makespan needs one that ends.
    """
    from asyncpipe.analysis.arguments import timing_of
    from asyncpipe.analysis.simulate import simulate as run

    compiled = program if isinstance(program, Program) else compile(program)
    return run(*timing_of(compiled, costs, delays, stragglers), samples, seed)
