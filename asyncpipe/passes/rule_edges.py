"""Rules as edges: which families of waits they add, whether they repeat, and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from asyncpipe.errors import Report
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import EdgeFamily, Index, Origin
from asyncpipe.passes.names import evaluate, stages_text
from asyncpipe.schedule.expression import Expression, Name, names
from asyncpipe.schedule.rule import Rule
from asyncpipe.schedule.shape import NotPeriodicError, Shape, shape_of

__all__ = ["MAX_REACH", "Families", "RuleEdges"]

Families = dict[tuple[Op, int], list[EdgeFamily]]
MAX_SETTLE = 16_384
"""A rule must have its final form by then: the replay runs through everything before."""
MAX_REACH = 4096
"""How far, in microbatches, a rule or `in_flight` may reach: what no longer reaches before the first is the body."""


@dataclass
class RuleEdges:
    """Adds the edges of rules to `families`, and notes when, after how long and within which reach they repeat."""

    stages: int
    every: int
    env: dict[str, int]
    families: Families
    report: Report
    settle: int = 0
    modulus: int = 1
    ahead: int = 0
    back: int = 0

    def add(self, target: tuple[Op, int], source: tuple[Op, int], index: Index, origin: Origin) -> None:
        self.families[target].append(EdgeFamily(source[0], source[1], index, origin))

    def add_rule(self, rule: Rule) -> None:
        if not self._ops_exist(rule):
            return
        targets = self._stages_of(rule.target_stage, {}, rule, range(self.stages))
        for op in rule.targets:
            for s in targets:
                if (op, s) in self.families:
                    self._rule_edges_of(rule, op, s)

    def _ops_exist(self, rule: Rule) -> bool:
        known = {op for op, _ in self.families}
        sides = [(op, rule.target_stage) for op in rule.targets] + [(rule.source, rule.source_stage)]
        missing = {op: text for op, stage in sides if (text := self._without(op, stage)) is not None}
        for op, text in missing.items():
            message = f"the rule names {op} ({op.words}){text}, which no stream runs"
            runs = ", ".join(o for o in Op if o in known and not o.is_transfer)
            hint = f"the streams run {runs}" if op is not Op.SYNC else "SYNC exists with two `replicas` or more"
            self.report.error("AP115", message, rule.where, hint)
        return not missing

    def _without(self, op: Op, stage: Expression | None) -> str | None:
        """Where no stream runs `op`: nowhere, or not for the one stage that the rule names; None if one does."""
        if not any(op is known for known, _ in self.families):
            return ""
        if stage is None or _mentions(stage, "s"):
            return None
        value = evaluate(stage, self.env, "rule", None, Report())
        if value is None or (op, value) in self.families or not 0 <= value < self.stages:
            return None
        return f" of stage {value}"

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
        expected = unit * (per_update if rule.source.by_update else one)
        if shape.slope != expected:
            message = (
                f"the source's index {rule.source_index} advances by {shape.slope} for each {rule.index}, not by"
                f" {expected}: the wait would drift without bound"
            )
            index = "g" if rule.source.by_update else "m" if microbatches else "lo or hi"
            self.report.error("AP118", message, rule.where, f"use {index} plus or minus a constant")
            return False
        return self._is_within_reach(rule, env, shape)

    def _is_within_reach(self, rule: Rule, env: dict[str, int], shape: Shape) -> bool:
        """Notes how far ahead and back of its target the source can lie, in microbatches; AP118 beyond MAX_REACH."""
        unit, per = (1 if rule.index == "m" else self.every), (self.every if rule.source.by_update else 1)
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
    return any(found == Name(name) for found in names(expression))
