"""From the schedule to the dependency diagram of S stages: streams, data edges, rules, replicas, transfers."""

from __future__ import annotations

from math import lcm

from asyncpipe.errors import Report
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram, Index, Origin
from asyncpipe.passes.names import evaluate, span_of
from asyncpipe.passes.partition import Partition, partition_of
from asyncpipe.passes.place_streams import place_stages, place_streams
from asyncpipe.passes.rule_edges import MAX_REACH, Families, RuleEdges
from asyncpipe.passes.synchronise import add_synchronisation
from asyncpipe.passes.transfers import add_transfers
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.shape import MAX_MODULUS

__all__ = ["expand"]


def expand(schedule: Schedule, stages: int, report: Report) -> Diagram | None:
    """The diagram of `stages` stages, or None with the findings (AP110 to AP123) in the report."""
    devices, place = place_stages(schedule, stages, report)
    env = {"S": stages, "D": devices, "last": stages - 1, "every": schedule.update.every}
    recomputed = _span(schedule.recompute.mode != "none", schedule, "recompute", env, report)
    local = _span(schedule.aux.gradient != "chain", schedule, "aux", env, report)
    streams, assign, owner = place_streams(schedule, stages, devices, place, recomputed, report)
    families: Families = {key: [] for key in assign}
    in_flight = _in_flight(schedule, stages, devices, report)
    partition = partition_of(schedule, stages, owner, report)
    edges = RuleEdges(stages, schedule.update.every, env, families, report)
    data = _DataEdges(schedule, stages, edges, local)
    if not report.has_errors:
        data.add_all(in_flight)
        streams = add_synchronisation(schedule, place, edges, streams, assign, partition.exists)
    for rule in schedule.rules:
        edges.add_rule(rule)
    modulus = _modulus(schedule, edges, partition, report)
    if report.has_errors:
        return None
    streams = add_transfers(stages, edges, streams, assign, partition.exists, modulus // schedule.update.every, local)
    return Diagram(
        stages,
        devices,
        schedule.update.every,
        place,
        streams,
        {key: tuple(value) for key, value in families.items()},
        assign,
        (edges.settle, modulus),
        in_flight,
        tuple(families),
        edges.ahead,
        edges.back,
        partition.exists,
        partition.lowest,
        frozenset(local),
        frozenset(recomputed),
    )


def _span(wanted: bool, schedule: Schedule, key: str, env: dict[str, int], report: Report) -> range:
    if not wanted:
        return range(0)
    stages = getattr(schedule, key).stages
    if key == "aux" and env["S"] == 1 and key not in schedule.places:
        return range(0)
    return span_of(stages, env, f"`{key}`", schedule.where(key), report)


def _modulus(schedule: Schedule, edges: RuleEdges, partition: Partition, report: Report) -> int:
    """After how many microbatches rules, updates and the rounds of the streams look the same; AP118 if too many."""
    every = schedule.update.every
    counts = [
        (g.count * every if g.runs == (Op.U,) else g.count)
        for g in schedule.streams
        if not g.per and g.assign != "dynamic"
    ]
    modulus = lcm(every, edges.modulus, partition.modulus, *counts)
    if modulus > MAX_MODULUS:
        message = f"the schedule repeats only every {modulus:,} microbatches; at most {MAX_MODULUS:,} can be compiled"
        hint = "choose `every`, `count` and the divisors in rules so that they have a small common multiple"
        report.error("AP118", message, schedule.where("rules" if edges.modulus > every else "streams"), hint)
    return modulus


def _in_flight(schedule: Schedule, stages: int, devices: int, report: Report) -> tuple[int | None, ...]:
    if schedule.in_flight is None:
        return (None,) * stages
    where = schedule.where("in_flight")
    env = {"S": stages, "D": devices, "last": stages - 1}
    values = []
    for stage in range(stages):
        value = evaluate(schedule.in_flight, {**env, "s": stage}, "in_flight", where, report)
        if value is not None and not 1 <= value <= MAX_REACH:
            bound = "at least 1 microbatch" if value < 1 else f"at most {MAX_REACH:,} microbatches"
            message = f"expected {bound} in flight, found {value} for stage {stage} of {stages}"
            report.error("AP105", message, where, "as in in_flight: 3, or in_flight: S - s")
            value = None
        if value is None:
            return (None,) * stages
        values.append(value)
    return tuple(values)


def _offset(offset: int) -> Index:
    return lambda i, n: i + offset


class _DataEdges:
    """What always holds, and what `update`, `weights`, `recompute`, `aux` and `in_flight` say."""

    def __init__(self, schedule: Schedule, stages: int, edges: RuleEdges, local: range) -> None:
        self.schedule = schedule
        self.stages = stages
        self.every = schedule.update.every
        self.edges = edges
        self.local = local

    def add_all(self, in_flight: tuple[int | None, ...]) -> None:
        for s in range(self.stages):
            self._forward(s, in_flight[s])
            self._backward(s)
            self._update(s)

    def _has(self, op: Op, stage: int) -> bool:
        return (op, stage) in self.edges.families

    def _gradient(self, stage: int) -> Op:
        return Op.B if self._has(Op.B, stage) else Op.W

    def _back(self, stage: int) -> Op:
        return Op.B if self._has(Op.B, stage) else Op.I

    def _forward(self, s: int, limit: int | None) -> None:
        add, schedule = self.edges.add, self.schedule
        if s > 0:
            add((Op.F, s), (Op.F, s - 1), _offset(0), Origin("data flow"))
        if limit is not None:
            origin = Origin(f"in_flight: {limit}", schedule.where("in_flight"))
            add((Op.F, s), (self._gradient(s), s), _offset(-limit), origin)
            if s in self.local and s < self.stages - 1:
                add((Op.F, s), (Op.F, s + 1), _offset(-limit), origin)
        if schedule.weights.forward == "lag":
            lag = schedule.weights.lag
            origin = Origin(f"weights.forward: lag({lag})", schedule.where("weights"))
            add((Op.F, s), (Op.U, s), lambda m, n: m // self.every - 1 - lag, origin)
            # Before that, version 0 is read, which is newer than the one that the steady state would read.
            self.edges.settle = max(self.edges.settle, (lag + 1) * self.every)

    def _backward(self, s: int) -> None:
        add, data, same, back = self.edges.add, Origin("data flow"), _offset(0), self._back(s)
        if s < self.stages - 1 and s not in self.local:
            add((back, s), (self._back(s + 1), s + 1), same, data)
        add((back, s), (Op.F, s), same, data)
        if self._has(Op.R, s):
            add((Op.R, s), (Op.F, s), same, data)
            add((back, s), (Op.R, s), same, data)
        if self._gradient(s) is Op.W:
            add((Op.W, s), (Op.I, s), same, data)

    def _update(self, s: int) -> None:
        for k in range(self.every):
            origin = Origin("an update needs its gradients")
            self.edges.add((Op.U, s), (self._gradient(s), s), _microbatch_of(self.every, k), origin)
        if self.schedule.update.write == "ordered":
            origin = Origin("update.write: ordered", self.schedule.places.get("update"))
            self.edges.add((Op.U, s), (Op.U, s), _offset(-1), origin)


def _microbatch_of(every: int, k: int) -> Index:
    return lambda g, n: g * every + k if n is None or g * every + k < n else None
