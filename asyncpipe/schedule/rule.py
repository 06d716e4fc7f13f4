"""Rules (`F[s, m] after U[s, g-1] when m > 0`) and body entries (`B[s, m-2]`): text to data and back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from asyncpipe.errors import Position
from asyncpipe.ir import AUTHORED, Op
from asyncpipe.schedule.expression import (
    Expression,
    ExpressionError,
    Name,
    names,
    parse_condition,
    parse_expression,
)

__all__ = ["BodyEntry", "Rule", "parse_body_entry", "parse_rule"]

_CONSTANTS = ("S", "D", "last")
_TARGET_NAMES = {True: ("s", "g", "lo", "hi", *_CONSTANTS), False: ("s", "m", "g", "lo", "hi", *_CONSTANTS)}
_KNOWN = (*AUTHORED, Op.SYNC)
"""The ops that a rule may name; of the compiler's own, the synchronisation of replicas."""
_ALONE = {"target": "", "source": "; a rule has one source, and `when` before its condition", "entry": ""}
_REFERENCE = re.compile(r"\s*([A-Za-z_ ]*?)\s*\[([^\[\],]*),([^\[\],]*)\]\s*")


@dataclass(frozen=True)
class Rule:
    """One family of extra edges: every target waits for its sources.

    `target_stage` None means that the target binds `s` (all stages); `source_stage` None means `*`, all stages.
    """

    targets: tuple[Op, ...]
    target_stage: Expression | None
    source: Op
    source_stage: Expression | None
    source_index: Expression
    when: Expression | None = None
    where: Position | None = field(default=None, compare=False)

    @property
    def index(self) -> str:
        """The name of the target's second index: `m`, or `g` where the target counts updates."""
        return "g" if self.targets[0].by_update else "m"

    def __str__(self) -> str:
        target_stage = "s" if self.target_stage is None else str(self.target_stage)
        source_stage = "*" if self.source_stage is None else str(self.source_stage)
        condition = f" when {self.when}" if self.when else ""
        targets = " ".join(op.value for op in self.targets)
        target = f"{targets}{' ' if len(self.targets) > 1 else ''}[{target_stage}, {self.index}]"
        return f"{target} after {self.source}[{source_stage}, {self.source_index}]{condition}"


@dataclass(frozen=True)
class BodyEntry:
    """One line of a body: an op, its stage (None is `*`, the stream's stages in data order), and a microbatch."""

    op: Op
    stage: Expression | None
    index: Expression
    where: Position | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.op}[{'*' if self.stage is None else self.stage}, {self.index}]"


@dataclass(frozen=True)
class _Reference:
    ops: tuple[Op, ...]
    offset: int
    stage: Expression | None
    stage_offset: int
    index: Expression
    index_offset: int
    index_length: int


def parse_rule(text: str) -> Rule:
    """The rule that `text` states; ExpressionError with an offset into `text` for anything else."""
    match = re.search(r"\bafter\b", text)
    if match is None:
        raise ExpressionError("expected `target after source`, as in F[0, m] after U[*, g-1]", 0, len(text))
    when = re.search(r"\bwhen\b", text)
    target = _reference(text[: match.start()], 0, "target")
    end = when.start() if when else len(text)
    source = _reference(text[match.end() : end], match.end(), "source")
    _check_target(target)
    updates = target.ops[0].by_update
    if source.stage is not None:
        _check_names(source.stage, ("s", *_CONSTANTS), source.stage_offset)
    _check_names(source.index, _TARGET_NAMES[updates], source.index_offset)
    condition = None
    if when:
        condition = parse_condition(text[when.end() :], when.end())
        _check_names(condition, _TARGET_NAMES[updates], when.end())
    target_stage = None if target.stage == Name("s") else target.stage
    return Rule(target.ops, target_stage, source.ops[0], source.stage, source.index, condition)


def parse_body_entry(text: str) -> BodyEntry:
    """The body entry that `text` states; the index is always a microbatch, `U` is issued where it ends an update."""
    reference = _reference(text, 0, "entry")
    if reference.stage is not None:
        _check_names(reference.stage, ("s", "d", *_CONSTANTS), reference.stage_offset)
    _check_names(reference.index, ("m", "s", "d", *_CONSTANTS), reference.index_offset)
    return BodyEntry(reference.ops[0], reference.stage, reference.index)


def _reference(text: str, offset: int, what: str) -> _Reference:
    """`OP[stage, index]`; a target may have several ops."""
    match = _REFERENCE.match(text)
    if match is None:
        blank = len(text) - len(text.lstrip())
        found = repr(text.strip()) if text.strip() else "nothing"
        message = f"expected OP[stage, index] as {what}, found {found}"
        raise ExpressionError(message, offset + blank, max(1, len(text.strip())))
    if match.end() < len(text):
        rest = text[match.end() :].rstrip()
        message = f"unexpected {rest!r} after the {what}{_ALONE[what]}"
        raise ExpressionError(message, offset + match.end(), len(rest))
    ops = _ops(match, offset, what)
    star = match[2].strip() == "*"
    if star and what == "target":
        message = "`*` belongs to sources; for all stages, the stage of the target is s"
        raise ExpressionError(message, offset + match.start(2) + match[2].index("*"), 1)
    blank = len(match[3]) - len(match[3].lstrip())
    return _Reference(
        ops,
        offset + match.start(1),
        None if star else parse_expression(match[2], offset + match.start(2)),
        offset + match.start(2),
        parse_expression(match[3], offset + match.start(3)),
        offset + match.start(3) + blank,
        len(match[3].strip()),
    )


def _ops(match: re.Match[str], offset: int, what: str) -> tuple[Op, ...]:
    words = list(re.finditer(r"\S+", match[1]))
    if not words:
        raise ExpressionError("an op is missing before '['", offset + match.start(2) - 1)
    known = AUTHORED if what == "entry" else _KNOWN
    for word in words:
        if word[0] not in known:
            at = offset + match.start(1) + word.start()
            raise ExpressionError(f"unknown op {word[0]!r}; expected one of {', '.join(known)}", at, len(word[0]))
    if what != "target" and len(words) > 1:
        at = offset + match.start(1) + words[1].start()
        raise ExpressionError(f"unexpected {words[1][0]!r}: the {what} has one op", at, len(words[1][0]))
    return tuple(Op(word[0]) for word in words)


def _check_target(target: _Reference) -> None:
    updates = [op for op in target.ops if op.by_update]
    if 0 < len(updates) < len(target.ops):
        message = f"{updates[0]} counts updates, the other ops count microbatches: give each a rule of its own"
        raise ExpressionError(message, target.offset, sum(map(len, target.ops)) + len(target.ops) - 1)
    wanted = "g" if updates else "m"
    if target.index != Name(wanted):
        message = f"the second index of the target must be {wanted}; shift the source instead"
        raise ExpressionError(message, target.index_offset, target.index_length)
    if target.stage is not None and target.stage != Name("s"):
        _check_names(target.stage, _CONSTANTS, target.stage_offset)


def _check_names(expression: Expression, allowed: tuple[str, ...], offset: int) -> None:
    for name in names(expression):
        if name.name not in allowed:
            message = f"unknown name {name.name!r}; known here: {', '.join(allowed)}"
            raise ExpressionError(message, name.offset or offset, len(name.name))
