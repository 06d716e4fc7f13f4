"""Shapes of expressions against their values: a line plus a periodic remainder from `settle` on."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpipe.schedule.expression import Expression, parse_condition, parse_expression
from asyncpipe.schedule.shape import MAX_MODULUS, NotPeriodicError, Shape, shape_of
from tests.schedule.expressions import arithmetic, conditions

CONSTANTS = {"S": 4, "D": 2, "last": 3, "s": 1}
INDICES = ("m", "g", "lo", "hi")
BOUND = (*INDICES, *CONSTANTS)


def shapes_of_names(index: str, every: int) -> dict[str, Shape]:
    """As the compiler states them: of a rule whose target counts microbatches, or updates."""
    if index == "m":
        steps = Shape(0, every, Fraction(1))
        return {"m": Shape(0, 1, Fraction(1)), "g": Shape(0, every, Fraction(1, every)), "lo": steps, "hi": steps}
    steps = Shape(0, 1, Fraction(every))
    return {"m": Shape(0, 1, Fraction(1)), "g": Shape(0, 1, Fraction(1)), "lo": steps, "hi": steps}


def scope(index: str, every: int, value: int) -> dict[str, int]:
    g = value // every if index == "m" else value
    return {**CONSTANTS, "every": every, "m": value, "g": g, "lo": g * every, "hi": g * every + every - 1}


def shape_or_none(expression: Expression, index: str, every: int) -> Shape | None:
    try:
        return shape_of(expression, {**CONSTANTS, "every": every}, shapes_of_names(index, every), index)
    except (NotPeriodicError, ZeroDivisionError):
        return None


def check(expression: Expression, index: str, every: int) -> None:
    shape = shape_or_none(expression, index, every)
    if shape is None:
        return
    assert 1 <= shape.modulus <= MAX_MODULUS
    first = min(shape.settle, 100_000)
    window = [*range(min(3 * shape.modulus, 60)), shape.modulus - 1, 997]
    for i in (shape.settle + offset for offset in window) if first == shape.settle else ():
        step = expression.evaluate(scope(index, every, i + shape.modulus)) - expression.evaluate(scope(index, every, i))
        assert step == shape.slope * shape.modulus


@given(arithmetic(BOUND, most=7, leaves=6), st.sampled_from(["m", "g"]), st.integers(1, 5))
def test_expression_repeats_as_its_shape_says(expression: Expression, index: str, every: int) -> None:
    check(expression, index, every)


@given(conditions(BOUND, most=30, leaves=4), st.sampled_from(["m", "g"]), st.integers(1, 5))
def test_condition_repeats_as_its_shape_says(condition: Expression, index: str, every: int) -> None:
    check(condition, index, every)


@pytest.mark.parametrize(
    ("text", "every", "shape"),
    [
        ("7", 1, Shape(0, 1, Fraction(0))),
        ("S - s", 3, Shape(0, 1, Fraction(0))),
        ("m - 5", 3, Shape(0, 1, Fraction(1))),
        ("2*m - 3*g", 4, Shape(0, 4, Fraction(5, 4))),
        ("g - 1", 4, Shape(0, 4, Fraction(1, 4))),
        ("hi", 4, Shape(0, 4, Fraction(1))),
        ("m // 2", 1, Shape(0, 2, Fraction(1, 2))),
        ("m % 6", 1, Shape(0, 6, Fraction(0))),
        ("(m % 4) * 2 + m % 6", 1, Shape(0, 12, Fraction(0))),
        ("(m + m // 2) // 2", 1, Shape(0, 4, Fraction(3, 4))),
        ("-m", 1, Shape(0, 1, Fraction(-1))),
        ("m - m", 1, Shape(0, 1, Fraction(0))),
    ],
)
def test_shape_of_an_expression(text: str, every: int, shape: Shape) -> None:
    assert shape_or_none(parse_expression(text), "m", every) == shape


@pytest.mark.parametrize(
    ("text", "least", "modulus"),
    [
        ("m > 10", 11, 1),
        ("m % 2 == 0", 0, 2),
        ("m % 2 == 0 and m // 3 < 20", 60, 6),
        ("not m == 5", 6, 1),
        ("2*m <= m + 40", 41, 1),
        ("m == m", 0, 1),
    ],
)
def test_condition_settles_once_its_sides_cannot_cross_any_more(text: str, least: int, modulus: int) -> None:
    shape = shape_or_none(parse_condition(text), "m", 1)
    assert shape is not None
    assert (shape.modulus, shape.slope) == (modulus, Fraction(0))
    assert least <= shape.settle <= 2 * least + 3
    check(parse_condition(text), "m", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m * m", "it multiplies an index by an index"),
        ("m * (m - m)", "it multiplies an index by an index"),
        ("7 // m", "it divides by an index"),
        ("m % (g + 1)", "it divides by an index"),
        ("m % 4097", "it repeats only every 4097 indices; at most 4096 are allowed"),
        ("m % 64 + m % 65", "it repeats only every 4160 indices; at most 4096 are allowed"),
    ],
)
def test_what_never_repeats_is_refused(text: str, message: str) -> None:
    with pytest.raises(NotPeriodicError, match=f"^{message}$".replace("+", r"\+")):
        shape_of(parse_expression(text), {"every": 1}, shapes_of_names("m", 1), "m")


@pytest.mark.parametrize("text", ["m // 0", "m % 0", "3 % 0", "7 // (S - 4)", "m % (s - 1)"])
def test_division_by_zero_is_found(text: str) -> None:
    with pytest.raises(ZeroDivisionError):
        shape_of(parse_expression(text), {**CONSTANTS, "every": 1}, shapes_of_names("m", 1), "m")
