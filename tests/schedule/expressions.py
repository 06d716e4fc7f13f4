"""Random expressions and conditions of the schedule language, as hypothesis makes and shrinks them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

from asyncpipe.schedule.expression import Binary, Expression, ExpressionError, Name, Number, Unary

__all__ = ["arithmetic", "conditions", "tree_or_offset"]

COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
Tree = TypeVar("Tree")


def tree_or_offset(parse: Callable[[str], Tree], text: str) -> Tree | int:
    """What the text means, or where its error is."""
    try:
        return parse(text)
    except ExpressionError as error:
        return error.offset


@cache
def arithmetic(names: tuple[str, ...], most: int = 10**6, leaves: int = 12) -> st.SearchStrategy[Expression]:
    """Expressions with a number as their value."""
    leaf = st.one_of(st.builds(Number, st.integers(0, most)), st.builds(Name, st.sampled_from(names)))

    def extended(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        binary = st.builds(Binary, st.sampled_from(("+", "-", "*", "//", "%")), inner, inner)
        return st.one_of(st.builds(Unary, st.just("-"), inner), binary)

    return st.recursive(leaf, extended, max_leaves=leaves)


@cache
def conditions(names: tuple[str, ...], most: int = 10**6, leaves: int = 4) -> st.SearchStrategy[Expression]:
    """Comparisons, joined by and, or, not."""
    number = arithmetic(names, most, leaves=leaves)

    def extended(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        joined = st.builds(Binary, st.sampled_from(("and", "or")), inner, inner)
        return st.one_of(st.builds(Unary, st.just("not"), inner), joined)

    return st.recursive(st.builds(Binary, st.sampled_from(COMPARISONS), number, number), extended, max_leaves=leaves)
