"""Rules and body entries: text to data and back, and which names hold where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncpipe.ir import AUTHORED, Op
from asyncpipe.schedule.expression import ExpressionError, Name, parse_condition, parse_expression
from asyncpipe.schedule.rule import BodyEntry, Rule, parse_body_entry, parse_rule
from tests.schedule.expressions import arithmetic, conditions, tree_or_offset

CONSTANTS = ("S", "D", "last")
OF_MICROBATCHES = ("s", "m", "g", "lo", "hi", *CONSTANTS)
OF_UPDATES = ("s", "g", "lo", "hi", *CONSTANTS)
NAMED = (*AUTHORED, Op.SYNC)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    updates = draw(st.booleans())
    several = st.lists(st.sampled_from([op for op in NAMED if op.by_update is updates]), min_size=1, max_size=4)
    bound = OF_UPDATES if updates else OF_MICROBATCHES
    return Rule(
        tuple(draw(several)),
        draw(st.none() | arithmetic(CONSTANTS, leaves=3)),
        draw(st.sampled_from(NAMED)),
        draw(st.none() | arithmetic(("s", *CONSTANTS), leaves=3)),
        draw(arithmetic(bound, leaves=4)),
        draw(st.none() | conditions(bound, leaves=3)),
    )


@settings(max_examples=50)
@given(rules())
def test_rule_reads_back(rule: Rule) -> None:
    assert parse_rule(str(rule)) == rule
    squeezed = str(rule).replace(", ", ",").replace(" [", "[")
    assert parse_rule(f" {squeezed} ") == rule


@given(
    st.sampled_from(AUTHORED),
    st.none() | arithmetic(("s", "d", *CONSTANTS), leaves=4),
    arithmetic(("m", "s", "d", *CONSTANTS), leaves=5),
)
def test_body_entry_reads_back(op: Op, stage: object, index: object) -> None:
    entry = BodyEntry(op, stage, index)  # type: ignore[arg-type]
    assert parse_body_entry(str(entry)) == entry


def test_parts_of_a_rule_are_found() -> None:
    rule = parse_rule("F B [last, m] after U[*, g-1] when m % 2 == 0")
    assert rule == Rule(
        (Op.F, Op.B),
        Name("last"),
        Op.U,
        None,
        parse_expression("g - 1"),
        parse_condition("m % 2 == 0"),
    )
    assert (rule.index, str(rule)) == ("m", "F B [last, m] after U[*, g - 1] when m%2 == 0")


@pytest.mark.parametrize("target", ["U", "SYNC", "U SYNC "])
def test_target_that_counts_updates_binds_g(target: str) -> None:
    rule = parse_rule(f"{target}[s, g] after SYNC[s, g-1]")
    assert (rule.index, str(rule)) == ("g", f"{target}[s, g] after SYNC[s, g - 1]")


def test_target_stage_s_means_every_stage() -> None:
    assert parse_rule("U[s, g] after B[0, hi]").target_stage is None
    assert parse_rule("U[s, g] after B[0, hi]").index == "g"
    assert str(parse_rule("U[ s ,g]after B[0,hi]")) == "U[s, g] after B[0, hi]"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("^F[0, m]", "expected `target after source`, as in F[0, m] after U[*, g-1]"),
        ("^F[0, m] afterwards U[0, g]", "expected `target after source`, as in F[0, m] after U[*, g-1]"),
        ("F[0, m] after^", "expected OP[stage, index] as source, found nothing"),
        ("^after U[0, g]", "expected OP[stage, index] as target, found nothing"),
        ("^F[0] after U[0, g]", "expected OP[stage, index] as target, found 'F[0]'"),
        ("^F(0, m) after U[0, g]", "expected OP[stage, index] as target, found 'F(0, m)'"),
        ("^F[0, m, 1] after U[0, g]", "expected OP[stage, index] as target, found 'F[0, m, 1]'"),
        ("^F[0, [m]] after U[0, g]", "expected OP[stage, index] as target, found 'F[0, [m]]'"),
        ("^[0, m] after U[0, g]", "an op is missing before '['"),
        ("^f[0, m] after U[0, g]", "unknown op 'f'; expected one of F, B, I, W, U, R, SYNC"),
        ("F ^SEND [0, m] after U[0, g]", "unknown op 'SEND'; expected one of F, B, I, W, U, R, SYNC"),
        ("F[0, m] after ^SEND_F[0, m]", "unknown op 'SEND_F'; expected one of F, B, I, W, U, R, SYNC"),
        ("F[0, m] ^then after U[0, g]", "unexpected 'then' after the target"),
        (
            "F[0, m] after U[0, g] ^B[0, m]",
            "unexpected 'B[0, m]' after the source; a rule has one source, and `when` before its condition",
        ),
        ("F[0, m] after U ^B [0, g]", "unexpected 'B': the source has one op"),
        ("F[ ^*, m] after U[0, g]", "`*` belongs to sources; for all stages, the stage of the target is s"),
        ("F[0, ^*] after U[0, g]", "expected a number, a name or '(', found '*'"),
        ("F[0, m] after U[0, ^*]", "expected a number, a name or '(', found '*'"),
        ("F[0, ^0 ] after U[0, g]", "the second index of the target must be m; shift the source instead"),
        ("U[0, ^m] after U[0, g]", "the second index of the target must be g; shift the source instead"),
        (
            "^U F [s, g] after U[0, g]",
            "U counts updates, the other ops count microbatches: give each a rule of its own",
        ),
        (
            "^F SYNC [s, m] after U[0, g]",
            "SYNC counts updates, the other ops count microbatches: give each a rule of its own",
        ),
        ("SYNC[0, ^m] after U[0, g]", "the second index of the target must be g; shift the source instead"),
        ("F[^m, m] after U[0, g]", "unknown name 'm'; known here: S, D, last"),
        ("F[1+ ^s, m] after U[0, g]", "unknown name 's'; known here: S, D, last"),
        ("F[0, m] after U[^g, g]", "unknown name 'g'; known here: s, S, D, last"),
        ("U[0, g] after U[0, ^m]", "unknown name 'm'; known here: s, g, lo, hi, S, D, last"),
        ("U[0, g] after U[0, g] when ^m > 1", "unknown name 'm'; known here: s, g, lo, hi, S, D, last"),
        ("F[0, m] after U[0, g] when 1 < ^d", "unknown name 'd'; known here: s, m, g, lo, hi, S, D, last"),
        ("F[0, m] after U[0, g] when^", "the expression ends too early: a number or a name is missing"),
        ("F[0, m] after U[0, g] when ^m", "expected a comparison such as m % 2 == 0, found `m`"),
    ],
)
def test_error_of_a_rule_names_its_place(marked: str, message: str) -> None:
    """The ^ is where the caret begins; it is no part of the text."""
    with pytest.raises(ExpressionError) as caught:
        parse_rule(marked.replace("^", ""))
    assert (caught.value.message, caught.value.offset) == (message, marked.index("^"))


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("F[s, m] F[s, m]", 8, "unexpected 'F[s, m]' after the entry"),
        ("F[s, g]", 5, "unknown name 'g'; known here: m, s, d, S, D, last"),
        ("F[m, m]", 2, "unknown name 'm'; known here: s, d, S, D, last"),
        ("F B [s, m]", 2, "unexpected 'B': the entry has one op"),
        ("F", 0, "expected OP[stage, index] as entry, found 'F'"),
        ("SYNC[*, m]", 0, "unknown op 'SYNC'; expected one of F, B, I, W, U, R"),
    ],
)
def test_error_of_a_body_entry_names_its_place(text: str, offset: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_body_entry(text)
    assert (caught.value.message, caught.value.offset) == (message, offset)


@given(st.text("FBIWURSYNC_[], smgafterwhn-+*<=0123456789", max_size=40))
def test_any_text_is_a_rule_or_an_error_inside_it(text: str) -> None:
    for parse in (parse_rule, parse_body_entry):
        parsed = tree_or_offset(parse, text)
        assert 0 <= parsed <= len(text) if isinstance(parsed, int) else parse(str(parsed)) == parsed
