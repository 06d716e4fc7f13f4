"""The `graph` back end: whole iterations of the body in one CUDA graph, updates included; the rest issued eagerly.

The program is that of the other back ends, action by action: a launch begins in the state that the one before has left,
with the pipeline full. Only at its ends do all streams wait for each other. On several devices a period is some graphs
of each, with transfers between them (segments.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpipe.ir import Action, Program
from asyncpipe.runtime.cuda.alternating import Periods, capture_periods
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.device_streams import DeviceStreams
from asyncpipe.runtime.cuda.device_timeline import DeviceTimeline
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.graph_facts import GraphFacts, measuring
from asyncpipe.runtime.cuda.issuer import Issuer
from asyncpipe.runtime.cuda.period import meet_devices
from asyncpipe.runtime.cuda.period_lines import instructions_of, iterations_of_period
from asyncpipe.runtime.cuda.places import Site
from asyncpipe.runtime.cuda.repeated_updates import register_generators
from asyncpipe.runtime.cuda.stamps import EagerStamps, unstamped
from asyncpipe.runtime.cuda.streams import (
    GroupWork,
    StreamLosses,
    before_each,
    crossing,
    device_execution,
    now_and_then,
)
from asyncpipe.runtime.cuda.uncapturable import naming_what_cannot_be_captured, refuse_host_work
from asyncpipe.runtime.replicas import ReplicaGroup
from asyncpipe.runtime.traced import TracedStage

__all__ = ["GraphRunner", "versions_in_turn"]


@dataclass
class GraphRunner:
    """Runs of one training; the graph of the first serves the later ones, until another phase of the schedule begins.

    `microbatches`: of a period, at least. executables: how many graphs of it are launched in turn.
    """

    cuda: Cuda
    streams: DeviceStreams
    microbatches: int = 8
    executables: int = 1
    period: Periods | None = None
    facts: GraphFacts | None = None
    copying: Mapping[int, Stream] = field(init=False)
    _captured: tuple[object, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.copying = {device: self.cuda.stream(device) for device in self.streams.used}

    def run(
        self,
        group: ReplicaGroup,
        hook: Callable[[int, Action], None] | None = None,
        poll: Callable[[], None] | None = None,
        timeline: DeviceTimeline | None = None,
    ) -> None:
        """A whole program; waits for its end. `hook` is called for eager launches only, `poll` between graphs too."""
        self._forget_another_phase(group.program, timeline is not None)
        run = _Run(self, group, before_each(hook, poll), timeline)
        run.eagerly_first()
        polling = now_and_then(poll)
        while run.left >= run.count:
            run.launch()
            polling()
        run.eagerly_last()

    def _forget_another_phase(self, program: Program, timed: bool) -> None:
        """A graph serves one phase of the schedule, and has time stamps or has none."""
        what = program.body, program.sync, program.scope, program.slots, self.microbatches, timed
        if what == self._captured:
            return
        if self.period is not None:
            # What it lay in belongs to the streams that filled it, and was read by the first one of each device.
            for device, copying in self.copying.items():
                read = self.cuda.event()
                self.cuda.record(read, self.streams.all[self.streams.first_on(device)])
                self.cuda.wait(copying, read)
        self.period, self._captured = None, what


class _Run:
    """One call of `run`."""

    def __init__(
        self,
        runner: GraphRunner,
        group: ReplicaGroup,
        before: Callable[[int, Action], None],
        timeline: DeviceTimeline | None,
    ) -> None:
        executions = [device_execution(group, replica) for replica in range(len(group.executions))]
        self.runner = runner
        self.executions = executions
        self.work = GroupWork(group)
        program, cuda, streams = executions[0].program, runner.cuda, runner.streams
        self.site = Site(cuda, program, streams, runner.copying, runner.executables, timeline)
        self.before = before
        self.count = iterations_of_period(self.site.program, runner.microbatches, versions_in_turn(executions))
        self.first: int | None = None
        self.done = 0
        self.sinks = [StreamLosses(runner.cuda, runner.streams, e, r) for r, e in enumerate(executions)]
        for replica, execution in enumerate(executions):
            execution.sink = self.sinks[replica]
            execution.crossing = crossing(runner.cuda, runner.streams, group, replica)
        self.stamps = None if timeline is None else EagerStamps(cuda, program, streams, timeline)
        timing = unstamped if self.stamps is None else self.stamps.timing
        self.issuer = Issuer(cuda, program, streams, self.work, timing=timing)

    @property
    def left(self) -> int:
        """Iterations that have not been issued yet."""
        return (self.site.program.iterations or 0) - self.done

    @property
    def origin(self) -> Origin:
        return Origin(self.site.program.start, self.site.program).after(self.done)

    def eagerly_first(self) -> None:
        """Fills the pipeline; before the first capture one period too, which loads every kernel and uses every slot."""
        self.issuer.fork()
        self.issuer.issue(self.site.program.warmup, self.before)
        if self.runner.period is None or not self.runner.period.takes(self.executions, self.origin):
            self._issue(min(self.count, self.left))
        # Those of later launches come a period late, and are written in order.
        for sink in self.sinks:
            sink.finish()
        self.issuer.join()

    def _issue(self, iterations: int) -> None:
        self.issuer.issue(instructions_of(self.site.program, self.done, iterations), self.before)
        self.done += iterations

    def launch(self) -> None:
        """The next period."""
        if self.runner.period is None:
            self._capture()
        period = self.runner.period
        assert period is not None
        if self.first is None:
            meet_devices(self.site)
            period.receive(self.site, self.executions, self.origin)
            self.first = self.done
        period.launch(self.site, self.executions, self.origin)
        self.done += self.count

    def _capture(self) -> None:
        for execution in self.executions:
            for stage in execution.stages:
                if isinstance(stage, TracedStage):
                    refuse_host_work(stage)
        register_generators(self.site.cuda, self.executions)
        microbatches = self.count * self.site.program.step
        with naming_what_cannot_be_captured(), measuring(self.site.cuda, self.site.streams.used, microbatches) as facts:
            period = capture_periods(self.site, self.work, self.executions, self.origin, self.count)
        facts.count(period.graphs)
        self.runner.period, self.runner.facts = period, facts

    def eagerly_last(self) -> None:
        """What is left, and the end of the pipeline."""
        if self.first is not None and self.runner.period is not None:
            first = Origin(self.site.program.start, self.site.program).after(self.first)
            self.runner.period.finish(self.executions, first, (self.done - self.first) // self.count)
            self.runner.period.finish_stamps()
            meet_devices(self.site)
        self.issuer.fork(joined=True)
        self._issue(self.left)
        self.issuer.issue(self.site.program.cooldown, self.before)
        self.issuer.join()
        for sink in self.sinks:
            sink.finish()
        if self.stamps is not None:
            self.stamps.finish()
        ended = self.site.cuda.event()
        self.site.cuda.record(ended, self.site.streams.all[0])
        self.site.cuda.synchronize(ended)


def versions_in_turn(executions: Sequence[DeviceExecution]) -> int:
    """How many updates it takes until old versions lie at the same places again."""
    return max((len(weights.past) for execution in executions for weights in execution.weights), default=1) or 1
