"""Order inside the streams: replay the diagram in virtual time until the pattern recurs.

At each instant, finish what ends, settle actions that cost nothing, then start; a greedy stream never idles while it
has a ready action, a body stream takes its lines in order. The state of the replay, relative to the microbatch that
stage 0 just started, repeats in the steady state; what ran between two equal states is the steady body.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace

from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Diagram, Stream
from asyncpipe.passes.plan import Plan

__all__ = ["MAX_AHEAD", "Replay", "Stuck", "order_streams"]

MAX_AHEAD = 1024
"""An action that lags this many microbatches behind, beyond what the schedule itself asks, lags without bound."""
_MAX_ACTIONS = 100_000

Duration = Callable[[Op, int], int]


@dataclass(frozen=True)
class Stuck:
    """The replay found no steady state. `reason`: deadlock, ahead, or endless."""

    reason: str
    replay: Replay
    stage: int = 0


@dataclass
class _Lane:
    """The moving part of one stream."""

    stream: Stream
    ready: list[tuple[tuple[int, int, int], Action]] = field(default_factory=list)
    waiting_free: list[Action] = field(default_factory=list)
    running: Action | None = None
    ends: int = 0
    order: list[Action] = field(default_factory=list)
    line: int = 0
    iteration: int = 0
    nexts: Action | None = None


class Replay:
    """The virtual clock over an endless diagram."""

    def __init__(self, diagram: Diagram, duration: Duration) -> None:
        self.diagram = diagram
        self.cost = {key: duration(*key) for key in diagram.ops}
        self.time = 0
        self.lanes = [_Lane(stream) for stream in diagram.streams]
        self.times: dict[Action, tuple[int, int]] = {}
        self.sequence: dict[Action, int] = {}
        self.frontier = dict.fromkeys(diagram.ops, 0)
        """Everything before is done; bit i of `done` tells of frontier + i; `furthest` is one past all that is done."""
        self.furthest = dict.fromkeys(diagram.ops, 0)
        self.made = dict.fromkeys(diagram.ops, 0)
        self.done = dict.fromkeys(diagram.ops, 0)
        self.missing: dict[Action, int] = {}
        self.waiters: dict[Action, list[Action]] = {}
        self.taken: dict[tuple[int, int], int] = {}
        """(group, microbatch) -> the stream that took it, where the group assigns dynamically."""
        self.pool: dict[int, list[tuple[tuple[int, int, int], Action]]] = {}
        self.pool_free: dict[int, list[Action]] = {}
        """Per dynamic group: what is ready, but of a microbatch that no stream has taken; what of it costs nothing."""
        self.heap: list[tuple[int, int, int, int]] = []
        self.free: list[tuple[tuple[int, int, int], Action]] = []
        self.idle: set[int] = set(range(len(self.lanes)))
        self.started_first: int | None = None
        """The microbatch, a multiple of the diagram's period, that stage 0 started at this instant."""
        self.runs_ahead: int | None = None
        """The stage whose forward runs ahead of its backward or update without bound, if any does."""
        self.is_dynamic = any(stream.is_dynamic for stream in diagram.streams)
        self.leading = 0
        """One past the furthest microbatch that anything finished, where streams assign dynamically."""
        dynamic = sum(stream.is_dynamic for stream in diagram.streams)
        self.window = diagram.repeats[1] + 2 * diagram.every + 2 + diagram.ahead + dynamic
        self.allowed = MAX_AHEAD + _asked_for(diagram)
        self.most = _MAX_ACTIONS + 40 * len(diagram.ops) * (diagram.stages + sum(diagram.repeats))
        """A schedule that did not repeat after so many actions will not."""
        for number, lane in enumerate(self.lanes):
            self._first_line(number, lane)
        for key in diagram.ops:
            self._make(key)

    # -- actions come into being, become ready ---------------------------------------------------

    def _make(self, key: tuple[Op, int]) -> None:
        """Brings the actions of one (op, stage) into being, a window ahead of the furthest finished one.

        In the window an action of every kind recurs; before the diagram settles, any may overtake all.
        """
        op, stage = key
        unit = self.diagram.every if op.by_update else 1
        ahead = self.window // self.diagram.every + 2 if op.by_update else self.window
        settle = -(-self.diagram.repeats[0] // unit)
        end = max(self.furthest[key], settle, self.leading // unit) + ahead
        first, self.made[key] = self.made[key], max(self.made[key], end)
        exists = self.diagram.exists.get(key)
        for index in range(first, end):
            if exists is None or exists(index):
                self._create(Action(stage, op, index))
            else:
                self._pass(key, index)

    def _lead(self, key: tuple[Op, int]) -> None:
        """Dynamic streams let a microbatch overtake any others: what follows from the furthest must be there."""
        self.leading = self.furthest[key] * (self.diagram.every if key[0].by_update else 1)
        for other in self.diagram.ops:
            self._make(other)

    def _pass(self, key: tuple[Op, int], index: int) -> None:
        """Counts an action as done: it is finished, or the diagram does not have it."""
        done, frontier = self.done[key], self.frontier[key]
        done |= 1 << (index - frontier)
        while done & 1:
            done >>= 1
            frontier += 1
        self.done[key], self.frontier[key] = done, frontier

    def _create(self, action: Action) -> None:
        before = [source for source, _ in self.diagram.predecessors(action) if not self.is_done(source)]
        for source in before:
            self.waiters.setdefault(source, []).append(action)
        self.missing[action] = len(before)
        if not before:
            self._ready(action)

    def is_done(self, action: Action) -> bool:
        key = (action.op, action.stage)
        beyond = action.index - self.frontier[key]
        return beyond < 0 or self.done[key] >> beyond & 1 == 1

    def _ready(self, action: Action) -> None:
        number = self.lane_of(action)
        lane = self.lanes[self.diagram.stream_of(action) if number is None else number]
        if lane.stream.body and lane.nexts != action:
            return
        key = (self.diagram.microbatch(action), self.diagram.data_order(action.op, action.stage))
        if self.cost[action.op, action.stage] == 0:
            heapq.heappush(self.free, ((0 if action.op.by_update else 1, *key), action))
        else:
            queue = lane.ready if number is not None else self.pool.setdefault(lane.stream.group, [])
            heapq.heappush(queue, ((lane.stream.order.index(action.op), *key), action))

    # -- dynamic groups ---------------------------------------------------------------------------

    def lane_of(self, action: Action) -> int | None:
        """The stream that runs an action; None while no stream of its dynamic group has taken its microbatch."""
        number = self.diagram.stream_of(action)
        stream = self.lanes[number].stream
        if not stream.is_dynamic:
            return number
        return self.taken.get((stream.group, self.diagram.microbatch(action)))

    def _take(self, number: int, action: Action) -> None:
        """A stream takes a microbatch: all its actions in this group are the stream's from now on."""
        lane = self.lanes[number]
        group, microbatch = lane.stream.group, self.diagram.microbatch(action)
        self.taken[group, microbatch] = number
        pool = self.pool.get(group, [])
        for item in [item for item in pool if self.diagram.microbatch(item[1]) == microbatch]:
            pool.remove(item)
            heapq.heappush(lane.ready, item)
        heapq.heapify(pool)

    def _first_idle(self, action: Action) -> int | None:
        group = self.lanes[self.diagram.stream_of(action)].stream.group
        return min((i for i in self.idle if self.lanes[i].stream.group == group), default=None)

    # -- body streams -----------------------------------------------------------------------------

    def _first_line(self, number: int, lane: _Lane) -> None:
        if lane.stream.body:
            lane.iteration = min(-offset for _, _, offset in lane.stream.body) - 1
            lane.line = len(lane.stream.body) - 1
            self._advance(lane)

    def _advance(self, lane: _Lane) -> None:
        """Moves a body stream to its next line that names an action of this run."""
        body, (count, remainder) = lane.stream.body, lane.stream.every_nth
        while True:
            lane.line += 1
            if lane.line == len(body):
                lane.line, lane.iteration = 0, lane.iteration + 1
                while lane.iteration % count != remainder:
                    lane.iteration += 1
            op, stage, offset = body[lane.line]
            index = self._index_in_body(op, lane.iteration + offset)
            if index is not None and self.diagram.is_action(Action(stage, op, index)):
                lane.nexts = Action(stage, op, index)
                return

    def _index_in_body(self, op: Op, microbatch: int) -> int | None:
        if microbatch < 0:
            return None
        if not op.by_update:
            return microbatch
        return microbatch // self.diagram.every if (microbatch + 1) % self.diagram.every == 0 else None

    # -- the clock --------------------------------------------------------------------------------

    def instants(self) -> Iterator[int]:
        """Runs instant by instant; ends when nothing runs any more, or a forward runs ahead."""
        while True:
            self.started_first = None
            self._settle()
            self._start()
            yield self.time
            if not self.heap or self.runs_ahead is not None:
                return
            self.time = self.heap[0][0]
            ending = []
            while self.heap and self.heap[0][0] == self.time:
                ending.append(heapq.heappop(self.heap)[3])
            for number in ending:
                lane = self.lanes[number]
                assert lane.running is not None
                self._finish(number, lane, lane.running)
                lane.running = None

    def _finish(self, number: int, lane: _Lane, action: Action) -> None:
        key = (action.op, action.stage)
        self._pass(key, action.index)
        del self.missing[action]
        for waiter in self.waiters.pop(action, ()):
            self.missing[waiter] -= 1
            if self.missing[waiter] == 0:
                self._ready(waiter)
        if action.index >= self.furthest[key]:
            self.furthest[key] = action.index + 1
            self._make(key)
            if self.is_dynamic and self.furthest[key] * (self.diagram.every if key[0].by_update else 1) > self.leading:
                self._lead(key)
        self.idle.add(number)
        for waiting in (*lane.waiting_free, *self.pool_free.pop(lane.stream.group, ())):
            self._ready(waiting)
        lane.waiting_free.clear()
        if lane.stream.body:
            self._advance(lane)
            if lane.nexts is not None and self.missing.get(lane.nexts) == 0:
                self._ready(lane.nexts)

    def _settle(self) -> None:
        """Actions that cost nothing run at once, wherever their stream is idle."""
        while self.free and self.runs_ahead is None and len(self.sequence) <= self.most:
            _, action = heapq.heappop(self.free)
            number = self.lane_of(action)
            if number is None:
                number = self._first_idle(action)
                if number is None:
                    group = self.lanes[self.diagram.stream_of(action)].stream.group
                    self.pool_free.setdefault(group, []).append(action)
                    continue
                self._take(number, action)
            if number in self.idle:
                self._record(number, action, self.time)
                self._finish(number, self.lanes[number], action)
            else:
                self.lanes[number].waiting_free.append(action)

    def _start(self) -> None:
        for number in sorted(self.idle):
            lane = self.lanes[number]
            pool = self.pool.get(lane.stream.group) if lane.stream.is_dynamic else None
            if pool and (not lane.ready or pool[0] < lane.ready[0]):
                self._take(number, pool[0][1])
            if lane.ready:
                _, action = heapq.heappop(lane.ready)
                end = self.time + self.cost[action.op, action.stage]
                self._record(number, action, end)
                lane.running, lane.ends = action, end
                rank = 0 if action.op.by_update else 1
                heapq.heappush(self.heap, (end, rank, action.index, number))
                self.idle.discard(number)

    def _record(self, number: int, action: Action, end: int) -> None:
        self.sequence[action] = len(self.sequence)
        self.times[action] = (self.time, end)
        self.lanes[number].order.append(action)
        if action.op is Op.F and action.stage == 0:
            self.runs_ahead = self._ahead()
            if action.index % self.diagram.repeats[1] == 0:
                self.started_first = action.index

    # -- recurrence -------------------------------------------------------------------------------

    def state(self, base: int) -> Hashable:
        """Everything that decides the future, relative to microbatch `base` and the present time."""
        update = base // self.diagram.every
        frontiers = tuple(f - (update if op.by_update else base) for (op, _), f in self.frontier.items())
        lanes = []
        for lane in self.lanes:
            running = lane.running
            relative = None
            if running is not None:
                relative = (
                    running.op,
                    running.stage,
                    running.index - (update if running.op.by_update else base),
                    lane.ends - self.time,
                )
            lanes.append((relative, lane.line, lane.iteration - base if lane.stream.body else 0))
        return frontiers, tuple(self.done.values()), tuple(lanes), self._taken_since(base)

    def _taken_since(self, base: int) -> tuple[tuple[int, int, int], ...]:
        """Who has taken which of the microbatches that are not through yet; forgets the others."""
        if not self.taken:
            return ()
        every = self.diagram.every
        oldest = min(f * (every if op.by_update else 1) for (op, _), f in self.frontier.items())
        self.taken = {key: number for key, number in self.taken.items() if key[1] >= oldest}
        return tuple(sorted((group, m - base, number) for (group, m), number in self.taken.items()))

    def _ahead(self) -> int | None:
        """The first stage whose forward is too far ahead of its backward, or else of its update."""
        diagram, forward = self.diagram, self.furthest
        for stage in range(diagram.stages):
            if forward[Op.F, stage] - self.frontier[diagram.gradient_op(stage), stage] > self.allowed:
                return stage
        for stage in range(diagram.stages):
            late = min(self.frontier[Op.U, stage] * diagram.every, self.frontier[Op.F, stage])
            if max(forward[Op.F, stage], forward[Op.F, 0]) - late > self.allowed:
                return stage
        return None


def _asked_for(diagram: Diagram) -> int:
    """How far apart, in microbatches, the schedule itself may keep a forward and its update."""
    offsets = [offset for stream in diagram.streams for _, _, offset in stream.body] or [0]
    limits = [limit or 0 for limit in diagram.in_flight]
    rules = 2 * (diagram.ahead + diagram.back + max(limits))
    return diagram.repeats[1] + rules + max(offsets) - min(offsets) + 2 * diagram.stages


def order_streams(diagram: Diagram, duration: Duration) -> Plan | Stuck:
    """Replays the diagram until its state recurs."""
    replay = Replay(diagram, duration)
    settle, _ = diagram.repeats
    seen: dict[Hashable, tuple[int, int, tuple[int, ...]]] = {}
    repeated = False
    for now in replay.instants():
        base = replay.started_first
        if len(replay.sequence) > replay.most:
            return Stuck("endless", replay)
        if base is None or replay.runs_ahead is not None:
            continue
        if min(f * (diagram.every if op.by_update else 1) for (op, _), f in replay.frontier.items()) < settle:
            continue
        state = replay.state(base)
        cuts = tuple(len(lane.order) for lane in replay.lanes)
        if state in seen and repeated:
            first, then, before = seen[state]
            orders = tuple(tuple(lane.order) for lane in replay.lanes)
            dynamic = any(stream.is_dynamic for stream in diagram.streams)
            chosen = {a: number for number, order in enumerate(orders) for a in order} if dynamic else {}
            plan = Plan(orders, before, first, base - first, now - then, replay.times, replay.sequence, chosen)
            return _cut_before_instant(plan, diagram.every)
        # One more round after the first recurrence: only then is also what led to the state the same.
        repeated = repeated or state in seen
        seen[state] = (base, now, cuts)
    return Stuck("deadlock", replay) if replay.runs_ahead is None else Stuck("ahead", replay, replay.runs_ahead)


def _cut_before_instant(plan: Plan, every: int) -> Plan:
    """Moves both cuts to before their instants, so that a body begins with what started the round."""
    now, then = (plan.times[Action(0, Op.F, m)][0] for m in (plan.start + plan.microbatches, plan.start))
    orders = tuple(tuple(a for a in order if plan.times[a][0] < now) for order in plan.orders)
    cuts = tuple(sum(plan.times[a][0] < then for a in order) for order in orders)
    return replace(plan, orders=orders, cuts=cuts)
