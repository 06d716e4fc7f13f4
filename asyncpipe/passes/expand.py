"""From the schedule to the dependency diagram of S stages: data edges, in_flight, rules."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import lcm

from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily, Origin
from asyncpipe.passes.place_streams import evaluate, place_stages, place_streams
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.expression import Expression, Name
from asyncpipe.schedule.rule import Rule
from asyncpipe.schedule.shape import NotPeriodicError, Shape, shape_of
from asyncpipe.schedule.source import Report

__all__ = ["expand"]

Families = dict[tuple[Op, int], list[EdgeFamily]]
Index = Callable[[int, int | None], int | None]


def expand(schedule: Schedule, stages: int, report: Report) -> Diagram | None:
    """The diagram of `stages` stages, or None with the findings (AP110 to AP121) in the report."""
    devices, place = place_stages(schedule, stages, report)
    streams, assign = place_streams(schedule, stages, devices, place, report)
    families: Families = {key: [] for key in assign}
    in_flight = _in_flight(schedule, stages, devices, report)
    if report.has_errors:
        return None
    builder = _Builder(schedule, stages, devices, families, report)
    builder.data_edges()
    builder.in_flight_edges(in_flight)
    for rule in schedule.rules:
        builder.rule_edges(rule)
    if report.has_errors:
        return None
    counts = [len([s for s in streams if s.group == g]) for g, group in enumerate(schedule.streams) if not group.per]
    modulus = lcm(schedule.update.every, builder.modulus, *counts, *(count * schedule.update.every for count in counts))
    return Diagram(
        stages,
        devices,
        schedule.update.every,
        place,
        streams,
        {key: tuple(value) for key, value in families.items()},
        assign,
        (builder.settle, modulus),
        in_flight,
        tuple(families),
    )


def _in_flight(schedule: Schedule, stages: int, devices: int, report: Report) -> tuple[int | None, ...]:
    if schedule.in_flight is None:
        return (None,) * stages
    env = {"S": stages, "D": devices, "last": stages - 1}
    values = tuple(evaluate(schedule.in_flight, {**env, "s": s}, report, schedule, "in_flight") for s in range(stages))
    for stage, value in enumerate(values):
        if value < 1:
            message = f"in_flight: {schedule.in_flight} is {value} for stage {stage} of {stages}"
            report.error("AP105", message, schedule.where("in_flight"), "at least 1")
            break
    return values


def _offset(offset: int) -> Index:
    return lambda i, n: i + offset


class _Builder:
    def __init__(self, schedule: Schedule, stages: int, devices: int, families: Families, report: Report) -> None:
        self.schedule = schedule
        self.stages = stages
        self.every = schedule.update.every
        self.families = families
        self.report = report
        self.env = {"S": stages, "D": devices, "last": stages - 1, "every": self.every}
        self.settle = 0
        self.modulus = 1

    def add(self, target: tuple[Op, int], source: tuple[Op, int], index: Index, origin: Origin) -> None:
        self.families[target].append(EdgeFamily(source[0], source[1], index, origin))

    def gradient_op(self, stage: int) -> Op:
        return Op.B if (Op.B, stage) in self.families else Op.W

    def backward_op(self, stage: int) -> Op:
        return Op.B if (Op.B, stage) in self.families else Op.I

    def data_edges(self) -> None:
        data = Origin("data flow")
        same = _offset(0)
        for s in range(self.stages):
            back, gradient = self.backward_op(s), self.gradient_op(s)
            if s > 0:
                self.add((Op.F, s), (Op.F, s - 1), same, data)
            if s < self.stages - 1:
                self.add((back, s), (self.backward_op(s + 1), s + 1), same, data)
            self.add((back, s), (Op.F, s), same, data)
            if gradient is Op.W:
                self.add((Op.W, s), (Op.I, s), same, data)
            for k in range(self.every):
                self.add((Op.U, s), (gradient, s), self._microbatch_of(k), Origin("an update needs its gradients"))
            if self.schedule.update.write == "ordered":
                self.add((Op.U, s), (Op.U, s), _offset(-1), Origin("write: ordered", self.schedule.where("update")))

    def _microbatch_of(self, k: int) -> Index:
        every = self.every
        return lambda g, n: g * every + k if n is None or g * every + k < n else None

    def in_flight_edges(self, in_flight: tuple[int | None, ...]) -> None:
        for s, limit in enumerate(in_flight):
            if limit is not None:
                origin = Origin(f"in_flight: {limit}", self.schedule.where("in_flight"))
                self.add((Op.F, s), (self.gradient_op(s), s), _offset(-limit), origin)

    def rule_edges(self, rule: Rule) -> None:
        if not self._ops_exist(rule):
            return
        targets = self._stages_of(rule.target_stage, {}, rule, range(self.stages))
        for op in rule.targets:
            for s in targets:
                if (op, s) in self.families:
                    self._rule_edges_of(rule, op, s)

    def _ops_exist(self, rule: Rule) -> bool:
        known = {op for op, _ in self.families}
        missing = [op for op in (*rule.targets, rule.source) if op not in known]
        for op in dict.fromkeys(missing):
            message = f"the rule names {op} ({op.words}), which no stream runs"
            self.report.error("AP115", message, rule.where, f"the schedule runs {', '.join(sorted(known))}")
        return not missing

    def _stages_of(self, stage: Expression | None, env: dict[str, int], rule: Rule, every_stage: range) -> list[int]:
        """The stages that an expression names; a constant out of range is an error, a shifted one just vanishes."""
        if stage is None:
            return list(every_stage)
        try:
            value = stage.evaluate({**self.env, **env})
        except ZeroDivisionError:
            self.report.error("AP110", f"{stage} divides by zero for S = {self.stages}", rule.where)
            return []
        if 0 <= value < self.stages:
            return [value]
        if not env or not _mentions(stage, "s"):
            message = f"stage {value} is out of range: there are stages 0 to {self.stages - 1}"
            self.report.error("AP114", message, rule.where, "use `last` for the last stage")
        return []

    def _rule_edges_of(self, rule: Rule, op: Op, s: int) -> None:
        origin = Origin(str(rule), rule.where)
        for source_stage in self._stages_of(rule.source_stage, {"s": s}, rule, range(self.stages)):
            env = {**self.env, "s": s if rule.source_stage is not None else source_stage}
            if self._settles(rule, env) and (rule.source, source_stage) in self.families:
                self.add((op, s), (rule.source, source_stage), self._rule_index(rule, env), origin)

    def _rule_index(self, rule: Rule, env: dict[str, int]) -> Index:
        every, microbatches, expression, when = self.every, rule.index == "m", rule.source_index, rule.when

        def index(i: int, n: int | None) -> int | None:
            update = i // every if microbatches else i
            lo = update * every
            hi = lo + every - 1 if n is None else min(lo + every, n) - 1
            scope = {**env, "m": i, "g": update, "lo": lo, "hi": hi}
            if when is not None and not when.evaluate(scope):
                return None
            return expression.evaluate(scope)

        return index

    def _settles(self, rule: Rule, env: dict[str, int]) -> bool:
        """Whether the rule repeats; its settling point and period go into the diagram's."""
        per_update = Fraction(1, self.every)
        one = Fraction(1)
        microbatches = rule.index == "m"
        update = Shape(0, self.every if microbatches else 1, per_update if microbatches else one)
        bounds = Shape(0, self.every if microbatches else 1, one if microbatches else Fraction(self.every))
        shapes = {"m": Shape(0, 1, one), "g": update, "lo": bounds, "hi": bounds}
        unit = 1 if microbatches else self.every
        try:
            shape = shape_of(rule.source_index, env, shapes, rule.index)
            for part in (shape, shape_of(rule.when, env, shapes, rule.index)) if rule.when else (shape,):
                self.settle = max(self.settle, part.settle * unit)
                self.modulus = lcm(self.modulus, part.modulus * unit)
        except NotPeriodicError as error:
            self.report.error(
                "AP118", f"the rule never repeats: {error}", rule.where, "an index may grow by 1 a microbatch"
            )
            return False
        except ZeroDivisionError:
            self.report.error("AP110", "the rule divides by zero", rule.where)
            return False
        expected = unit * (per_update if rule.source is Op.U else one)
        if shape.slope != expected:
            message = (
                f"{rule.source_index} grows by {shape.slope} for each {rule.index}; {rule.source} grows by {expected}"
            )
            self.report.error("AP118", message, rule.where, "the waiting would drift without bound")
            return False
        return True


def _mentions(expression: Expression, name: str) -> bool:
    from asyncpipe.schedule.expression import names

    return any(found == Name(name) for found in names(expression))
