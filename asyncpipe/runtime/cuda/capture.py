"""The capture of a period: a graph for each segment of its plan, and what is issued between graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from asyncpipe.ir import Instruction
from asyncpipe.kernels.fused.issuing import ADDRESSES, CapturedAddresses
from asyncpipe.runtime.cuda.api import Graph
from asyncpipe.runtime.cuda.carry import Carried
from asyncpipe.runtime.cuda.crossings import Crossings
from asyncpipe.runtime.cuda.device_streams import Crossing, Landing
from asyncpipe.runtime.cuda.execution import DeviceExecution, Origin
from asyncpipe.runtime.cuda.issuer import Issuer, Work
from asyncpipe.runtime.cuda.period import Launch, Period, Transfer, receive_on
from asyncpipe.runtime.cuda.period_lines import instructions_of, stages_of_gradients, updates_by_stream
from asyncpipe.runtime.cuda.places import Places, Rates, Site, in_place
from asyncpipe.runtime.cuda.planned_lags import planned_lags
from asyncpipe.runtime.cuda.segments import Plan, Send, plan_of_period
from asyncpipe.runtime.cuda.stamps import PeriodStamps, unstamped

__all__ = ["capture_period"]


def capture_period(
    site: Site,
    work: Work,
    executions: Sequence[DeviceExecution],
    origin: Origin,
    count: int,
    before: Period | None = None,
) -> Period:
    """Captures `count` iterations from `origin` on. The executions stay in the state that they were in.

    `before`: another capture of the same, whose memory this one shares and after which it is launched. All kernels must
    have run on their streams before. Nothing may be in flight: the streams are joined.
    """
    lines = list(instructions_of(site.program, (origin.microbatch - site.program.start) // site.program.step, count))
    places = [Places(site, lines, execution) for execution in executions]
    rates = Rates(site, lines)
    entry = [Carried.of(execution.carried(origin)) for execution in executions]
    numbers = [execution.numbers(origin) for execution in executions]
    known = [[len(lags) for lags in execution.lags] for execution in executions]
    devices = site.streams.devices[: len(site.program.streams)]
    stamps = None if site.timeline is None else PeriodStamps(site.cuda, site.program, site.streams, lines)
    capture = _Capture(site, work, executions, plan_of_period(site.program, lines, devices), entry, stamps)
    if before is not None:
        capture.share_memory_of(before)
    with capture.addresses(lines), in_place(executions, places, rates), _same_crossing(executions):
        leaving = capture.run(origin.after(count))
    for execution, of, counted in zip(executions, entry, numbers, strict=True):
        execution.carry_on(of.state(), counted, origin)
    lags = [execution.take_lags(counts) for execution, counts in zip(executions, known, strict=True)]
    if any(weights.apart for weights in executions[0].weights):
        lags = [list(planned_lags(site.program, lines, counted, origin)) for counted in numbers]
    updates = updates_by_stream(site.program, lines)
    kept = capture.tables
    return Period(capture.steps, origin, count, entry, leaving, places, rates, updates, lags, kept, stamps)


@contextmanager
def _same_crossing(executions: Sequence[DeviceExecution]) -> Iterator[None]:
    """After the block."""
    before = [execution.crossing for execution in executions]
    try:
        yield
    finally:
        for execution, crossing in zip(executions, before, strict=True):
            execution.crossing = crossing


@dataclass
class _Capture:
    """`steps`: what was captured so far. The issuer keeps references, which must not be dropped before the end."""

    site: Site
    work: Work
    executions: Sequence[DeviceExecution]
    plan: Plan
    entry: Sequence[Carried]
    stamps: PeriodStamps | None
    steps: list[Launch | Transfer] = field(default_factory=list)
    _graphs: dict[int, Graph] = field(default_factory=dict)
    """By device, the last one."""
    _tables: dict[int, CapturedAddresses] = field(default_factory=dict)

    def __post_init__(self) -> None:
        site = self.site
        self._crossings = Crossings(site.cuda, self.plan, site.program.replicas)
        timing = unstamped if self.stamps is None else self.stamps.timing
        self._issuer = Issuer(site.cuda, site.program, site.streams, self.work, self._crossings, timing)

    def share_memory_of(self, period: Period) -> None:
        """Before `run`."""
        self._graphs |= {step.device: step.graph for step in period.steps if isinstance(step, Launch)}

    def run(self, end: Origin) -> list[Carried]:
        """The whole plan, and behind it the way back of the state to `entry`: with the only graph, or as one more."""
        leaving: list[Carried] = []
        alone = len(self.site.streams.used) == 1
        for step in self.plan.steps:
            if isinstance(step, Send):
                self._plan(step)
                continue
            with self._graph(step.device):
                self._issuer.issue(step.lines)
                self._issuer.join(self.site.streams.on_device(step.device))
                if alone:
                    leaving = self._carry(step.device, end)
        for device in () if alone else self.site.streams.used:
            with self._graph(device, [sent for sent in self._transfers if self._touches(sent, device)]):
                leaving = self._carry(device, end)
                self._issuer.join(self.site.streams.on_device(device))
        return leaving

    @contextmanager
    def _graph(self, device: int, after: Sequence[Transfer] = ()) -> Iterator[None]:
        """A capture over all streams of the device, whose launches wait for transfers. All streams must join in it."""
        streams = self.site.streams.on_device(device)
        stream = self.site.launching(device)
        token = ADDRESSES.set(self._tables[device])
        try:
            with self.site.cuda.capture(stream, self._graphs.get(device)) as graph:
                self._issuer.follow(streams[0], [sent.stream for sent in after])
                self._issuer.fork(joined=True, among=streams)
                yield
        finally:
            ADDRESSES.reset(token)
        self._graphs[device] = graph
        self.steps.append(Launch(device, graph, [sent.done for sent in after]))

    @property
    def _transfers(self) -> list[Transfer]:
        """They keep what they send until the period is gone, and so nothing overwrites it before its next launch."""
        return [step for step in self.steps if isinstance(step, Transfer)]

    def _touches(self, sent: Transfer, device: int) -> bool:
        return device in (self.site.streams.devices[sent.stream], self.site.streams.devices[sent.landing])

    def _plan(self, send: Send) -> None:
        """A transfer of each replica: it gets a place, and is made by every launch of the period."""
        streams = len(self.site.program.streams)
        for replica, execution in enumerate(self.executions):
            crossing = _Noting(Crossing(self.site.cuda, self.site.streams, replica * streams))
            execution.crossing = crossing
            self._issuer.plan(replica, send.stream, send.action, send.waits)
            at = replica * streams + send.stream
            waits = [self._crossings.event(replica, action) for action in send.waits]
            done = self._crossings.event(replica, send.action)
            # Torch makes an event when it is recorded first; before that it leaves out waits for it, also in captures.
            self.site.cuda.record(done, self.site.streams.all[at])
            place = (replica, send.stream, send.action)
            timed = partial(unstamped, *place) if self.stamps is None else self.stamps.place(*place)
            self.steps.append(Transfer(at, self.site.streams.landings[at], crossing.moves, waits, done, timed))

    def _carry(self, device: int, end: Origin) -> list[Carried]:
        """Copies of the device's part of the state that was left to where the period began with it."""
        leaving = [Carried.of(execution.carried(end)) for execution in self.executions]
        receive_on(self.site, device, self.entry, leaving)
        return leaving

    @contextmanager
    def addresses(self, lines: Sequence[Instruction]) -> Iterator[None]:
        """Tables for the addresses of gradients, which only the capture knows; one on each device."""
        for device in self.site.streams.used:
            with self.site.cuda.on(self.site.launching(device)):
                count = self._count_of_addresses(self.site.lines_of(device, lines))
                self._tables[device] = CapturedAddresses(count, self.site.cuda.torch_device(device))
        yield
        for device, table in self._tables.items():
            with self.site.cuda.on(self.site.launching(device)):
                table.upload()

    @property
    def tables(self) -> list[CapturedAddresses]:
        """Which the graphs go on reading."""
        return list(self._tables.values())

    def _count_of_addresses(self, lines: Sequence[Instruction]) -> int:
        updated, taught = stages_of_gradients(self.site.program, lines)
        return sum(
            sum(len(execution.stages[stage].arena.views) for stage in updated)
            + sum(execution.predicted_views(stage) for stage in taught)
            for execution in self.executions
        )


@dataclass
class _Noting:
    """Notes which tensors are to cross, and where to."""

    crossing: Crossing
    moves: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def landing(self, stream: int) -> _NotingLanding:
        return _NotingLanding(self.crossing.landing(stream), self.moves)

    def lesson(self, stream: int, stage: int) -> None:
        """Graphs have none on other devices."""


@dataclass
class _NotingLanding:
    landing: Landing
    moves: list[tuple[Tensor, Tensor]]

    def copy(self, tensor: Tensor) -> Tensor:
        place = self.landing.place(tensor)
        self.into(place, tensor)
        return place

    def into(self, place: Tensor, tensor: Tensor) -> None:
        self.moves.append((tensor, place))

    def running(self) -> AbstractContextManager[None]:
        return self.landing.running()
