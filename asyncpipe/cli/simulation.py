"""One instance of a schedule under a timing model, and all that is stated about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from asyncpipe.analysis.bounds import Bounds, bounds
from asyncpipe.analysis.bubbles import StreamTime, stream_times
from asyncpipe.analysis.critical_path import critical_path
from asyncpipe.analysis.decoupled import Decoupled, decoupled_speedup
from asyncpipe.analysis.delay_time import DelayTime
from asyncpipe.analysis.distribution import Distribution
from asyncpipe.analysis.loops import Loop
from asyncpipe.analysis.memory import Memory, StageSizes, memory
from asyncpipe.analysis.retime import Link, retimed, with_link
from asyncpipe.analysis.selector import Selector
from asyncpipe.analysis.simulate import Simulation, exact_simulation
from asyncpipe.analysis.steady import SteadyRun, run_steady
from asyncpipe.analysis.sweep import Contender, SweepPoint, sweep
from asyncpipe.analysis.timing import Delay, Straggler, Timing
from asyncpipe.cli.instance import check_job, instance_stages
from asyncpipe.cli.job_sizes import stage_sizes
from asyncpipe.cli.timing_options import CostModel
from asyncpipe.compiler import Compiled, check_expect, compile_instance
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.ir import Op, Program
from asyncpipe.schedule import Costs, read_schedule
from asyncpipe.schedule.job import read_job

if TYPE_CHECKING:
    from asyncpipe.cli.simulate_workers import OnWorkers

__all__ = ["SAMPLES", "Asked", "Instance", "Results", "analyse", "prepare", "prepare_rival", "swept"]

SAMPLES = 20
"""Runs with random times, unless --samples says otherwise."""


@dataclass(frozen=True)
class Asked:
    """The options, read."""

    stages: int | None = None
    microbatches: int | None = None
    costs: CostModel = field(default_factory=lambda: CostModel(Costs(), {}))
    job: str | None = None
    delays: tuple[tuple[Selector, DelayTime], ...] = ()
    stragglers: tuple[Straggler, ...] = ()
    link: Link | None = None
    samples: int = SAMPLES
    seed: int = 0
    overrides: Sequence[str] = ()
    allow: Sequence[str] = ()


@dataclass(frozen=True)
class Instance:
    """One schedule, compiled, with the timing model it runs under."""

    compiled: Compiled
    microbatches: int
    endless: Program
    finite: Program
    timing: Timing
    sizes: tuple[StageSizes, ...] | None


@dataclass(frozen=True)
class Results:
    """All that is stated about one instance. Where times are random, all but `simulation` is at their centers."""

    instance: Instance
    asked: Asked
    simulation: Simulation
    runs: Sequence[SteadyRun]
    bounds: Bounds
    path: Loop | None
    streams: Sequence[StreamTime]
    memory: Memory
    decoupled: Decoupled | None
    against: Instance | None = None
    swept: Selector | None = None
    sweep: Sequence[SweepPoint] = ()
    on_workers: OnWorkers | None = None


def prepare(name: str, asked: Asked) -> Instance:
    """Reads and compiles a schedule; ScheduleError with every finding."""
    report = Report()
    schedule = read_schedule(name, report, asked.overrides)
    source = asked.job or (schedule.job if schedule else None)
    job = None if source is None else read_job(source, report, asked.overrides)
    count = sizes = compiled = expected = None
    layers = check_job(job, report, asked.allow) if job else None
    if schedule is not None:
        expected = check_expect(schedule, report)
        count, _ = instance_stages(schedule, asked.stages, job, layers, report)
    if schedule is not None and count is not None and not report.has_errors:
        sizes = stage_sizes(layers, schedule, asked.stages)
        costs = schedule.costs.merged(asked.costs.costs)
        costs = _with_transfers(costs, asked.link, sizes, count)
        compiled = compile_instance(schedule, count, costs, report, expected)
    if compiled is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return _instance(compiled, asked, sizes)


def _with_transfers(costs: Costs, link: Link | None, sizes: Sequence[StageSizes] | None, stages: int) -> Costs:
    """Costs to plan with: a transfer takes as long as that of the stage's output."""
    if link is None:
        return costs
    if link.bandwidth is not None and sizes is None:
        raise UsageError("--link bandwidth: the bytes of a transfer are not known", "name a built-in model with --job")
    out = [0] * stages if sizes is None else [*(size.input for size in sizes[1:]), 0]
    sent = [link.latency + (Fraction(size) / link.bandwidth if link.bandwidth else 0) for size in out]
    return costs.merged(Costs((("SEND", tuple(costs.of(Op.SEND_F, s) + time for s, time in enumerate(sent))),)))


def _instance(compiled: Compiled, asked: Asked, sizes: tuple[StageSizes, ...] | None) -> Instance:
    """The programs, and the timing model stage by stage."""
    start = compiled.lowered(None).start
    steady = start + 4 * compiled.unrolled.step + 2 * compiled.diagram.every
    count = asked.microbatches or steady
    endless, finite = compiled.program(None), compiled.program(count)
    if asked.link is not None:
        endless, finite = (_linked(compiled, program, asked, sizes) for program in (endless, finite))
    noise: Mapping[Op, tuple[Distribution | None, ...]] = {
        op: (distribution,) * compiled.stages for op, distribution in asked.costs.noise.items()
    }
    delays = tuple(Delay(selector, time.in_costs(endless)) for selector, time in asked.delays)
    timing = Timing(noise, delays, asked.stragglers)
    for selector in (*(d.selector for d in timing.delays), *(s.selector for s in timing.stragglers)):
        selector.choose(endless)
    return Instance(compiled, count, endless, finite, timing, sizes)


def _linked(compiled: Compiled, program: Program, asked: Asked, sizes: Sequence[StageSizes] | None) -> Program:
    """The transfers' own times, each by its bytes: what it was planned with is replaced."""
    assert asked.link is not None
    if not any(op.is_transfer for op in program.costs):
        message = f"--link: {compiled.schedule.name} has no transfers between devices"
        raise UsageError(message, "set `devices` in the schedule, or with -o devices=S")
    own = compiled.schedule.costs.merged(asked.costs.costs)
    sends = {op: [own.of(op, s) for s in range(compiled.stages)] for op in program.costs if op.is_transfer}
    return with_link(retimed(program, sends), asked.link, sizes)


def analyse(instance: Instance, asked: Asked) -> Results:
    """Simulates the instance and states all that is known about it."""
    timing, compiled, program = instance.timing, instance.compiled, instance.endless
    runs = run_steady(program, timing.centered())
    if timing.is_random:
        from asyncpipe.analysis.simulate_sampled import simulate_sampled

        simulation = simulate_sampled(program, timing, asked.samples, asked.seed, instance.finite)
    else:
        simulation = exact_simulation(timing, runs, instance.finite)
    found = bounds(compiled.diagram, compiled.plan, lambda op, stage: program.costs[op][stage])
    return Results(
        instance,
        asked,
        simulation,
        runs,
        found,
        critical_path(runs, compiled.diagram),
        stream_times(runs[0]),
        memory(runs, instance.sizes),
        decoupled_speedup(program, found.best > found.resource),
    )


def prepare_rival(name: str, own: Instance, asked: Asked) -> Instance:
    """Another schedule under the same delays: a T in them is that of the first."""
    delays = tuple((delay.selector, DelayTime(delay.value)) for delay in own.timing.delays)
    return prepare(name, replace(asked, overrides=(), delays=delays))


def swept(results: Results, selector: Selector, times: Sequence[DelayTime], other: Instance | None) -> Results:
    """The results with the throughput over delays, relative to the other instance where there is one."""
    own = Contender(results.instance.endless, results.instance.timing)
    values = [time.in_costs(own.program) for time in times]
    rival = None if other is None else Contender(other.endless, other.timing)
    points = sweep(own, rival, selector, values, results.asked.samples, results.asked.seed)
    return replace(results, against=other, swept=selector, sweep=points)
