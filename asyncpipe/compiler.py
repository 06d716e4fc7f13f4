"""Load, expand, order, assign slots, lower: from a schedule to a program for any number of microbatches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import lcm

from asyncpipe.analysis.staleness import Staleness, Versions, staleness
from asyncpipe.errors import Report, ScheduleError
from asyncpipe.ir import AUTHORED, Action, Op, Program, ProgramStream, Table
from asyncpipe.passes.assign_slots import assign_slots, with_slot_edges
from asyncpipe.passes.assign_versions import assign_versions, with_version_edges
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.expand import expand
from asyncpipe.passes.issue import issue
from asyncpipe.passes.lower_to_streams import Lowered, Settled, lower_to_streams, settle_waits
from asyncpipe.passes.meaning import meaning
from asyncpipe.passes.names import instance_names, span_of
from asyncpipe.passes.order import Stuck, order_streams
from asyncpipe.passes.place_streams import with_ratio
from asyncpipe.passes.plan import Plan, with_assignment
from asyncpipe.passes.tabulate import tabulate
from asyncpipe.passes.unroll import Unrolled, unroll
from asyncpipe.schedule import Costs, Schedule
from asyncpipe.verify.asynchrony import check_expectations, check_forward_is_bounded, explain_no_steady_state
from asyncpipe.verify.costs import check_costs, check_time_passes
from asyncpipe.verify.meaning import check_copies, check_meaning
from asyncpipe.verify.order import explain_deadlock
from asyncpipe.verify.short_updates import check_short_updates

__all__ = ["DEFAULT_STAGES", "Compiled", "compile_instance", "compile_phases", "compile_schedule", "stage_count"]

DEFAULT_STAGES = 4


@dataclass(frozen=True)
class Ticks:
    """Costs as integers: `unit` of the schedule's cost unit is one tick."""

    unit: Fraction
    costs: dict[Op, tuple[int, ...]]

    def of(self, op: Op, stage: int) -> int:
        return self.costs[op][stage]


@dataclass(frozen=True)
class Compiled:
    """A schedule for a number of stages, ordered and verified; `program(n)` and `table(n)` lower it."""

    schedule: Schedule
    stages: int
    costs: Costs
    ticks: Ticks
    diagram: Diagram
    plan: Plan
    slots: tuple[int, ...]
    versions: tuple[int, ...]
    unrolled: Unrolled

    @cached_property
    def staleness(self) -> Staleness:
        return staleness(self.diagram, self.plan, self.schedule.weights)

    @property
    def period(self) -> Fraction:
        """Time per microbatch in the steady state, in the schedule's cost unit."""
        return Fraction(self.plan.period, self.plan.microbatches) * self.ticks.unit

    @cached_property
    def speedup(self) -> Fraction:
        """Against the same actions one after another on one device, where nothing is sent; replicas count together."""
        steady = (a for order, cut in zip(self.plan.orders, self.plan.cuts, strict=True) for a in order[cut:])
        work = sum(self.ticks.of(a.op, a.stage) for a in steady if a.op in AUTHORED)
        return Fraction(work * self.schedule.replicas.count, self.plan.period)

    @cached_property
    def weight_versions(self) -> tuple[int, ...]:
        """Per stage, how many versions of its parameters exist at once at most, in the steady state."""
        from asyncpipe.analysis.memory import memory
        from asyncpipe.analysis.steady import run_steady
        from asyncpipe.analysis.timing import Timing

        return memory(run_steady(self.program(), Timing())).versions

    @cached_property
    def _settled(self) -> Settled:
        return settle_waits(self.diagram, self.unrolled)

    def lowered(self, microbatches: int | None) -> Lowered:
        return lower_to_streams(self.diagram, self.unrolled, self._settled, microbatches)

    def program(self, microbatches: int | None = None) -> Program:
        """L2 for a run of `microbatches`, or endless; its size does not depend on the number."""
        lowered = self.lowered(microbatches)
        warmup, body, cooldown = issue(lowered, self.unrolled.step, self.diagram.every)
        return Program(
            schedule=self.schedule.name,
            stages=self.stages,
            every=self.diagram.every,
            start=lowered.start,
            step=self.unrolled.step,
            iterations=lowered.iterations,
            microbatches=microbatches,
            slots=self.slots,
            place=self.diagram.place,
            streams=tuple(ProgramStream(s.name, s.device, s.runs, s.priority, s.sms) for s in self.diagram.streams),
            warmup=warmup,
            body=body,
            cooldown=cooldown,
            versions=self.versions,
            unit=self.ticks.unit,
            costs={op: self.ticks.costs[op] for op in Op if any(op is own for own, _ in self.diagram.ops)},
            **meaning(self.schedule, self.diagram),
        )

    def sample_program(self) -> Program:
        """A run long enough to show warmup, steady state and cooldown."""
        return self.program(self.lowered(None).start + 4 * self.unrolled.step + 2 * self.diagram.every)

    def table(self, microbatches: int | None = None) -> Table:
        """L1 for a run of `microbatches`, or endless."""
        lowered = self.lowered(microbatches)
        step = self.unrolled.step
        versions = [Versions(self.diagram, self.plan, s, self.schedule.weights) for s in range(self.stages)]

        def reads(action: Action) -> int | None:
            """Where a stage skips updates, its version is no offset from the update's number, and is not told."""
            skips = (Op.U, action.stage) in self.diagram.exists
            return None if skips else versions[action.stage].read_by(action)

        return tabulate(self.schedule.name, self.diagram, lowered, step, self.slots, microbatches, reads)


def stage_count(schedule: Schedule, asked: int | None = None) -> int:
    """The number of stages: as asked, else the file's, else what it expects, else 4."""
    if asked is not None:
        return asked
    if isinstance(schedule.stages, int):
        return schedule.stages
    if isinstance(schedule.stages, tuple):
        return len(schedule.stages)
    return schedule.expect.stages if schedule.expect else DEFAULT_STAGES


def compile_instance(
    schedule: Schedule, stages: int, costs: Costs, report: Report, known: Compiled | None = None
) -> Compiled | None:
    """The schedule for `stages` stages and these costs; None with the findings in the report.

    `known`, if it is this very instance, is not compiled again.
    """
    if known is not None and (known.stages, known.costs) == (stages, costs):
        return known
    if not check_costs(schedule, stages, costs, report):
        return None
    ticks = _ticks(schedule, costs, stages)
    schedule = replace(schedule, streams=with_ratio(schedule, stages, ticks.of))
    meaningful = check_meaning(schedule, stages, report)
    diagram = expand(schedule, stages, report)
    if diagram is None or not meaningful or not check_time_passes(schedule, diagram, ticks.of, report):
        return None
    check_copies(schedule, diagram, report)
    plan = order_streams(diagram, ticks.of)
    if isinstance(plan, Stuck):
        if plan.reason == "deadlock":
            explain_deadlock(schedule, plan.replay, report)
        else:
            explain_no_steady_state(schedule, plan, report)
        return None
    diagram = with_assignment(diagram, plan)
    check_forward_is_bounded(schedule, diagram, plan, report)
    if report.has_errors:
        return None
    slots = assign_slots(diagram, plan)
    versions = assign_versions(diagram, plan, schedule.weights)
    guarded = with_version_edges(with_slot_edges(diagram, slots), versions, schedule.weights)
    compiled = Compiled(schedule, stages, costs, ticks, guarded, plan, slots, versions, unroll(guarded, plan))
    return compiled if check_short_updates(schedule, guarded, plan, report) else None


def compile_schedule(schedule: Schedule, stages: int | None = None, costs: Costs | None = None) -> Compiled:
    """As `compile_instance`; ScheduleError with every finding, also where `expect` does not hold."""
    report = Report()
    expected = check_expect(schedule, report)
    merged = schedule.costs.merged(costs or Costs())
    compiled = compile_instance(schedule, stage_count(schedule, stages), merged, report, expected)
    if compiled is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return compiled


def compile_phases(compiled: Compiled, report: Report) -> list[Compiled]:
    """What runs first, phase by phase, and last the schedule as it stands; findings are in the report."""
    found = []
    for phase in compiled.schedule.phases:
        own = Report()
        found.append(compile_instance(compiled.schedule.during(phase), compiled.stages, compiled.costs, own))
        for diagnostic in [one for one in own.diagnostics if one not in report.diagnostics]:
            report.add(replace(diagnostic, message=f"in the phase until {phase.until}: {diagnostic.message}"))
    return [*(phase for phase in found if phase is not None), compiled]


def check_expect(schedule: Schedule, report: Report) -> Compiled | None:
    """Asserts `expect` on its own instance: its stages, and the default costs unless it names others."""
    if schedule.expect is None:
        return None
    compiled = compile_instance(schedule, schedule.expect.stages, schedule.expect.costs, report)
    if compiled is not None:
        versions = () if schedule.expect.versions is None else compiled.weight_versions
        check_expectations(schedule, compiled.staleness, compiled.period, versions, report)
    return compiled


def _ticks(schedule: Schedule, costs: Costs, stages: int) -> Ticks:
    """Integer costs; a recompute that no stream runs is part of the backward."""
    exact = {op: tuple(costs.of(op, s) for s in range(stages)) for op in Op}
    if schedule.recompute.mode == "full" and Op.R not in schedule.ops:
        names = instance_names(schedule, stages)
        span = span_of(schedule.recompute.stages, names, "recompute", None, Report())
        for op in (Op.B, Op.I):
            exact[op] = tuple(t + exact[Op.R][s] if s in span else t for s, t in enumerate(exact[op]))
    scale = lcm(*(time.denominator for times in exact.values() for time in times))
    return Ticks(Fraction(1, scale), {op: tuple(int(t * scale) for t in times) for op, times in exact.items()})
