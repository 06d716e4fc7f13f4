"""Integer expressions and conditions of the schedule language: text, tree, value, and eventual shape.

    m - 2*(last - s)        g - 1        m % 2 == 0 and s < last

Operators: `+ - * // %` (floor division, as in Python), comparisons, `and`, `or`, `not` in conditions.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "Binary",
    "Expression",
    "ExpressionError",
    "Name",
    "Number",
    "Unary",
    "names",
    "parse_condition",
    "parse_expression",
]


class ExpressionError(ValueError):
    """The text is not an expression; `offset` and `length` say where in the text."""

    def __init__(self, message: str, offset: int, length: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length


@dataclass(frozen=True)
class Number:
    value: int

    def evaluate(self, env: Mapping[str, int]) -> int:
        return self.value

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class Name:
    name: str
    offset: int = field(default=0, compare=False)

    def evaluate(self, env: Mapping[str, int]) -> int:
        return env[self.name]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Unary:
    operator: str
    operand: Expression

    def evaluate(self, env: Mapping[str, int]) -> int:
        value = self.operand.evaluate(env)
        return -value if self.operator == "-" else int(not value)

    def __str__(self) -> str:
        inner = _wrapped(self.operand, _LEVELS[self.operator])
        return f"-{inner}" if self.operator == "-" else f"not {inner}"


@dataclass(frozen=True)
class Binary:
    operator: str
    left: Expression
    right: Expression

    def evaluate(self, env: Mapping[str, int]) -> int:
        return int(_OPERATIONS[self.operator](self.left.evaluate(env), self.right.evaluate(env)))

    def __str__(self) -> str:
        level = _LEVELS[self.operator]
        space = "" if self.operator in ("*", "//", "%") else " "
        left = _wrapped(self.left, level + (1 if self.operator in _COMPARISONS else 0))
        return f"{left}{space}{self.operator}{space}{_wrapped(self.right, level + 1)}"


Expression = Number | Name | Unary | Binary

_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_LEVELS = {
    "or": 1,
    "and": 2,
    "not": 3,
    **dict.fromkeys(_COMPARISONS, 4),
    "+": 5,
    "-": 5,
    "*": 6,
    "//": 6,
    "%": 6,
}
_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
}
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(//|==|!=|<=|>=|[-+*%()<>]))")
_WORDS = ("and", "or", "not")
_MAX_NUMBER = 10**6


def _level(expression: Expression) -> int:
    if isinstance(expression, Unary):
        return 7 if expression.operator == "-" else 3
    return _LEVELS[expression.operator] if isinstance(expression, Binary) else 8


def _wrapped(expression: Expression, level: int) -> str:
    text = str(expression)
    return text if _level(expression) >= level else f"({text})"


def names(expression: Expression) -> Iterator[Name]:
    """Every name in the expression, from left to right."""
    if isinstance(expression, Name):
        yield expression
    elif isinstance(expression, Unary):
        yield from names(expression.operand)
    elif isinstance(expression, Binary):
        yield from names(expression.left)
        yield from names(expression.right)


def parse_expression(text: str, offset: int = 0) -> Expression:
    """The arithmetic expression that `text` holds; ExpressionError, with offsets shifted by `offset`, if none."""
    return _Parser(text, offset).whole(5)


def parse_condition(text: str, offset: int = 0) -> Expression:
    """The condition (comparisons joined by and, or, not) that `text` holds; ExpressionError if none."""
    condition = _Parser(text, offset).whole(1)
    if _level(condition) >= 5:
        raise ExpressionError(f"expected a comparison such as m % 2 == 0, found {text.strip()!r}", offset, len(text))
    return condition


class _Parser:
    """Precedence climbing over the tokens of one line."""

    def __init__(self, text: str, offset: int) -> None:
        self.tokens = list(_tokens(text, offset))
        self.end = offset + len(text)
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def take(self) -> tuple[str, int]:
        if self.position >= len(self.tokens):
            raise ExpressionError("the expression ends too early: a number or a name is missing", self.end)
        self.position += 1
        return self.tokens[self.position - 1]

    def whole(self, level: int) -> Expression:
        expression = self.binary(level, 0)
        if self.position < len(self.tokens):
            text, offset = self.tokens[self.position]
            raise ExpressionError(f"unexpected {text!r}", offset, len(text))
        return expression

    def binary(self, level: int, depth: int) -> Expression:
        left = self.unary(level, depth)
        while level <= _LEVELS.get(self.peek(), 0) and self.peek() != "not":
            sign, offset = self.take()
            right = self.binary(_LEVELS[sign] + 1, depth)
            left = Binary(sign, left, right)
            if sign in _COMPARISONS and self.peek() in _COMPARISONS:
                raise ExpressionError("comparisons cannot be chained", offset, len(sign))
        return left

    def unary(self, level: int, depth: int) -> Expression:
        if depth > 50:
            raise ExpressionError("nested too deeply", self.tokens[self.position][1])
        text, offset = self.take()
        if text == "not" and level <= 3:
            return Unary("not", self.binary(3, depth + 1))
        if text == "-":
            return Unary("-", self.unary(7, depth + 1))
        if text == "(":
            inner = self.binary(1 if level < 5 else 5, depth + 1)
            closing, where = self.take()
            if closing != ")":
                raise ExpressionError(f"expected ')', found {closing!r}", where, len(closing))
            return inner
        if text.isdigit():
            return _number(text, offset)
        if text[0].isalpha() and text not in _WORDS:
            return Name(text, offset)
        raise ExpressionError(f"expected a number, a name or '(', found {text!r}", offset, len(text))


def _number(text: str, offset: int) -> Number:
    if len(text) > 7 or int(text) > _MAX_NUMBER:
        raise ExpressionError(f"the number is larger than {_MAX_NUMBER:,}", offset, len(text))
    return Number(int(text))


def _tokens(text: str, offset: int) -> Iterator[tuple[str, int]]:
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            blank = len(text[position:]) - len(text[position:].lstrip())
            found = text[position + blank]
            raise ExpressionError(f"{found!r} has no meaning in an expression", offset + position + blank)
        yield match[match.lastindex or 0], offset + match.start(match.lastindex or 0)
        position = match.end()
