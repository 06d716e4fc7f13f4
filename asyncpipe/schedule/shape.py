"""How an expression behaves for a growing index: from where on, with which period, and how steeply.

Schedules are endless, so the compiler must know that a rule repeats. Every expression of the language is, from some
index on, a line plus a periodic remainder: value(i) = slope * i + r(i mod modulus) for i >= settle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

from asyncpipe.schedule.expression import Binary, Expression, Name, Number, Unary, names

__all__ = ["MAX_MODULUS", "NotPeriodicError", "Shape", "shape_of"]

MAX_MODULUS = 4096


class NotPeriodicError(ValueError):
    """The expression never settles into a line plus a periodic remainder."""


@dataclass(frozen=True)
class Shape:
    """value(i) = slope * i + r(i mod modulus) for every i >= settle."""

    settle: int
    modulus: int
    slope: Fraction


_CONSTANT = Shape(0, 1, Fraction(0))


def shape_of(expression: Expression, env: Mapping[str, int], shapes: Mapping[str, Shape], index: str) -> Shape:
    """The shape of `expression` as a function of `index`.

    `env` gives the constants, `shapes` the shape of every name that depends on the index (`m`, `g`, `lo`, `hi`).
    Raises NotPeriodicError for products and quotients of indices, and where a period would exceed MAX_MODULUS.
    """
    if isinstance(expression, Number):
        return _CONSTANT
    if isinstance(expression, Name):
        return shapes.get(expression.name, _CONSTANT)
    if isinstance(expression, Unary):
        inner = shape_of(expression.operand, env, shapes, index)
        return Shape(inner.settle, inner.modulus, -inner.slope if expression.operator == "-" else Fraction(0))
    left = shape_of(expression.left, env, shapes, index)
    right = shape_of(expression.right, env, shapes, index)
    modulus = lcm(left.modulus, right.modulus)
    both = Shape(max(left.settle, right.settle), modulus, Fraction(0))
    return _checked(_combine(expression, both, left, right, env, shapes, index))


def _checked(shape: Shape) -> Shape:
    if shape.modulus > MAX_MODULUS:
        raise NotPeriodicError(f"it repeats only every {shape.modulus} indices; at most {MAX_MODULUS} are allowed")
    return shape


def _combine(
    expression: Binary,
    both: Shape,
    left: Shape,
    right: Shape,
    env: Mapping[str, int],
    shapes: Mapping[str, Shape],
    index: str,
) -> Shape:
    sign = expression.operator
    if sign in ("+", "-"):
        return Shape(both.settle, both.modulus, left.slope + right.slope * (1 if sign == "+" else -1))
    if sign in ("and", "or"):
        return both
    if sign in ("*", "//", "%"):
        return _scaled(expression, both, left, right, env, shapes)
    difference = Binary("-", expression.left, expression.right)
    slope = left.slope - right.slope
    return both if slope == 0 else _crossing(difference, both, slope, env, index)


def _scaled(
    expression: Binary, both: Shape, left: Shape, right: Shape, env: Mapping[str, int], shapes: Mapping[str, Shape]
) -> Shape:
    """Products and quotients with one side that does not depend on the index."""
    fixed_left, fixed_right = (_is_fixed(side, shapes) for side in (expression.left, expression.right))
    if expression.operator == "*":
        if not fixed_left and not fixed_right:
            raise NotPeriodicError("it multiplies an index by an index")
        factor = (expression.left if fixed_left else expression.right).evaluate(env)
        return Shape(both.settle, both.modulus, (right if fixed_left else left).slope * factor)
    if not fixed_right:
        raise NotPeriodicError("it divides by an index")
    divisor = expression.right.evaluate(env)
    if divisor == 0:
        raise ZeroDivisionError
    modulus = lcm(both.modulus, abs(divisor) * left.slope.denominator) if left.slope else both.modulus
    slope = left.slope / divisor if expression.operator == "//" else Fraction(0)
    return Shape(both.settle, modulus, slope)


def _is_fixed(expression: Expression, shapes: Mapping[str, Shape]) -> bool:
    return not any(name.name in shapes for name in names(expression))


def _crossing(
    difference: Expression,
    both: Shape,
    slope: Fraction,
    env: Mapping[str, int],
    index: str,
) -> Shape:
    """A comparison of two lines is constant from the index on where they cannot cross any more."""
    _checked(both)
    span = range(both.settle, both.settle + both.modulus)
    remainders = [abs(difference.evaluate(_bind(env, index, i)) - slope * i) for i in span]
    return Shape(max(both.settle, ceil(max(remainders) / abs(slope)) + 1), both.modulus, Fraction(0))


def _bind(env: Mapping[str, int], index: str, value: int) -> Mapping[str, int]:
    """`env` with the index and all that follows from it: g, lo, hi of microbatch m, or lo, hi of update g."""
    every = env["every"]
    update = value // every if index == "m" else value
    return {**env, "m": value, "g": update, "lo": update * every, "hi": update * every + every - 1}
