"""Random schedules with one thing changed, which may make them wrong."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import strategies as st

from tests.compiler.random_rules import rules
from tests.compiler.random_schedules import Case, cases

__all__ = ["mutants"]


@st.composite
def mutants(draw: st.DrawFn) -> Case:
    """A schedule with one thing changed: a rule gone or new, an index moved, lines of a body swapped, a count."""
    case = draw(cases())
    lines = case.text.splitlines()
    ways = [_add_rule, _add_rule, _shift_number, _swap_lines, _swap_cells, _change_count, _delete_line]
    changed = draw(draw(st.sampled_from(ways))(lines, case))
    return replace(case, text="\n".join(changed) + "\n")


def _matching(lines: list[str], pattern: str) -> list[int]:
    return [i for i, line in enumerate(lines) if re.search(pattern, line)]


@st.composite
def _delete_line(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "^  - |^in_flight")
    gone = draw(st.sampled_from(found)) if found else -1
    left = [line for i, line in enumerate(lines) if i != gone]
    return left if _matching(left, "^  - ") else [line for line in left if line != "rules:"]


@st.composite
def _add_rule(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    rule = f"  - {draw(rules(case.ops))}"
    at = lines.index("rules:") if "rules:" in lines else None
    return [*lines, "rules:", rule] if at is None else [*lines[: at + 1], rule, *lines[at + 1 :]]


@st.composite
def _shift_number(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, r"^  - .*\d|^in_flight.*\d|body:.*\d")
    if not found:
        return lines
    line = draw(st.sampled_from(found))
    number = draw(st.sampled_from(list(re.finditer(r"\d+", lines[line]))))
    moved = max(0, int(number[0]) + draw(st.sampled_from([-2, -1, 1, 2, 10])))
    return [*lines[:line], lines[line][: number.start()] + str(moved) + lines[line][number.end() :], *lines[line + 1 :]]


@st.composite
def _swap_lines(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "body:")
    if not found:
        return lines
    head, body = lines[found[0]].split("body: ")
    shuffled = draw(st.permutations(re.findall(r'"[^"]*"', body)))
    return [*lines[: found[0]], f"{head}body: [{', '.join(shuffled)}]}}", *lines[found[0] + 1 :]]


@st.composite
def _change_count(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    found = _matching(lines, "count: |every: ")
    if not found:
        return lines
    line = draw(st.sampled_from(found))
    changed = re.sub(r"(count|every): \d+", rf"\1: {draw(st.integers(1, 5))}", lines[line])
    return [*lines[:line], changed, *lines[line + 1 :]]


@st.composite
def _swap_cells(draw: st.DrawFn, lines: list[str], case: Case) -> list[str]:
    """Two actions of one row of a table change places."""
    found = _matching(lines, r"table: \[")
    if not found:
        return lines
    row = draw(st.sampled_from(re.findall(r'"[^"]*"', lines[found[0]])))
    cells = row.strip('"').split()
    i, j = (draw(st.integers(0, len(cells) - 1)) for _ in "ij")
    cells[i], cells[j] = cells[j], cells[i]
    changed = lines[found[0]].replace(row, f'"{" ".join(cells)}"')
    return [*lines[: found[0]], changed, *lines[found[0] + 1 :]]
