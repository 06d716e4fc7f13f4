"""What a program does under a timing model: times, throughput, staleness, by simulation in virtual time.

Exact where all times are numbers; with distributions so many samples are drawn, and medians stated with their spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from asyncpipe.analysis.bubbles import stream_times
from asyncpipe.analysis.makespan import exact_makespan
from asyncpipe.analysis.measured_staleness import measured_staleness
from asyncpipe.analysis.rates import throughput
from asyncpipe.analysis.staleness import Staleness
from asyncpipe.analysis.steady import SteadyRun, run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.analysis.work import work
from asyncpipe.errors import UsageError
from asyncpipe.ir import Program

__all__ = ["Number", "Simulation", "Spread", "StreamUse", "exact_simulation", "simulate"]

Number = Fraction | float


@dataclass(frozen=True)
class Spread:
    """The median of the samples, and the values that a tenth of them lie below and above."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class StreamUse:
    """`busy`: the time in which the stream works, over the whole run; `utilisation`: the share of the steady state."""

    name: str
    device: int
    busy: Number | None
    utilisation: Number


@dataclass(frozen=True)
class Simulation:
    """Times are in the schedule's cost unit; `period` is per microbatch of one replica, `throughput` of all replicas.

    `makespan` and each stream's `busy` are None for an endless program. `spreads` is empty where all is exact.
    """

    program: Program = field(repr=False)
    samples: int
    period: Number
    throughput: Number
    speedup: Number
    makespan: Number | None
    streams: tuple[StreamUse, ...]
    staleness: Staleness
    spreads: Mapping[str, Spread] = field(default_factory=dict)


def simulate(
    program: Program, timing: Timing | None = None, samples: int = 1, seed: int = 0, finite: Program | None = None
) -> Simulation:
    """Runs a program in virtual time; its makespan is that of `finite`, by default its own if it ends.

    UsageError where the program is too short for a steady state, or too long to be simulated.
    """
    timing = timing or Timing()
    finite = finite or (program if program.microbatches is not None else None)
    if not program.body:
        hint = "compile it for more microbatches, or for any number"
        raise UsageError("the program is too short for a steady state", hint)
    if timing.is_random:
        from asyncpipe.analysis.simulate_sampled import simulate_sampled

        return simulate_sampled(program, timing, samples, seed, finite)
    return exact_simulation(timing, run_steady(program, timing), finite)


def exact_simulation(timing: Timing, runs: Sequence[SteadyRun], finite: Program | None) -> Simulation:
    """The statements about a program whose steady state is known."""
    program, pace = runs[0].graph.program, throughput(runs)
    run = None if finite is None else exact_makespan(finite, timing)
    use = stream_times(runs[0])
    streams = tuple(
        StreamUse(s.name, s.device, run.busy[i] if run else None, Fraction(use[i].busy, use[i].length))
        for i, s in enumerate(program.streams)
    )
    return Simulation(
        program,
        1,
        program.replicas / pace,
        pace,
        work(program) * pace,
        run.time if run else None,
        streams,
        measured_staleness(runs),
    )
