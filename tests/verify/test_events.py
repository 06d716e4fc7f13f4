"""AP3xx: programs as text, whole and with one line gone, moved or doubled."""

from __future__ import annotations

import re

import pytest

from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.errors import Diagnostic, Report
from asyncpipe.schedule import library, load
from asyncpipe.verify.events import read_program


def findings(text: str) -> list[Diagnostic]:
    report = Report()
    read_program(text, "mine.l2", report)
    return report.diagnostics


def compiled(name: str, stages: int | None = None) -> Compiled:
    return compile_schedule(load(name), stages)


@pytest.mark.parametrize("name", library())
def test_programs_of_the_library_pass(name: str) -> None:
    found = compiled(name)
    for program in (found.program(), found.sample_program(), found.program(3)):
        assert findings(str(program)) == []


@pytest.mark.parametrize("name", ["async-lu", "sgd-overlap", "pd-asgd-devices", "1f1b"])
def test_no_wait_and_no_record_is_superfluous(name: str) -> None:
    """Without any one of them an edge is uncovered, or a wait comes before its record: the answer names the line."""
    program = compiled(name, 3).sample_program()
    lines = str(program).splitlines()
    rules = {"async-lu", "pd-asgd-devices"}  # whose waits all follow from data, slots and updates; no rule adds any
    for number, line in enumerate(lines):
        if " record " in line or (" wait " in line and name in rules):
            found = findings("\n".join(lines[:number] + lines[number + 1 :]))
            assert found, line
            assert {d.code for d in found} <= {"AP301", "AP302"}
            assert all(d.where is not None for d in found)


def test_wait_before_its_record_is_named_with_both_lines_text() -> None:
    lines = str(compiled("async-lu", 3).program()).splitlines()
    record = lines.index("  forward record 2F0")
    wait = lines.index("  backward[0] wait 2F0")
    lines[record : wait + 1] = [lines[wait], *lines[record:wait]]
    (found,) = findings("\n".join(lines))
    assert found.code == "AP301"
    assert found.message == "backward[0] waits for 2F0 before its event is recorded: on CUDA such a wait does nothing"
    assert found.where is not None
    assert found.where.line == record + 1


@pytest.mark.parametrize(
    ("pattern", "replacement", "code", "message"),
    [
        (r"  forward launch 1F0\n", r"\g<0>\g<0>", "AP303", "1F0 is launched twice"),
        ("record 2F0", "record 1F0", "AP304", "forward records 1F0, but the last that it launched is 2F0"),
        ("launch 2F0", "lunch 2F0", "AP300", "expected a line such as '  forward launch 0F0', found"),
        ("launch 2F0", "launch 2X0", "AP300", "expected an action such as 2F0, found '2X0'"),
        (r"weights latest latest\n", "", "AP300", "expected a line such as 'weights latest latest', found 'gradient'"),
    ],
)
def test_changed_program_is_refused_with_its_line(pattern: str, replacement: str, code: str, message: str) -> None:
    text = str(compiled("async-lu", 3).program())
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    first = findings(changed)[0]
    assert first.code == code
    assert first.message.startswith(message)
    assert first.where is not None
    assert first.where.line > 1
