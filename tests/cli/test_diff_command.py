"""`asyncpipe diff`: its text compared whole, its JSON, and what counts as a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.analysis.difference import OrderChange, changed_edges, changed_order
from asyncpipe.compiler import Compiled, compile_schedule
from asyncpipe.ir import parse_action
from asyncpipe.schedule import Schedule, library, load_text
from asyncpipe.schedule.difference import KeyChange, changed_keys
from asyncpipe.schedule.source import Report
from tests.command_line import Outcome, invoke

MAIN = "asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\n"
TWO = "asyncpipe: 1\nstreams: {forward: {runs: [F]}, backward: {runs: [B, U], count: 2}}\nin_flight: 3\n"
LU_TO_BU = """\
async-lu -> async-bu, 4 stages
keys
  + rules: U[s, g] after B[0, hi]
  ~ expect.staleness: [2, 2, 2, 1, 1, 1, 0, 0] -> [2, 2, 2, 2, 2, 2, 2, 2]
  ~ description
numbers
    period     4
    speedup    3.00x
  ~ staleness  2 2 1 0 -> 2 2 2 2
    slots      3 3 3 3
    versions   1 1 1 1
edges
  + U[1, g] after B[0, hi] and 2 more (U[s, g] after B[0, hi])
order
  ~ backward[0], after 3B0: 3U0 -> 2B0
  ~ backward[1], after 3B1: 3U1 -> 2B1
same streams
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.yaml").write_text(MAIN)
    (tmp_path / "two.yaml").write_text(TWO)
    return tmp_path


def schedule(text: str) -> Schedule:
    loaded = load_text(text, "x.yaml", Report())
    assert loaded is not None
    return loaded


def compiled(text: str, stages: int = 3) -> Compiled:
    return compile_schedule(schedule(text), stages)


def diff_json(*arguments: str) -> dict[str, Any]:
    outcome = invoke("diff", *arguments, "--json")
    assert (outcome.code, outcome.stderr) == (0, "")
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def test_layer_wise_and_block_updates_differ_by_one_rule_and_its_staleness() -> None:
    assert invoke("diff", "async-lu", "async-bu", "--stages", "4") == Outcome(0, LU_TO_BU, "")


@pytest.mark.parametrize("name", library())
def test_schedule_does_not_differ_from_itself_however_it_is_written(name: str, folder: Path) -> None:
    (folder / "canonical.yaml").write_text(invoke("show", name, "--level", "L0").stdout)
    outcome = invoke("diff", name, "canonical.yaml", "--exit-code")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines()[1:] == ["no difference"]
    assert diff_json(name, name)["same"] is True


def test_comments_order_of_keys_defaults_and_the_name_are_no_difference(folder: Path) -> None:
    (folder / "other.yaml").write_text(
        "# the same\nname: another\nstages: auto\n"
        "streams:\n  main:\n    runs: [F, 'B', U] # all\n    count: 1\nasyncpipe: 1\n"
    )
    assert invoke("diff", "main.yaml", "other.yaml", "--exit-code") == Outcome(
        0, "main -> another, 4 stages\nno difference\n", ""
    )


def test_files_are_named_where_the_names_are_equal(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "main.yaml").write_text(MAIN + "devices: 1\n")
    first = invoke("diff", "main.yaml", "below/main.yaml").stdout.splitlines()[0]
    assert first == "main.yaml -> below/main.yaml, 4 stages"


def test_exit_code_is_0_unless_asked_for() -> None:
    assert invoke("diff", "main.yaml", "two.yaml").code == 0
    assert invoke("diff", "main.yaml", "two.yaml", "--exit-code").code == 1
    assert invoke("diff", "main.yaml", "two.yaml", "--exit-code", "--json").code == 1


def test_json_holds_everything() -> None:
    document = diff_json("two.yaml", "main.yaml", "--stages", "2")
    groups, in_flight = document.pop("keys")[:-1], diff_json("two.yaml", "main.yaml")["keys"][-1]
    assert [(row["key"], (row["before"] or row["after"]).partition(", stages")[0]) for row in groups] == [
        ("streams.forward", "{runs: [F], count: 1"),
        ("streams.backward", "{runs: [B, U], count: 2"),
        ("streams.main", "{runs: [F, B, U], count: 1"),
    ]
    assert [row["before"] is None for row in groups] == [row["after"] is not None for row in groups] == [0, 0, 1]
    assert in_flight == {"key": "in_flight", "before": "3", "after": None}
    assert document == {
        "schema": "asyncpipe.diff/1",
        "same": False,
        "files": ["two.yaml", "main.yaml"],
        "stages": 2,
        "streams": [
            {"name": "forward", "before": "device 0", "after": None},
            {"name": "backward[0]", "before": "device 0", "after": None},
            {"name": "backward[1]", "before": "device 0", "after": None},
            {"name": "main", "before": None, "after": "device 0"},
        ],
        "edges": [
            {"added": False, "origin": "in_flight: 3", "edges": 2, "example": "F[0, m] after B[0, m-3]"},
            {"added": True, "origin": "slot m % 1 is reused", "edges": 2, "example": "F[0, m] after B[0, m-1]"},
        ],
        "order": [],
        "numbers": {
            "period": {"before": 2.0, "after": 6.0},
            "speedup": {"before": 3.0, "after": 1.0},
            "staleness": {"before": [2.0, 1.0], "after": [0.0, 0.0]},
            "in_flight": {"before": [3, 3], "after": [1, 1]},
            "weight_versions": {"before": [1, 1], "after": [1, 1]},
        },
    }


def test_stages_are_those_that_a_file_fixes_else_what_one_expects(folder: Path) -> None:
    (folder / "three.yaml").write_text(MAIN + "stages: 3\n")
    (folder / "seven.yaml").write_text(MAIN + "expect: {stages: 7}\n")
    stages = {pair: diff_json(*pair)["stages"] for pair in [("main.yaml", "two.yaml"), ("main.yaml", "three.yaml")]}
    assert [*stages.values()] == [4, 3]
    assert diff_json("seven.yaml", "three.yaml")["stages"] == 3
    assert diff_json("main.yaml", "seven.yaml")["stages"] == 7
    assert diff_json("seven.yaml", "three.yaml", "--stages", "5")["stages"] == 5


def test_costs_are_those_of_each_file_unless_the_option_names_them(folder: Path) -> None:
    (folder / "slow.yaml").write_text(MAIN + "costs: {B: 5}\n")
    period = {"before": 12.0, "after": 24.0}
    assert diff_json("main.yaml", "slow.yaml")["numbers"]["period"] == period
    assert diff_json("main.yaml", "slow.yaml", "--costs", "B=1/2")["numbers"]["period"] == {"before": 6, "after": 6}
    outcome = invoke("diff", "main.yaml", "slow.yaml", "--costs", "X=1")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: --costs 'X=1': expected an op and a number of at least 0")


def test_findings_of_both_sides_are_told(folder: Path) -> None:
    (folder / "typo.yaml").write_text(MAIN + "in_fligth: 3\n")
    (folder / "ahead.yaml").write_text("asyncpipe: 1\nstreams: {a: {runs: [F]}, b: {runs: [B, U]}}\n")
    (folder / "cycle.yaml").write_text(MAIN + "rules: ['F[0, m] after B[0, m]']\n")
    outcome = invoke("diff", "typo.yaml", "missing.yaml")
    assert (outcome.code, outcome.stdout) == (3, "")
    assert [line.split(": ")[0:2] for line in outcome.stderr.splitlines() if "error[" in line] == [
        ["missing.yaml:1:1", "error[AP100]"],
        ["typo.yaml:3:1", "error[AP104]"],
    ]
    outcome = invoke("diff", "ahead.yaml", "cycle.yaml")
    assert outcome.code == 3
    assert "ahead.yaml:2:1: error[AP501]" in outcome.stderr
    assert "cycle.yaml:3:9: error[AP201]" in outcome.stderr
    assert invoke("diff", "typo.yaml", "typo.yaml").stderr.count("error[") == 1


def test_unknown_name_is_a_usage_error() -> None:
    outcome = invoke("diff", "async-lu", "async-lx")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.endswith("help: did you mean 'async-lu'?\n")


def test_what_expect_states_need_not_hold(folder: Path) -> None:
    """A copy that was changed still has the numbers of its template; that is what one wants to see."""
    (folder / "stale.yaml").write_text(TWO + "expect: {stages: 3, staleness: [9, 9, 9], period: 1}\n")
    assert invoke("check", "stale.yaml").code == 3
    assert invoke("diff", "two.yaml", "stale.yaml").code == 0


def test_long_sections_are_cut_in_the_text_and_whole_in_json(folder: Path) -> None:
    rules = "".join(f"  - F[s, m] after U[s, g-{n}]\n" for n in range(2, 32))
    (folder / "ruled.yaml").write_text(f"{TWO}rules:\n{rules}")
    lines = invoke("diff", "two.yaml", "ruled.yaml").stdout.splitlines()
    assert lines[1:14] == ["keys", *(f"  + rules: F[s, m] after U[s, g - {n}]" for n in range(2, 14))]
    assert lines[14] == "  ... and 18 more, which --json lists"
    assert len(diff_json("two.yaml", "ruled.yaml")["keys"]) == 30


def test_numbers_of_many_stages_are_told_in_runs() -> None:
    lines = invoke("diff", "async-lu", "async-bu", "--stages", "24").stdout.splitlines()
    assert "  ~ staleness  2 x 8, 1 x 8, 0 x 8 -> 2 x 24" in lines


def test_keys_are_told_in_the_order_of_the_format() -> None:
    before = schedule(TWO + "rules: ['F[s, m] after U[s, g-4]', 'F[0, m] after U[0, g-5]']\ncosts: {F: 2}\n")
    after = schedule(
        "asyncpipe: 1\nstreams: {forward: {runs: [F]}, middle: {runs: [U]}, backward: {runs: [B], count: 3}}\n"
        "rules: ['F[0, m] after U[0, g-5]', 'F[s,m]  after U[s, g-3]']\nupdate: {every: 2}\nexpect: {stages: 2}\n"
    )
    changes = changed_keys(before, after)
    assert [(change.key, change.before, change.after) for change in changes if change.key != "streams.middle"] == [
        ("streams.backward.runs", "[B, U]", "[B]"),
        ("streams.backward.count", "2", "3"),
        ("in_flight", "3", None),
        ("rules", "F[s, m] after U[s, g - 4]", None),
        ("rules", None, "F[s, m] after U[s, g - 3]"),
        ("update.every", "1", "2"),
        ("costs", "{F: 2}", None),
        ("expect", None, "{stages: 2}"),
    ]
    assert [change.key for change in changes].index("streams.middle") == 0
    assert [KeyChange(c.key, c.after, c.before) for c in changes] != []


def test_difference_of_keys_is_mirrored_by_turning_the_sides() -> None:
    one, other = schedule(TWO), schedule(MAIN + "devices: 2\nupdate: {every: 3}\n")
    turned = {KeyChange(change.key, change.after, change.before) for change in changed_keys(one, other)}
    assert turned == set(changed_keys(other, one))


def test_equal_edges_of_another_origin_are_no_difference() -> None:
    rule = MAIN + "rules: ['F[s, m] after B[s, m-1]']\n"
    assert changed_edges(compiled(MAIN).diagram, compiled(rule).diagram) == ()
    assert changed_edges(compiled(MAIN + "in_flight: 1\n").diagram, compiled(rule).diagram) == ()


def test_edges_of_updates_are_told_by_g_and_hi() -> None:
    before = compiled(TWO.replace("3", "4") + "update: {every: 2}\n")
    rules = "rules: ['U[s, g] after B[0, hi]', 'F[0, m] after U[*, g-3]']\n"
    after = compiled(TWO.replace("3", "4") + "update: {every: 2}\n" + rules)
    assert [tuple(change) for change in changed_edges(before.diagram, after.diagram)] == [
        (True, "F[0, m] after U[*, g - 3]", 3, "F[0, m] after U[0, g-3]"),
        (True, "U[s, g] after B[0, hi]", 2, "U[1, g] after B[0, hi]"),
    ]


def test_first_difference_of_a_stream_may_come_late() -> None:
    before = compiled(TWO, 1).table()
    after = compiled(TWO + "rules: ['B[0, m] after U[0, g-1] when m > 100']\n", 1).table()
    assert changed_order(before, before) == ()
    assert changed_order(before, after) == changed_order(after, before) == ()
    slow = compiled("asyncpipe: 1\nstreams: {main: {runs: [F, B, U], order: [F, B, U]}}\nin_flight: 2\n", 1).table()
    fast = compiled("asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\nin_flight: 2\n", 1).table()
    (change,) = changed_order(fast, slow)
    assert change == OrderChange("main", 1, parse_action("0F0"), parse_action("0B0"), parse_action("0F1"))
