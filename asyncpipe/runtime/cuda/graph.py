"""The `graph` back end: whole iterations of the body in one CUDA graph, updates included; the rest issued eagerly.

The program is that of the other back ends, action by action: a launch begins in the state that the one before has left,
with the pipeline full. Only at its ends do all streams wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from asyncpipe.errors import UsageError
from asyncpipe.ir import Action, Program
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.issuer import Issuer
from asyncpipe.runtime.cuda.period import Period, Site, capture_period
from asyncpipe.runtime.cuda.period_lines import instructions_of, iterations_of_period
from asyncpipe.runtime.cuda.streams import GroupWork, StreamLosses, before_each, device_execution
from asyncpipe.runtime.replicas import ReplicaGroup

__all__ = ["GraphRunner", "refuse_uncapturable"]


@dataclass
class GraphRunner:
    """Runs of one training; the graph of the first serves the later ones. `microbatches`: of a period, at least."""

    cuda: Cuda
    streams: Sequence[Stream]
    microbatches: int = 8
    period: Period | None = None
    copying: Stream = field(init=False)

    def __post_init__(self) -> None:
        self.copying = self.cuda.stream(self.streams[0].device)

    def run(
        self,
        group: ReplicaGroup,
        hook: Callable[[int, Action], None] | None = None,
        poll: Callable[[], None] | None = None,
    ) -> None:
        """A whole program; waits for its end. `hook` and `poll` are called for eager launches only."""
        refuse_uncapturable(group.program)
        run = _Run(self, group, before_each(hook, poll))
        run.eagerly_first()
        while run.left >= run.count:
            run.launch()
        run.eagerly_last()


class _Run:
    """One call of `run`."""

    def __init__(self, runner: GraphRunner, group: ReplicaGroup, before: Callable[[int, Action], None]) -> None:
        executions = [device_execution(group, replica) for replica in range(len(group.executions))]
        self.runner = runner
        self.site = Site(
            runner.cuda, executions[0].program, runner.streams, runner.copying, GroupWork(group), executions
        )
        self.before = before
        self.count = iterations_of_period(self.site.program, runner.microbatches, _versions(executions))
        self.first: int | None = None
        self.done = 0
        self.sinks = [StreamLosses(runner.cuda, runner.streams, e, r) for r, e in enumerate(executions)]
        for execution, sink in zip(executions, self.sinks, strict=True):
            execution.sink = sink
        self.issuer = Issuer(runner.cuda, self.site.program, runner.streams, self.site.work)

    @property
    def left(self) -> int:
        """Iterations that have not been issued yet."""
        return (self.site.program.iterations or 0) - self.done

    @property
    def origin(self) -> Origin:
        return Origin(self.site.program.start, self.site.program).after(self.done)

    def eagerly_first(self) -> None:
        """Fills the pipeline; before the first capture one period too, which loads every kernel."""
        self.issuer.fork()
        self.issuer.issue(self.site.program.warmup, self.before)
        if self.runner.period is None:
            self._issue(min(self.count, self.left))
        self.issuer.join()

    def _issue(self, iterations: int) -> None:
        self.issuer.issue(instructions_of(self.site.program, self.done, iterations), self.before)
        self.done += iterations

    def launch(self) -> None:
        """The next period."""
        if self.runner.period is None:
            self.runner.period = capture_period(self.site, self.origin, self.count)
        if self.first is None:
            self.runner.period.receive(self.site, self.origin)
            self.first = self.done
        self.runner.period.launch(self.site, self.origin)
        self.done += self.count

    def eagerly_last(self) -> None:
        """What is left, and the end of the pipeline."""
        if self.first is not None and self.runner.period is not None:
            first = Origin(self.site.program.start, self.site.program).after(self.first)
            self.runner.period.finish(self.site, first, (self.done - self.first) // self.count)
        self.issuer.fork(joined=True)
        self._issue(self.left)
        self.issuer.issue(self.site.program.cooldown, self.before)
        self.issuer.join()
        for sink in self.sinks:
            sink.finish()
        ended = self.site.cuda.event()
        self.site.cuda.record(ended, self.site.streams[0])
        self.site.cuda.synchronize(ended)


def _versions(executions: Sequence[DeviceExecution]) -> int:
    """How many updates it takes until old versions lie at the same places again."""
    return max((len(weights.past) for execution in executions for weights in execution.weights), default=1) or 1


def refuse_uncapturable(program: Program) -> None:
    """UsageError for what changes from period to period on the host."""
    reasons = {
        f"update.scope: {program.scope}": program.scope != "all",
        f"update.commit: {program.commit}": program.commit > 1,
        "replicas.sync: push, whose peers are drawn anew for each update": program.sync[:1] == ("push",),
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        raise UsageError(f"a graph repeats one period, and cannot have {'; '.join(found)}", "use --backend streams")
