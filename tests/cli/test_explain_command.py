"""`asyncpipe explain`: the page of a code, the list of codes, and what a wrong code gets."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout

import pytest

from asyncpipe.cli import cli
from asyncpipe.cli.failures import exit_code_of
from asyncpipe.codes import GROUPS, Page, catalog, find
from tests.command_line import Outcome, invoke


@pytest.mark.parametrize("name", ["AP201", "ap201", "Ap201", "201", " AP201 "])
def test_page_is_found_by_code_and_by_number(name: str) -> None:
    assert invoke("explain", name) == Outcome(0, find("AP201").text, "")


@pytest.mark.parametrize("page", catalog(), ids=lambda page: page.code)
def test_every_page_is_printed_as_it_is_written(page: Page) -> None:
    assert invoke("explain", page.code) == Outcome(0, page.text, "")


def test_several_codes_are_explained_in_the_order_asked() -> None:
    assert invoke("explain", "202", "AP101") == Outcome(0, f"{find('AP202').text}\n{find('AP101').text}", "")


def test_list_has_every_code_with_its_title_under_its_hundred() -> None:
    outcome = invoke("explain")
    assert (outcome.code, outcome.stderr) == (0, "")
    *groups, last = outcome.stdout.split("\n\n")
    assert last == "`asyncpipe explain AP201` explains one of them.\n"
    rows = [re.fullmatch(r"  (AP\d{3})  (.+)", row) for group in groups for row in group.splitlines()[1:]]
    assert [row.groups() for row in rows if row] == [(page.code, page.title) for page in catalog()]
    assert len(rows) == len(catalog())
    for group in groups:
        head, *below = group.splitlines()
        assert head == f"{head[:5]}  {GROUPS[head[:5]]}"
        assert {row.strip()[:3] for row in below} == {head[:3]}


def test_json_has_the_pages_asked_for_or_all() -> None:
    page = find("AP201")
    row = {"code": "AP201", "group": GROUPS["AP2xx"], "title": page.title, "page": page.text}
    assert json.loads(invoke("explain", "201", "--json").stdout) == {"schema": "asyncpipe.explain/1", "codes": [row]}
    document = json.loads(invoke("explain", "--json").stdout)
    assert [found["code"] for found in document["codes"]] == [page.code for page in catalog()]
    assert row in document["codes"]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("AP209", "no diagnostic has the code AP209", f"the nearest is AP202 ({find('AP202').title})"),
        ("ap200", "no diagnostic has the code AP200", f"the nearest is AP201 ({find('AP201').title})"),
        ("000", "no diagnostic has the code AP000", f"the nearest is AP100 ({find('AP100').title})"),
        ("deadlock", "expected a diagnostic code, found 'deadlock'", "a code is AP and three digits, as in AP201"),
        ("AP2011", "expected a diagnostic code, found 'AP2011'", "a code is AP and three digits, as in AP201"),
        ("../AP201", "expected a diagnostic code, found '../AP201'", "a code is AP and three digits, as in AP201"),
        ("٢٠١", "expected a diagnostic code, found '٢٠١'", "a code is AP and three digits, as in AP201"),
    ],
)
def test_unknown_code_is_a_usage_error_with_a_hint(name: str, message: str, hint: str) -> None:
    text = f"error: {message}\n  help: {hint}; `asyncpipe explain` lists all of them\n"
    assert invoke("explain", "AP201", name) == Outcome(2, "", text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colored", [True, False])
def test_page_is_formatted_on_a_terminal(colored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colored:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLORTERM", raising=False)
    terminal = Terminal()
    with redirect_stdout(terminal):
        assert exit_code_of(lambda: cli.main(["explain", "AP201"], standalone_mode=False)) == 0
    text = terminal.getvalue()
    assert bool(re.search(r"\x1b\[(\d+;)*[39]\dm", text)) is colored
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "AP201: deadlock" in plain
    assert "```" not in plain
    assert "## " not in plain
    assert max(len(line) for line in plain.splitlines()) <= 120
