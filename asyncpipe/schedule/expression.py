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
        inner = _wrapped(self.operand, _level(self))
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
_MAX_TOKENS = 200
_ARITHMETIC = 5
"""The lowest level of what has a number as its value; conditions lie below."""
_INSTEAD = {
    "/": "; // divides and rounds down",
    ".": "; numbers are integers",
    "=": "; == compares",
    "&": "; write `and`",
    "|": "; write `or`",
    "!": "; write `not`, or !=",
}


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
    return _Parser(text, offset).whole(condition=False)


def parse_condition(text: str, offset: int = 0) -> Expression:
    """The condition (comparisons joined by and, or, not) that `text` holds; ExpressionError if none."""
    return _Parser(text, offset).whole(condition=True)


class _Parser:
    """Precedence climbing over the tokens of one line."""

    def __init__(self, text: str, offset: int) -> None:
        self.tokens = list(_tokens(text, offset))
        self.end = offset + len(text)
        self.position = 0
        if len(self.tokens) > _MAX_TOKENS:
            raise ExpressionError(f"longer than {_MAX_TOKENS} numbers, names and signs", self.tokens[_MAX_TOKENS][1])

    def peek(self) -> str:
        return self.tokens[self.position][0] if self.position < len(self.tokens) else ""

    def take(self) -> tuple[str, int]:
        if self.position >= len(self.tokens):
            raise ExpressionError("the expression ends too early: a number or a name is missing", self.end)
        self.position += 1
        return self.tokens[self.position - 1]

    def whole(self, *, condition: bool) -> Expression:
        expression = self.binary(1, 0)
        if self.position < len(self.tokens):
            text, offset = self.tokens[self.position]
            raise ExpressionError(f"unexpected {text!r}", offset, len(text))
        self.require(expression, 0, condition=condition)
        return expression

    def require(self, expression: Expression, first: int, *, condition: bool) -> None:
        """Conditions and numbers do not mix: `m and 3` or `1 + (m < 3)` is no sense, but a slip."""
        if (_level(expression) < _ARITHMETIC) is not condition:
            start, (text, last) = self.tokens[first][1], self.tokens[self.position - 1]
            expected = "a comparison such as m % 2 == 0" if condition else "a number"
            raise ExpressionError(f"expected {expected}, found `{expression}`", start, last + len(text) - start)

    def binary(self, level: int, depth: int) -> Expression:
        first = self.position
        left = self.unary(level, depth)
        while level <= _LEVELS.get(self.peek(), 0) and self.peek() != "not":
            self.require(left, first, condition=self.peek() in _WORDS)
            sign, _ = self.take()
            second = self.position
            right = self.binary(_LEVELS[sign] + 1, depth)
            self.require(right, second, condition=sign in _WORDS)
            left = Binary(sign, left, right)
            if sign in _COMPARISONS and self.peek() in _COMPARISONS:
                text, offset = self.tokens[self.position]
                raise ExpressionError("comparisons cannot be chained; join two by `and`", offset, len(text))
        return left

    def unary(self, level: int, depth: int) -> Expression:
        if depth > 50:
            raise ExpressionError("nested too deeply", self.tokens[self.position - 1][1])
        text, offset = self.take()
        if text == "not" and level <= 3:
            return self.sign("not", 3, depth)
        if text == "-":
            return self.sign("-", 7, depth)
        if text == "(":
            inner = self.binary(1, depth + 1)
            closing, where = self.take()
            if closing != ")":
                raise ExpressionError(f"expected ')', found {closing!r}", where, len(closing))
            return inner
        if text.isdigit():
            return _number(text, offset)
        if text[0].isalpha() and text not in _WORDS:
            return Name(text, offset)
        raise ExpressionError(f"expected a number, a name or '(', found {text!r}", offset, len(text))

    def sign(self, sign: str, level: int, depth: int) -> Unary:
        first = self.position
        operand = self.binary(level, depth + 1)
        self.require(operand, first, condition=sign == "not")
        return Unary(sign, operand)


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
            more = _INSTEAD.get(found, "")
            raise ExpressionError(f"{found!r} has no meaning in an expression{more}", offset + position + blank)
        yield match[match.lastindex or 0], offset + match.start(match.lastindex or 0)
        position = match.end()
