"""A program on few workers: its launches, handed out as the `threads` back end hands them out.

There a stream is an order and not a thread: whichever worker is free takes the most urgent launch that is ready. Exact
where times are whole numbers; with a worker for each stream and no overheads the times are those of `asap`. Times may
be drawn too: what waits for several actions waits for the slowest, so that means alone predict too short a period.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import fmean

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.launch_graph import Key, LaunchGraph
from asyncpipe.ir import TRANSFERS, Op

__all__ = ["Times", "WorkerRun", "Workers", "draw_on_workers", "run_on_workers"]

Number = int | float
_URGENCY = {**dict.fromkeys(TRANSFERS, 0), Op.SYNC: 0, Op.U: 0, Op.B: 1, Op.I: 1, Op.R: 1, Op.W: 2, Op.F: 3}
"""The dispatcher's order, which a test compares with this one."""
_NOTHING = -1


@dataclass(frozen=True)
class Workers:
    """So many threads, and what they add to the costs, in the same unit.

    An action begins `hand_over` after its worker ended another, or `wake` after an idle worker was called. While n
    workers are at work, each action takes `slowdown[n - 1]` times as long; 1 where the list ends.
    """

    count: int
    hand_over: Number = 0
    wake: Number = 0
    slowdown: tuple[float, ...] = ()

    def factor(self, working: int) -> Number:
        return self.slowdown[working - 1] if 0 < working <= len(self.slowdown) else 1


@dataclass(frozen=True)
class Times:
    """Times to draw from: of each op at each stage, and the two overheads of `Workers`."""

    costs: Mapping[Key, Sequence[Number]]
    hand_overs: Sequence[Number] = (0,)
    wakes: Sequence[Number] = (0,)

    def means(self, count: int) -> Workers:
        """So many workers with the mean overheads."""
        return Workers(count, fmean(self.hand_overs), fmean(self.wakes))

    def mean(self, op: Op, stage: int) -> float:
        """0 for what is not known."""
        return fmean(self.costs.get((op, stage)) or (0.0,))


@dataclass(frozen=True)
class WorkerRun:
    """By replica and launch: when it began, when it ended, and on which worker."""

    graph: LaunchGraph = field(repr=False)
    starts: list[list[Number]] = field(repr=False)
    ends: list[list[Number]] = field(repr=False)
    workers: list[list[int]] = field(repr=False)

    @property
    def makespan(self) -> Number:
        return max(map(max, self.ends))


def run_on_workers(graph: LaunchGraph, costs: Sequence[Number], workers: Workers) -> WorkerRun:
    """Every launch of the graph, in each replica, at the cost of its key (`graph.keys`).

    At one instant actions end first; then their workers take what is most urgent, and idle ones what is left.
    """
    return _Run(graph, [(cost,) for cost in costs], (workers.hand_over,), (workers.wake,), workers, itemgetter(0)).go()


def draw_on_workers(graph: LaunchGraph, times: Times, workers: Workers, seed: int) -> WorkerRun:
    """As `run_on_workers`, with all times drawn from those given; what is not among them takes none."""
    choose: Callable[[Sequence[Number]], Number] = random.Random(seed).choice
    costs = [times.costs.get(key) or (0,) for key in graph.keys]
    return _Run(graph, costs, times.hand_overs, times.wakes, workers, choose).go()


class _Run:
    def __init__(
        self,
        graph: LaunchGraph,
        costs: Sequence[Sequence[Number]],
        hand_overs: Sequence[Number],
        wakes: Sequence[Number],
        workers: Workers,
        choose: Callable[[Sequence[Number]], Number],
    ) -> None:
        replicas, size = graph.program.replicas, len(graph)
        self.graph, self.costs, self.pace = graph, costs, workers
        self.hand_overs, self.wakes, self.choose = hand_overs, wakes, choose
        self.meets = meets(graph.program)
        self.missing = [_counts(graph) for _ in range(replicas)]
        self.followers = _followers(graph)
        self.starts: list[list[Number]] = [[0] * size for _ in range(replicas)]
        self.ends: list[list[Number]] = [[0] * size for _ in range(replicas)]
        self.workers = [[0] * size for _ in range(replicas)]
        self.arrived: dict[int, int] = {}
        self.ready: list[tuple[int, ...]] = []
        self.now: Number = 0
        self.unfinished = replicas * size
        self.idle = list(range(workers.count))
        self.called: dict[int, Number] = {}
        self.begins: dict[int, tuple[Number, int, int]] = {}
        self.left: dict[int, Number] = {}
        self.work: dict[int, tuple[int, int]] = {}
        for replica, counts in enumerate(self.missing):
            for launch in (i for i, count in enumerate(counts) if not count):
                self.enqueue(replica, launch)
        self.hand_out([])

    def go(self) -> WorkerRun:
        while self.unfinished:
            self.advance()
        return WorkerRun(self.graph, self.starts, self.ends, self.workers)

    def advance(self) -> None:
        """To the next instant at which something begins or ends."""
        factor = self.pace.factor(len(self.left))
        ends = {w: self.now + (left if factor == 1 else left * factor) for w, left in self.left.items()}
        until = min((*ends.values(), *self.called.values(), *(begin for begin, _, _ in self.begins.values())))
        passed = until - self.now if factor == 1 else (until - self.now) / factor
        self.now = until
        ended = [worker for worker, end in ends.items() if end == until]
        for worker in self.left:
            self.left[worker] -= passed
        for worker in ended:
            self.finish(worker)
        self.begin()
        self.hand_out(ended)

    def finish(self, worker: int) -> None:
        del self.left[worker]
        replica, launch = self.work.pop(worker)
        together = range(len(self.ends)) if self.joins(launch) else (replica,)
        for one in together:
            self.starts[one][launch], self.workers[one][launch] = self.starts[replica][launch], worker
            self.ends[one][launch] = self.now
            self.unfinished -= 1
            for follower in self.followers[launch]:
                self.missing[one][follower] -= 1
                if not self.missing[one][follower]:
                    self.enqueue(one, follower)

    def begin(self) -> None:
        """Actions whose worker has made ready for them."""
        for worker in [w for w, (begin, _, _) in self.begins.items() if begin == self.now]:
            _, replica, launch = self.begins.pop(worker)
            self.starts[replica][launch] = self.now
            self.work[worker] = replica, launch
            self.left[worker] = self.choose(self.costs[self.graph.key[launch]])

    def hand_out(self, ended: list[int]) -> None:
        for worker in ended:
            self.take(worker, self.choose(self.hand_overs))
        for worker in [w for w, until in self.called.items() if until == self.now]:
            del self.called[worker]
            self.take(worker, 0)
        called, self.idle = self.idle[: len(self.ready)], self.idle[len(self.ready) :]
        self.called |= {worker: self.now + self.choose(self.wakes) for worker in called}

    def take(self, worker: int, lead: Number) -> None:
        if not self.ready:
            self.idle.append(worker)
            return
        *_, replica, launch = heapq.heappop(self.ready)
        self.begins[worker] = self.now + lead, replica, launch

    def enqueue(self, replica: int, launch: int) -> None:
        """Into the order of urgency; a SYNC at which replicas meet, once the last of them has come to it."""
        if self.joins(launch):
            self.arrived[launch] = self.arrived.get(launch, 0) + 1
            if self.arrived[launch] < len(self.missing):
                return
        op, stage = self.graph.keys[self.graph.key[launch]]
        index, streams = self.graph.index[launch], len(self.graph.program.streams)
        microbatch = index * self.graph.program.every if op.by_update else index
        stream = replica * streams + self.graph.stream[launch]
        heapq.heappush(self.ready, (_URGENCY[op], microbatch, stage, stream, replica, launch))

    def joins(self, launch: int) -> bool:
        return self.meets and self.graph.keys[self.graph.key[launch]][0] is Op.SYNC


def _sources(graph: LaunchGraph) -> Iterator[tuple[int, list[int]]]:
    """What each launch waits for: events, and the launch before it in its stream."""
    for launch, (waits, previous) in enumerate(zip(graph.waits, graph.previous, strict=True)):
        yield launch, [*waits, *([] if previous == _NOTHING else [previous])]


def _counts(graph: LaunchGraph) -> list[int]:
    return [len(sources) for _, sources in _sources(graph)]


def _followers(graph: LaunchGraph) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(len(graph))]
    for launch, sources in _sources(graph):
        for source in sources:
            found[source].append(launch)
    return found
