"""Expressions: text to tree and back, Python's values, and errors under the right characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpipe.schedule.expression import (
    Binary,
    Expression,
    ExpressionError,
    Name,
    Number,
    Unary,
    names,
    parse_condition,
    parse_expression,
)
from tests.schedule.expressions import arithmetic, conditions, tree_or_offset

NAMES = ("m", "g", "lo", "hi", "s", "S", "D", "last", "every", "Not_1")
ENVIRONMENT = {"m": 17, "g": 4, "lo": 16, "hi": 19, "s": 2, "S": 5, "D": 2, "last": 4, "every": 4, "Not_1": 0}


def value_of(expression: Expression) -> int | None:
    try:
        return expression.evaluate(ENVIRONMENT)
    except ZeroDivisionError:
        return None


@given(arithmetic(NAMES))
def test_expression_reads_back(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression
    assert parse_expression(f"  ({expression} ) ") == expression


@given(conditions(NAMES))
def test_condition_reads_back(condition: Expression) -> None:
    assert parse_condition(str(condition)) == condition


@given(arithmetic(NAMES))
def test_expression_has_the_value_that_python_gives_to_its_text(expression: Expression) -> None:
    value = value_of(expression)
    if value is None:
        with pytest.raises(ZeroDivisionError):
            eval(str(expression), {}, ENVIRONMENT)
    else:
        assert eval(str(expression), {}, ENVIRONMENT) == value


@given(conditions(NAMES))
def test_condition_has_the_value_that_python_gives_to_its_text(condition: Expression) -> None:
    value = value_of(condition)
    if value is not None:  # Python does not evaluate what `and` and `or` need not, so it may not divide by zero
        assert eval(str(condition), {}, ENVIRONMENT) is bool(value)


@pytest.mark.parametrize(
    "text",
    [
        "1 - 2 - 3",
        "1 - (2 - 3)",
        "2*3 + 4*5 % 3",
        "2 * (3 + 4) // 5",
        "-7 // 2",
        "-(7 // 2)",
        "7 // -2",
        "-7 % 3",
        "7 % -3",
        "--3",
        "- -3*-2",
        "2 - -3",
        "100 // 7 // 2",
        "100 // (7 // 2)",
        "100 % 7 * 2",
        "m - 2*(last - s)",
    ],
)
def test_precedence_and_floor_are_those_of_python(text: str) -> None:
    expected = eval(text, {}, ENVIRONMENT)
    assert parse_expression(text).evaluate(ENVIRONMENT) == expected
    assert parse_expression(str(parse_expression(text))).evaluate(ENVIRONMENT) == expected


@pytest.mark.parametrize(
    "text",
    [
        "m > 3",
        "m % 2 == 0 and s < last",
        "not m == 17 or s == 2 and g == 0",
        "(not m == 17 or s == 2) and g == 0",
        "not (m == 17 or s == 2)",
        "not not m == 17",
        "m + 1 >= 2*g + 10",
        "m != 17 or -m <= -17",
    ],
)
def test_conditions_bind_as_in_python(text: str) -> None:
    assert parse_condition(text).evaluate(ENVIRONMENT) == eval(text, {}, ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("m-2*(last-s)", "m - 2*(last - s)"),
        (" ( ( m ) ) ", "m"),
        ("m  %2", "m%2"),
        ("s*D//S", "s*D//S"),
        ("-(7//2)", "-(7//2)"),
        ("(-7)//2", "-7//2"),
        ("0<1and(1<2)", "0 < 1 and 1 < 2"),
        ("0<1 and(1<2 or not(2<1))", "0 < 1 and (1 < 2 or not 2 < 1)"),
    ],
)
def test_text_is_canonical(text: str, canonical: str) -> None:
    parse = parse_condition if "<" in text else parse_expression
    assert str(parse(text)) == canonical


def test_names_come_from_left_to_right_with_their_places() -> None:
    assert [(name.name, name.offset) for name in names(parse_expression("m - 2*(last - s) % m", 10))] == [
        ("m", 10),
        ("last", 17),
        ("s", 24),
        ("m", 29),
    ]


@pytest.mark.parametrize(
    ("text", "offset", "length", "message"),
    [
        ("", 0, 1, "the expression ends too early: a number or a name is missing"),
        ("3 *", 3, 1, "the expression ends too early: a number or a name is missing"),
        ("(3 + 4", 6, 1, "the expression ends too early: a number or a name is missing"),
        ("3 4", 2, 1, "unexpected '4'"),
        ("last)", 4, 1, "unexpected ')'"),
        ("(3 last)", 3, 4, "expected ')', found 'last'"),
        ("3 + * 4", 4, 1, "expected a number, a name or '(', found '*'"),
        ("3 + not 4", 4, 3, "expected a number, a name or '(', found 'not'"),
        ("and", 0, 3, "expected a number, a name or '(', found 'and'"),
        ("_x", 0, 2, "expected a number, a name or '(', found '_x'"),
        ("m $ 2", 2, 1, "'$' has no meaning in an expression"),
        ("m / 2", 2, 1, "'/' has no meaning in an expression; // divides and rounds down"),
        ("1.5", 1, 1, "'.' has no meaning in an expression; numbers are integers"),
        ("m - 1000001", 4, 7, "the number is larger than 1,000,000"),
        ("m - 99999999999", 4, 11, "the number is larger than 1,000,000"),
        ("m < 3", 0, 5, "expected a number, found `m < 3`"),
        ("1 + (m < 3)", 4, 7, "expected a number, found `m < 3`"),
        ("-(m < 3)", 1, 7, "expected a number, found `m < 3`"),
    ],
)
def test_error_of_an_expression_names_its_place(text: str, offset: int, length: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, 100)
    assert caught.value.message == message
    assert (caught.value.offset - 100, caught.value.length) == (offset, length)


@pytest.mark.parametrize(
    ("text", "offset", "length", "message"),
    [
        ("m", 0, 1, "expected a comparison such as m % 2 == 0, found `m`"),
        (" m % 2 ", 1, 5, "expected a comparison such as m % 2 == 0, found `m%2`"),
        ("m == 1 and g", 11, 1, "expected a comparison such as m % 2 == 0, found `g`"),
        ("m or g == 1", 0, 1, "expected a comparison such as m % 2 == 0, found `m`"),
        ("not m", 4, 1, "expected a comparison such as m % 2 == 0, found `m`"),
        ("1 < m < 3", 6, 1, "comparisons cannot be chained; join two by `and`"),
        ("1 < 2 == 3", 6, 2, "comparisons cannot be chained; join two by `and`"),
        ("(1 < m) < 3", 0, 7, "expected a number, found `1 < m`"),
        ("m = 3", 2, 1, "'=' has no meaning in an expression; == compares"),
    ],
)
def test_error_of_a_condition_names_its_place(text: str, offset: int, length: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_condition(text)
    assert (caught.value.message, caught.value.offset, caught.value.length) == (message, offset, length)


@pytest.mark.parametrize("text", ["(" * 60 + "m" + ")" * 60, "-" * 60 + "m", "(" * 51])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="nested too deeply"):
        parse_expression(text)


def test_long_expressions_are_refused_and_the_longest_allowed_works() -> None:
    longest = "m" + " + m" * 99
    expression = parse_expression(longest)
    assert expression.evaluate({"m": 1}) == 100
    assert parse_expression(str(expression)) == expression
    with pytest.raises(ExpressionError, match="longer than 200"):
        parse_expression("1 + " + longest)


@given(st.text("mgs()+-*/%<>=! 0123456789andornot", max_size=20))
def test_any_text_is_an_expression_or_an_error_inside_it(text: str) -> None:
    for parse in (parse_expression, parse_condition):
        parsed = tree_or_offset(parse, text)
        assert 0 <= parsed <= len(text) if isinstance(parsed, int) else parse(str(parsed)) == parsed


def test_trees_compare_by_content() -> None:
    assert parse_expression("m + 1") == Binary("+", Name("m", 99), Number(1))
    assert parse_expression("-m") == Unary("-", Name("m")) != parse_expression("0 - m")
