"""`asyncpipe check`: its JSON by the contract, its options, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.schedule import library
from tests.command_line import Outcome, invoke

MAIN = "asyncpipe: 1\nstreams: {main: {runs: [F, B, U]}}\n"
AHEAD = "asyncpipe: 1\nstreams:\n  forward: {runs: [F]}\n  backward: {runs: [B, U]}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.yaml").write_text(MAIN)
    (tmp_path / "ahead.yaml").write_text(AHEAD)
    return tmp_path


def check_json(*arguments: str) -> tuple[int, dict[str, Any]]:
    outcome = invoke("check", "--json", *arguments)
    assert outcome.stderr == ""
    document = json.loads(outcome.stdout)
    assert isinstance(document, dict)
    return outcome.code, document


def test_valid_schedules_follow_the_contract() -> None:
    code, document = check_json(*library())
    assert (code, document["schema"], document["ok"]) == (0, "asyncpipe.check/1", True)
    assert list(document) == ["schema", "ok", "diagnostics", "intended_races", "not_checked", "instances"]
    assert document["diagnostics"] == []
    assert document["not_checked"] == ["the model (no job given)", "memory in bytes", "capture on a GPU"]
    assert [Path(i["file"]).stem for i in document["instances"]] == list(library())
    for instance in document["instances"]:
        numbers = ["file", "stages", "period", "speedup", "staleness", "stable_lr"]
        held = ["in_flight", "slots", "weight_versions"]
        assert list(instance) == [*numbers, *held, "bounds", "bound_by", "memory", "not_trained"]
        assert list(instance["staleness"]) == ["apply", "max", "forward_backward", "bound"]
        counts = [instance["in_flight"], instance["slots"], instance["weight_versions"]]
        lists = [*instance["staleness"].values(), *counts]
        assert {len(values) for values in lists} == {instance["stages"]}
        assert all(isinstance(value, float) for value in instance["staleness"]["apply"])
        assert all(type(value) is int for values in [instance["staleness"]["max"], *counts] for value in values)
        assert list(instance["bounds"]) == ["resource", "recurrence"]
        assert max(instance["bounds"].values()) <= instance["period"] * (1 + 1e-12)
        assert [list(row) for row in instance["memory"]["devices"]][:1] == [["device", "activations", "parameters"]]


def test_intended_races_say_which_op_and_why() -> None:
    _, document = check_json("hogwild", "sgd", "--stages", "2")
    races = [(Path(r["file"]).stem, r["op"], r["stages"], r["because"]) for r in document["intended_races"]]
    assert races == [
        ("hogwild", "F", [0, 1], "weights.forward: latest"),
        ("hogwild", "B", [0, 1], "weights.backward: latest"),
        ("hogwild", "U", [0, 1], "update.write: racy"),
    ]


@pytest.mark.parametrize(
    ("name", "staleness"),
    [
        ("async-lu", [2, 2, 2, 1, 1, 1, 0, 0]),
        ("async-bu", [2] * 8),
        ("sgd", [0] * 8),
    ],
)
def test_eight_equal_stages_have_the_staleness_of_the_paper(name: str, staleness: list[int]) -> None:
    code, document = check_json(name, "--stages", "8", "--costs", "F=1,B=2,U=0")
    (instance,) = document["instances"]
    assert code == 0
    assert instance["stages"] == 8
    assert instance["staleness"]["apply"] == staleness
    assert instance["staleness"]["max"] == staleness
    assert (instance["period"], instance["speedup"]) == ((24, 1) if name == "sgd" else (8, 3))


def test_findings_of_several_files_come_in_one_document(folder: Path) -> None:
    (folder / "typo.yaml").write_text(MAIN + "in_fligth: 3\nname: 3\n")
    code, document = check_json("ahead.yaml", "main.yaml", "typo.yaml")
    assert (code, document["ok"]) == (3, False)
    assert document["diagnostics"][1:] == [
        {
            "code": "AP104",
            "severity": "error",
            "file": "typo.yaml",
            "line": 3,
            "column": 1,
            "message": "unknown key 'in_fligth' in a schedule",
            "hint": "did you mean 'in_flight'?",
            "notes": [],
        },
        {
            "code": "AP105",
            "severity": "error",
            "file": "typo.yaml",
            "line": 4,
            "column": 7,
            "message": "expected a text, found the number 3",
            "hint": "put it into quotes",
            "notes": [],
        },
    ]
    first = document["diagnostics"][0]
    assert (first["code"], first["file"], first["line"], first["column"]) == ("AP501", "ahead.yaml", 2, 1)
    assert [i["file"] for i in document["instances"]] == ["main.yaml"]


def test_notes_of_a_cycle_are_in_the_document(folder: Path) -> None:
    (folder / "cycle.yaml").write_text(MAIN + "rules: ['F[0, m] after B[0, m]']\n")
    _, document = check_json("cycle.yaml", "--stages", "1")
    assert document["diagnostics"][0]["notes"] == [
        "0F0 waits for 0B0: F[0, m] after B[0, m]",
        "0B0 waits for 0F0: data flow",
    ]


def test_several_files_are_told_one_after_another(folder: Path) -> None:
    outcome = invoke("check", "ahead.yaml", "main.yaml", "--stages", "2")
    assert outcome.code == 3
    assert outcome.stdout == (
        "ahead.yaml: invalid, 1 error\n"
        "main.yaml: ok\n"
        "  instance    2 stages, costs F=1 B=2 U=0\n"
        "  streams     main\n"
        "  period      6 per microbatch, 1.00x one stream\n"
        "  bound by    main is always busy\n"
        "  staleness   0 0 as planned, never more than 0 0\n"
        "  stable lr   below 2 / curvature (sgd without momentum), as without staleness\n"
        "  in flight   1 1, in slots 1 1\n"
        "  versions    1 1\n"
        "  memory      device 0 activations of 2 stages, parameters of 2 stages\n"
        "  not checked the model (no job given); memory in bytes; capture on a GPU\n"
    )
    assert outcome.stderr.startswith("ahead.yaml:2:1: error[AP501]: ")


def test_overrides_change_a_file_and_are_told_by_their_text(folder: Path) -> None:
    assert invoke("check", "ahead.yaml").code == 3
    assert invoke("check", "ahead.yaml", "-o", "in_flight=S - s", "-o", "streams.backward.count=2").code == 0
    outcome = invoke(
        "check",
        "main.yaml",
        *("-o", "in_flight=x + 1"),
        *("-o", "job.train.batch=none"),
        *("-o", "update.evry=2"),
        *("-o", "streams.main.runs=[F, B"),
        *("-o", "name=[]"),
        *("--job", "digits"),
    )
    assert outcome == Outcome(
        3,
        "main.yaml: invalid, 5 errors\n",
        "<-o in_flight=x + 1>:1:1: error[AP110]: unknown name 'x'; known here: s, S, D, last\n"
        "<-o job.train.batch=none>:1:1: error[AP105]: expected an integer from 1 to 1,000,000, found the text 'none'\n"
        "<-o name=[]>:1:1: error[AP105]: expected a text, found an empty list\n"
        "<-o streams.main.runs=[F, B>:1:6: error[AP101]: YAML syntax: expected ',' or ']', but got '<stream end>'\n"
        "  = <-o streams.main.runs=[F, B>:1: while parsing a flow sequence that begins here\n"
        "  = help: is a bracket, a brace or a comma missing before this place?\n"
        "<-o update.evry=2>:1:1: error[AP104]: unknown key 'evry' in update\n"
        "  = help: did you mean 'every'?\n",
    )


def test_a_job_in_the_place_of_a_schedule_and_the_reverse_are_one_error(folder: Path) -> None:
    (folder / "j.yaml").write_text("model: mlp\ndata: digits\noptimizer: {use: sgd, lr: 1}\ntrain: {batch: 8}\n")
    schedule, job = invoke("check", "j.yaml"), invoke("check", "sgd", "--job", "main.yaml")
    assert schedule.stderr == (
        "j.yaml:1:1: error[AP105]: expected a schedule, found a job\n"
        "    1 | model: mlp\n      | ^\n"
        "  = help: this looks like a job: use `--job j.yaml`\n"
    )
    assert job.stderr.startswith("main.yaml:1:1: error[AP105]: expected a job, found a schedule\n")
    assert job.stderr.endswith("  = help: this looks like a schedule: `asyncpipe run main.yaml --job NAME|FILE`\n")
    assert (schedule.code, job.code, job.stderr.count("error[")) == (3, 3, 1)
    assert "  help: 'digits' is a job: use `--job digits`\n" in invoke("check", "digits").stderr
    assert "  help: 'sgd' is a schedule; the jobs are " in invoke("check", "sgd", "--job", "sgd").stderr


def test_files_that_overrides_name_are_beside_the_working_directory(folder: Path) -> None:
    (folder / "far").mkdir()
    (folder / "far" / "costs.json").write_text('{"schema": "asyncpipe.profile/1", "costs": {"F": 2, "B": 4}}')
    (folder / "far" / "j.yaml").write_text("model: mlp\ndata: digits\noptimizer: {use: sgd, lr: 1}\n")
    assert invoke("check", "main.yaml", "-o", "costs=far/costs.json", "-o", "job=far/j.yaml").code == 0


@pytest.mark.parametrize("text", ["in_flight", "=3", "in flight=3", "a..b=3", ".a=3", ""])
def test_what_is_no_override_is_a_usage_error(text: str) -> None:
    outcome = invoke("check", "sgd", "-o", text)
    assert outcome.code == 2
    assert outcome.stderr == (
        f"error: -o {text!r}: expected key=value\n  help: as in -o in_flight=4 or -o job.optimizer.lr=0.01\n"
    )


@pytest.mark.parametrize(
    ("costs", "part"),
    [
        ("F=1,X=2", "X=2"),
        ("F", "F"),
        ("", ""),
        ("F=-1", "F=-1"),
        ("F=one", "F=one"),
        ("F=1,,B=2", ""),
        ("F=nan", "F=nan"),
        ("B=1e99999999", "B=1e99999999"),
        ("U=1/0", "U=1/0"),
    ],
)
def test_wrong_costs_are_a_usage_error(costs: str, part: str) -> None:
    outcome = invoke("check", "sgd", "--costs", costs)
    assert outcome == Outcome(
        2,
        "",
        f"error: --costs {costs!r}: expected an op and a number of at least 0, found {part!r}\n"
        "  help: as in --costs F=1,B=2,U=0; the ops are F, B, I, W, U, R, SEND, SYNC\n",
    )


def test_costs_may_be_fractions_and_win_over_the_file(folder: Path) -> None:
    (folder / "main.yaml").write_text(MAIN + "costs: {F: 5, U: 1}\n")
    _, document = check_json("main.yaml", "--stages", "3", "--costs", "F=1/3, B=1e-1")
    assert document["instances"][0]["period"] == pytest.approx(3 * (1 / 3 + 0.1 + 1))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--stages", "0"], ["'--stages'", "1<=x<=4096"]),
        (["--stages", "two"], ["'--stages'", "'two'"]),
        (["--microbatches", "0"], ["'--microbatches'", "1<=x<=1000000000"]),
        (["--jsn"], ["No such option", "--jsn", "--json"]),
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], parts: list[str]) -> None:
    outcome = invoke("check", "sgd", *arguments)
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert all(part in outcome.stderr.partition("Error: ")[2] for part in parts)


def test_check_without_a_schedule_is_a_usage_error() -> None:
    outcome = invoke("check")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Missing argument 'SCHEDULE...'" in outcome.stderr


def test_stages_come_from_the_option_the_file_the_job_then_expect(folder: Path) -> None:
    def stages(*arguments: str) -> int:
        return int(check_json(*arguments)[1]["instances"][0]["stages"])

    (folder / "three.yaml").write_text(MAIN + "stages: 3\nexpect: {stages: 7}\n")
    (folder / "layers.yaml").write_text(MAIN + "stages: layers\nexpect: {stages: 7}\n")
    (folder / "named.yaml").write_text(MAIN + "stages: [{name: a, layers: 0-2}, {name: b, layers: 3-4}]\n")
    assert stages("main.yaml") == 4
    assert stages("layers.yaml") == 7
    assert stages("layers.yaml", "--job", "digits") == 5
    assert stages("three.yaml") == 3
    assert stages("named.yaml", "--job", "digits") == 2
    assert stages("named.yaml", "--job", "digits", "--stages", "4") == 4
    outcome = invoke("check", "three.yaml", "--stages", "6", "--job", "digits")
    assert outcome.code == 2
    assert outcome.stderr.startswith("error: the schedule has 6 stages, but the model has only 5 layers\n")


def test_code_of_the_author_is_named_and_not_run(folder: Path) -> None:
    (folder / "job.yaml").write_text("model: ./model.py:build\ndata: digits\noptimizer: {use: sgd, lr: 1}\n")
    (folder / "model.py").write_text("raise SystemExit('it ran')\n")
    code, document = check_json("main.yaml", "--job", "job.yaml")
    assert code == 0
    assert document["not_checked"][0] == "./model.py:build (its code is not run)"


def test_microbatches_may_be_as_many_as_one_likes() -> None:
    assert invoke("check", "async-lu", "--microbatches", "1000000000").code == 0


def test_distributions_are_for_the_simulator() -> None:
    outcome = invoke("check", "sgd", "--costs", "F=1,B=normal(2,0.1)")
    assert outcome == Outcome(
        2,
        "",
        "error: --costs 'F=1,B=normal(2,0.1)': expected a number for B, found normal(2,1/10)\n"
        "  help: only `asyncpipe simulate` draws from distributions\n",
    )


def test_costs_may_be_a_measured_profile(folder: Path) -> None:
    profile = {"schema": "asyncpipe.profile/1", "costs": {"F": [0.001, 0.002], "B": 0.004}}
    (folder / "measured.json").write_text(json.dumps(profile))
    _, document = check_json("main.yaml", "--stages", "2", "--costs", "measured.json")
    assert document["instances"][0]["period"] == pytest.approx(0.011)
    outcome = invoke("check", "main.yaml", "--stages", "2", "--costs", "measured.json")
    assert "  instance    2 stages, costs F=0.001,0.002 B=0.004 U=0\n" in outcome.stdout
    (folder / "measured.json").write_text(json.dumps({**profile, "costs": {"F": -1}}))
    outcome = invoke("check", "main.yaml", "--costs", "measured.json")
    assert (outcome.code, outcome.stdout) == (3, "")
    assert outcome.stderr.startswith("measured.json:1:50: error[AP105]: costs.F: expected a number of seconds")


def test_keys_of_the_job_are_told_to_be_its_own() -> None:
    outcome = invoke("check", "sgd", "-o", "optimizer.lr=0.1", "-o", "in_flight=2")
    assert outcome == Outcome(
        2,
        "",
        "error: -o 'optimizer.lr=0.1': a schedule has no key 'optimizer', its job has\n"
        "  help: as in -o job.optimizer.lr=0.1\n",
    )


def test_what_binds_and_what_is_held_is_told() -> None:
    lines = invoke("check", "async-lu", "--job", "digits", "--stages", "5").stdout.splitlines()[1:]
    told = {line[2:13].strip(): line[14:] for line in lines}
    assert told["bound by"] == "forward, backward[0], backward[1] are always busy; a cycle through in_flight: 3"
    assert told["in flight"] == "3 3 2 2 1, in slots 3 3 3 3 3"
    assert told["memory"].startswith("device 0 ")
    assert "kB: activations" in told["memory"]


def test_more_than_a_hundred_stages_are_told_in_runs() -> None:
    outcome = invoke("check", "async-lu", "--stages", "120")
    assert "40 x 2, 40 x 1, 40 x 0 as planned, never more than 1 x 4, 119 x 2" in outcome.stdout
    assert "race        F reads parameters of stages 0 to 119 while" in outcome.stdout
    assert max(map(len, outcome.stdout.splitlines())) < 140


JOB = "model: {use: deep-narrow, layers: 6}\ndata: digits\n"


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (
            "{use: sgd, lr: 0.01, momentum: 0.9}",
            "below 0.0182 / curvature at stage 0 (sgd, momentum 0.9): 0.48 % of 3.8",
        ),
        (
            "{use: adam, lr: 0.01}",
            "below 0.182 / preconditioned curvature at stage 0 (adam, momentum 0.9): 0.48 % of 38",
        ),
        ("{use: lion, lr: 0.01}", "not known for lion"),
        ("{use: torch.optim.SGD, lr: 0.01}", "not known for torch.optim.SGD"),
    ],
)
def test_stable_rates_are_those_of_the_jobs_optimizer(folder: Path, optimizer: str, said: str) -> None:
    (folder / "job.yaml").write_text(f"{JOB}optimizer: {optimizer}\n")
    outcome = invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml")
    assert f"stable lr   {said}" in outcome.stdout


def test_stable_rates_come_per_stage_in_json(folder: Path) -> None:
    _, document = check_json("pipedream", "--stages", "3")
    found = document["instances"][0]["stable_lr"]
    assert found.pop("gain") == pytest.approx([0.618, 1, 2], rel=1e-3)
    assert found.pop("share") == found.pop("auto") == pytest.approx([0.309, 0.5, 1], rel=1e-3)
    assert found == {"optimizer": "sgd", "momentum": 0.0, "gain_without_staleness": 2.0}


def test_a_rate_that_staleness_may_make_unstable_is_warned_of_and_accepted(folder: Path) -> None:
    (folder / "job.yaml").write_text(f"{JOB}optimizer: {{use: sgd, lr: 0.01, momentum: 0.9}}\n")
    outcome = invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml")
    assert outcome.code == 0
    assert "warning[AP507]: stage 0, with a staleness of 6 and a momentum of 0.9, is stable for" in outcome.stderr
    quiet = invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml", "-o", "job.optimizer.lr={auto: 0.01}")
    assert (quiet.code, quiet.stderr) == (0, "")


def test_a_known_curvature_makes_a_rate_beyond_the_limit_an_error(folder: Path) -> None:
    (folder / "job.yaml").write_text(f"{JOB}optimizer: {{use: sgd, lr: 0.01, momentum: 0.9}}\n")
    assert invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml", "--curvature", "1.7").code == 0
    assert invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml", "--curvature", "1.9").code == 3


def test_an_automatic_rate_needs_an_optimizer_with_known_limits(folder: Path) -> None:
    (folder / "job.yaml").write_text(f"{JOB}optimizer: {{use: lion, lr: {{auto: 0.01}}}}\n")
    outcome = invoke("check", "pipedream", "--stages", "7", "--job", "job.yaml")
    assert outcome.code == 3
    assert "error[AP107]: lr: auto is for sgd, adam, adamw and nadam" in outcome.stderr


@pytest.mark.parametrize("arguments", [[], ["--job", "job.yaml"]])
def test_a_curvature_with_nothing_to_compare_it_with_is_refused(folder: Path, arguments: list[str]) -> None:
    (folder / "job.yaml").write_text(f"{JOB}optimizer: {{use: lion, lr: 0.01}}\n")
    outcome = invoke("check", "pipedream", "--curvature", "2", *arguments)
    assert outcome.code == 2
    assert "--curvature: no learning rate of" in outcome.stderr


@pytest.mark.parametrize(("schedule", "told"), [("async-lu", True), ("pipedream", False)])
def test_casts_of_weights_stay_as_their_forward_made_them(schedule: str, told: bool) -> None:
    _, document = check_json(schedule, "--job", "digits", "-o", "job.train.autocast=bf16")
    assert any("which weights a backward reads" in text for text in document["not_checked"]) is told
