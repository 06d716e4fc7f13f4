"""From the schedule to the dependency diagram of S stages: data edges, in_flight, rules."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import lcm

from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram, EdgeFamily, Origin
from asyncpipe.passes.place_streams import evaluate, place_stages, place_streams, stages_text
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.expression import Expression, Name
from asyncpipe.schedule.rule import Rule
from asyncpipe.schedule.shape import MAX_MODULUS, NotPeriodicError, Shape, shape_of
from asyncpipe.schedule.source import Report

__all__ = ["expand"]

Families = dict[tuple[Op, int], list[EdgeFamily]]
Index = Callable[[int, int | None], int | None]
MAX_SETTLE = 16_384
"""A rule must have its final form by then: the replay runs through everything before."""
MAX_REACH = 4096
"""How far, in microbatches, a rule or `in_flight` may reach: what no longer reaches before the first is the body."""


def expand(schedule: Schedule, stages: int, report: Report) -> Diagram | None:
    """The diagram of `stages` stages, or None with the findings (AP110 to AP121) in the report."""
    devices, place = place_stages(schedule, stages, report)
    streams, assign = place_streams(schedule, stages, devices, place, report)
    families: Families = {key: [] for key in assign}
    in_flight = _in_flight(schedule, stages, devices, report)
    builder = _Builder(schedule, stages, devices, families, report)
    if not report.has_errors:
        builder.data_edges()
        builder.in_flight_edges(in_flight)
    for rule in schedule.rules:
        builder.rule_edges(rule)
    modulus = _modulus(schedule, builder, report)
    if report.has_errors:
        return None
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
        builder.ahead,
        builder.back,
    )


def _modulus(schedule: Schedule, builder: _Builder, report: Report) -> int:
    """After how many microbatches rules, updates and the rounds of the streams look the same; AP118 if too many."""
    every = schedule.update.every
    counts = [(g.count * every if g.runs == (Op.U,) else g.count) for g in schedule.streams if not g.per]
    modulus = lcm(every, builder.modulus, *counts)
    if modulus > MAX_MODULUS:
        message = f"the schedule repeats only every {modulus:,} microbatches; at most {MAX_MODULUS:,} can be compiled"
        hint = "choose `every`, `count` and the divisors in rules so that they have a small common multiple"
        report.error("AP118", message, schedule.where("rules" if builder.modulus > every else "streams"), hint)
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
        self.ahead = 0
        self.back = 0

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
                self.add(
                    (Op.U, s),
                    (Op.U, s),
                    _offset(-1),
                    Origin("update.write: ordered", self.schedule.places.get("update")),
                )

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
            self.report.error("AP115", message, rule.where, f"the streams run {', '.join(o for o in Op if o in known)}")
        return not missing

    def _stages_of(self, stage: Expression | None, env: dict[str, int], rule: Rule, every_stage: range) -> list[int]:
        """The stages that an expression names; a constant out of range is an error, a shifted one just vanishes."""
        if stage is None:
            return list(every_stage)
        value = evaluate(stage, {**self.env, **env}, "rule", rule.where, self.report)
        if value is None:
            return []
        if 0 <= value < self.stages:
            return [value]
        if not env or not _mentions(stage, "s"):
            message = f"the rule names stage {value}; there are {stages_text(range(self.stages))}"
            self.report.error("AP114", message, rule.where, "use `last` for the last stage")
        return []

    def _rule_edges_of(self, rule: Rule, op: Op, s: int) -> None:
        origin = Origin(str(rule), rule.where)
        for source_stage in self._stages_of(rule.source_stage, {"s": s}, rule, range(self.stages)):
            env = {**self.env, "s": s if rule.source_stage is not None else source_stage}
            if self._settles(rule, env) and (rule.source, source_stage) in self.families:
                self.add((op, s), (rule.source, source_stage), self._rule_index(rule, env), origin)

    def _rule_index(self, rule: Rule, env: dict[str, int]) -> Index:
        """The source's index; where it comes by `hi` from a short last update, that update's own last microbatch.

        Otherwise `lo` and `hi` are those of a whole update: a run of any length has the edges of an endless one.
        """
        expression, when, clamps = rule.source_index, rule.when, _mentions(rule.source_index, "hi")

        def index(i: int, n: int | None) -> int | None:
            scope = self._scope(rule, env, i)
            if when is not None and not when.evaluate(scope):
                return None
            value = expression.evaluate(scope)
            return n - 1 if clamps and n is not None and n <= value <= scope["hi"] else value

        return index

    def _scope(self, rule: Rule, env: dict[str, int], i: int) -> dict[str, int]:
        """The names of an expression for the target's index i."""
        update = i // self.every if rule.index == "m" else i
        lo = update * self.every
        return {**env, "m": i, "g": update, "lo": lo, "hi": lo + self.every - 1}

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
            condition = shape_of(rule.when, env, shapes, rule.index) if rule.when else shape
        except NotPeriodicError as error:
            hint = "an index is m or g plus a constant; conditions may use %"
            self.report.error("AP118", f"the rule never repeats: {error}", rule.where, hint)
            return False
        except ZeroDivisionError:
            self.report.error("AP110", f"the rule divides by zero for S = {self.stages}", rule.where)
            return False
        settle = unit * max(shape.settle, condition.settle)
        if settle > MAX_SETTLE:
            message = f"the rule changes as late as microbatch {settle:,}; it must settle before {MAX_SETTLE:,}"
            self.report.error("AP118", message, rule.where, "let its condition compare with a smaller number")
            return False
        self.settle = max(self.settle, settle)
        self.modulus = lcm(self.modulus, shape.modulus * unit, condition.modulus * unit)
        expected = unit * (per_update if rule.source is Op.U else one)
        if shape.slope != expected:
            message = (
                f"the source's index {rule.source_index} advances by {shape.slope} for each {rule.index}, not by"
                f" {expected}: the wait would drift without bound"
            )
            index = "g" if rule.source is Op.U else "m" if microbatches else "lo or hi"
            self.report.error("AP118", message, rule.where, f"use {index} plus or minus a constant")
            return False
        return self._is_within_reach(rule, env, shape)

    def _is_within_reach(self, rule: Rule, env: dict[str, int], shape: Shape) -> bool:
        """Notes how far ahead and back of its target the source can lie, in microbatches; AP118 beyond MAX_REACH."""
        unit, per = (1 if rule.index == "m" else self.every), (self.every if rule.source is Op.U else 1)
        span = range(shape.settle + shape.modulus)
        offsets = [rule.source_index.evaluate(self._scope(rule, env, i)) * per - i * unit for i in span]
        back, ahead = unit - 1 - min(offsets), max(offsets) + per - 1
        if max(back, ahead) > MAX_REACH:
            far = f"{back:,} microbatches back" if back > ahead else f"{ahead:,} microbatches ahead"
            self.report.error("AP118", f"the rule reaches {far}; at most {MAX_REACH:,} can be compiled", rule.where)
            return False
        self.ahead, self.back = max(self.ahead, ahead), max(self.back, back)
        return True


def _mentions(expression: Expression, name: str) -> bool:
    from asyncpipe.schedule.expression import names

    return any(found == Name(name) for found in names(expression))
