"""The patterns of the editor schema against the parsers of the language inside scalars."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from asyncpipe.schedule.expression import Expression, ExpressionError
from asyncpipe.schedule.json_schema import (
    BODY_ENTRY_PATTERN,
    LAYERS_PATTERN,
    NUMBER_PATTERN,
    RULE_PATTERN,
    expression_pattern,
    span_pattern,
)
from asyncpipe.schedule.kinds import fraction
from asyncpipe.schedule.rule import parse_body_entry, parse_rule
from tests.schedule.expressions import arithmetic

NAMES = ("s", "S", "D", "last")


@given(arithmetic(NAMES, leaves=6))
def test_every_expression_matches_its_pattern(expression: Expression) -> None:
    for text in (str(expression), f" {expression}\t", str(expression).replace(" ", "")):
        assert re.search(expression_pattern(*NAMES), text)
        assert re.search(span_pattern(*NAMES), text)
        assert re.search(span_pattern(*NAMES), f"{text} .. {text}")


@pytest.mark.parametrize("text", ["q", "s + last1", "S.", "2s", "s = 1", "S/2", "", " ", "m", "1,2", "lasts"])
def test_other_names_and_signs_do_not_match(text: str) -> None:
    assert not re.search(expression_pattern(*NAMES), text)
    assert not re.search(span_pattern(*NAMES), text)


@pytest.mark.parametrize(
    "text",
    [
        "F[0, m] after U[*, g-1]",
        "F [s,m]after U [ s , g - 4 ]  when m > 0 and s < last",
        " F B I W [s, m] after B[0, m-1] ",
        "U[s, g] after B[0, hi]",
        "F[(last + 1)//2, m] after U[s, g-1] when m % 2 == 0",
    ],
)
def test_rules_match_their_pattern(text: str) -> None:
    parse_rule(text)
    assert re.search(RULE_PATTERN, text)


@pytest.mark.parametrize(
    "text", ["F[0, m]", "F[0] after U[*, g-1]", "F[0, m] after", "after U[0, g]", "f[s, m] after U[s, g]"]
)
def test_what_has_not_the_form_of_a_rule_does_not_match(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_rule(text)
    assert not re.search(RULE_PATTERN, text)


@pytest.mark.parametrize("text", ["B[s, m-2*(last-s)]", " U [ *,m ] ", "F[d, m]"])
def test_body_entries_match_their_pattern(text: str) -> None:
    parse_body_entry(text)
    assert re.search(BODY_ENTRY_PATTERN, text)
    assert not re.search(BODY_ENTRY_PATTERN, text + " U")


@pytest.mark.parametrize("text", ["1", "0.5", ".5", "1e-3", "1/3", "+2", " 7 ", "1_000", "2.", "1E5", "-0", "3/1_0"])
def test_numbers_match_their_pattern(text: str) -> None:
    assert fraction(text) is not None
    assert re.search(NUMBER_PATTERN, text)


@pytest.mark.parametrize("text", ["", "one", "1/3/4", "1:2", "e3", "0x10", "inf", "nan"])
def test_what_is_no_number_does_not_match(text: str) -> None:
    assert fraction(text) is None
    assert not re.search(NUMBER_PATTERN, text)


def test_layers_match_their_pattern() -> None:
    assert all(re.search(LAYERS_PATTERN, text) for text in ("0", "0-2", " 3 - 4 "))
    assert not any(re.search(LAYERS_PATTERN, text) for text in ("", "-2", "0-", "a", "1-2-3"))


def test_patterns_are_quick_on_long_texts() -> None:
    """Without nested repetition: an editor matches them on every key stroke."""
    for pattern in (expression_pattern(*NAMES), span_pattern(*NAMES), RULE_PATTERN, BODY_ENTRY_PATTERN, NUMBER_PATTERN):
        for text in ("1" * 5000 + "x", "s + " * 2000 + "!", " " * 5000, "F " * 2000 + "[", "last" * 1000):
            assert re.search(pattern, text) is None
