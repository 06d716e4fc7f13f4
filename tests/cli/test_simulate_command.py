"""`asyncpipe simulate`: its JSON by the contract, its text, its options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.schedule import library
from tests.command_line import Outcome, invoke

PIPELINE = """asyncpipe: 1
devices: S
place: s
streams: {compute: {runs: [F, B, U], per: device, order: [U, B, F]}}
in_flight: S - s
"""
LOCKSTEP = """asyncpipe: 1
streams: {main: {runs: [F, B, U]}}
rules: ['F[0, m] after U[*, g-1]']
replicas: {count: 2, sync: {allreduce: grad}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "lockstep.yaml").write_text(LOCKSTEP)
    return tmp_path


def simulated(*arguments: str) -> dict[str, Any]:
    outcome = invoke("simulate", "--json", *arguments)
    assert (outcome.code, outcome.stderr) == (0, "")
    document = json.loads(outcome.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("name", library())
def test_library_follows_the_contract(name: str) -> None:
    document = simulated(name)
    assert document["schema"] == "asyncpipe.simulate/1"
    contract = ["schema", "stages", "microbatches", "period", "makespan", "speedup", "streams", "staleness"]
    assert list(document)[:11] == [*contract, "in_flight", "weight_versions", "bounds"]
    lists = [*document["staleness"].values(), document["in_flight"], document["weight_versions"]]
    assert {len(values) for values in lists} == {document["stages"]}
    assert list(document["staleness"]) == ["apply", "max", "forward_backward"]
    assert list(document["bounds"]) == ["resource", "recurrence"]
    assert max(document["bounds"].values()) <= document["period"] * (1 + 1e-12)
    for stream in document["streams"]:
        assert list(stream)[:3] == ["name", "device", "busy"]
        assert 0 <= stream["busy"] <= document["makespan"]
        assert stream["utilisation"] + stream["idle"] + stream["held"] == pytest.approx(1)
        waited = sum(wait["share"] for wait in stream["waits"])
        assert waited == pytest.approx(stream["idle"]) or not stream["busy"]
    assert document["distributions"] is document["sweep"] is None


@pytest.mark.parametrize("name", library())
def test_simulation_is_what_check_states(name: str) -> None:
    (stated,) = json.loads(invoke("check", name, "--json").stdout)["instances"]
    document = simulated(name)
    del stated["staleness"]["bound"]
    for key in (
        "stages",
        "period",
        "speedup",
        "staleness",
        "in_flight",
        "slots",
        "weight_versions",
        "bounds",
        "memory",
    ):
        assert document[key] == stated[key], key


def test_eight_equal_stages_are_those_of_the_paper() -> None:
    document = simulated("async-lu", "--stages", "8", "--microbatches", "10", "--costs", "F=1,B=2,U=0")
    assert document["staleness"]["apply"] == document["staleness"]["max"] == [2, 2, 2, 1, 1, 1, 0, 0]
    assert (document["period"], document["makespan"], document["speedup"]) == (8, 96, 3)
    assert document["lambda"] == pytest.approx(3 * 10 / 12)
    assert [(s["name"], s["device"], s["busy"]) for s in document["streams"]] == [
        ("forward", 0, 80),
        ("backward[0]", 0, 80),
        ("backward[1]", 0, 80),
    ]
    assert document["bounds"] == {"resource": 8, "recurrence": 8}
    assert document["critical_path"]["time"] == 8
    assert document["memory"] == {"unit": "stages", "devices": [{"device": 0, "activations": 14, "parameters": 8}]}


def test_number_of_microbatches_costs_nothing() -> None:
    assert simulated("async-lu", "--stages", "8", "--microbatches", "1000000000")["makespan"] == 8 * (10**9 + 2)


REPORT = """sgd-ready: 2 stages, 4 microbatches
  costs        F=1 B=2 U=1
time
  period       7 per microbatch
  speed-up     1.14x the same actions one after another
  makespan     28 for 4 microbatches
  lambda       not defined: its rules let forwards wait
streams
  forward   device 0  busy 28.6%, idle 71.4%
     71.4%  F of stage 0 waits for U of stage 0 (F[s, m] after U[s, g - 1])
  backward  device 0  busy 57.1%, idle 42.9%
     42.9%  B of stage 1 waits for F of stage 1 (data flow)
  update    device 0  busy 28.6%, idle 71.4%
     57.1%  U of stage 1 waits for B of stage 1 (an update needs its gradients)
     14.3%  U of stage 0 waits for B of stage 0 (an update needs its gradients)
staleness
  at update    0 0
  at backward  0 0
memory
  in flight    1 1
  slots        1 1
  versions     1 1
  device 0     activations of 2 stages, parameters of 2 stages
bounds
  resource     4: the work of backward
  recurrence   7: a cycle of waits
    0F[m]
    1F[m] after it: data flow
    1B[m] .. 0B[m] after it: data flow
    0U[g] after it: an update needs its gradients
    0F[m+1] after it: F[s, m] after U[s, g - 1]
  binds        a cycle through an update needs its gradients, F[s, m] after U[s, g - 1]
critical path
  7 for 1 microbatch
    0F[m]
    1F[m] after it: data flow
    1B[m] .. 0B[m] after it: data flow
    0U[g] after it: an update needs its gradients
    0F[m+1] after it: F[s, m] after U[s, g - 1]
"""


def test_report_tells_all_in_sections() -> None:
    outcome = invoke("simulate", "sgd-ready", "--stages", "2", "--microbatches", "4", "--costs", "U=1")
    assert outcome == Outcome(0, REPORT, "")


def test_random_times_are_told_with_their_spread() -> None:
    arguments = ("async-lu", "--costs", "F=1,B=exponential(2)", "--samples", "5", "--seed", "3")
    document = simulated(*arguments)
    assert document == simulated(*arguments)
    found = document["distributions"]
    assert list(found) == ["samples", "seed", "period", "speedup", "staleness", "makespan"]
    assert (found["samples"], found["seed"]) == (5, 3)
    assert found["period"]["p10"] <= found["period"]["median"] == document["period"] <= found["period"]["p90"]
    assert document["period"] > document["bounds"]["resource"] == 8
    assert document != simulated(*arguments[:-1], "4")
    text = invoke("simulate", *arguments).stdout
    assert "               B is exponential(2)\n" in text
    assert "  median, and 10% and 90% of 5 samples; the rest is at the central times\n" in text


def test_delay_and_straggler_are_told_and_felt(folder: Path) -> None:
    late = simulated("async-lu", "--stages", "8", "--delay", "backward[0]=4")
    assert (late["period"], late["streams"][1]["held"]) == (10, pytest.approx(0.2))
    assert simulated("async-lu", "--stages", "8", "--straggler", "forward=3/2")["period"] == 12
    both = ("--delay", "replica[1]=3", "--straggler", "replica[0]=2")
    text = invoke("simulate", "lockstep.yaml", "--stages", "2", *both).stdout
    assert text.startswith(
        "lockstep: 2 stages, 7 microbatches, 2 replicas\n"
        "  costs        F=1 B=2 U=0 SYNC=0\n"
        "  delay        3 for each microbatch of replica[1]\n"
        "  straggler    replica[0] takes 2 times as long\n"
    )
    assert "\n  12 for 1 microbatch, in replica 0\n" in text


def test_streams_that_drift_apart_are_told() -> None:
    document = simulated("hogwild", "--stages", "4", "--delay", "worker[1]=12")
    assert (document["recurs"], document["throughput"]) == (False, pytest.approx(1 / 12 + 1 / 24))
    text = invoke("simulate", "hogwild", "--delay", "worker[1]=12").stdout
    assert "the streams drift apart" in text


def test_delays_in_forward_passes_are_those_of_the_first_schedule(folder: Path) -> None:
    assert simulated("async-lu", "--stages", "8", "--delay", "backward[0]=1/2T")["period"] == 10
    arguments = ("hogwild", "--stages", "4", "-o", "costs.F=2", "--against", "lockstep.yaml")
    found = [
        simulated(*arguments, "--delay", f"worker[1]|replica[1]={one}", "--sweep", f"worker[0]|replica[0]={two}")
        for one, two in (("1/2T", "1T,3T"), ("4", "8,24"))
    ]
    assert found[0] == found[1]
    assert [point["delay"] for point in found[0]["sweep"]["points"]] == [0, 8, 24]


def test_sweep_is_a_table_with_no_delay_in_it(folder: Path) -> None:
    arguments = ("hogwild", "--stages", "4", "--against", "lockstep.yaml", "--sweep", "worker[0]|replica[0]=12,24")
    found = simulated(*arguments)["sweep"]
    assert (found["stream"], found["against"]) == ("worker[0]|replica[0]", "lockstep")
    assert [(p["delay"], p["ratio"]) for p in found["points"]] == [(0, 1), (12, 1.5), (24, 2)]
    assert invoke("simulate", *arguments).stdout.endswith(
        "delays\n"
        "  throughput per unit of time, delay of worker[0]|replica[0]\n"
        "  delay   hogwild   lockstep  ratio  10% to 90%\n"
        "      0  0.166667   0.166667  1.000       exact\n"
        "     12     0.125  0.0833333  1.500       exact\n"
        "     24  0.111111  0.0555556  2.000       exact\n"
    )
    alone = simulated("async-lu", "--stages", "8", "--sweep", "forward=8")["sweep"]
    assert [(p["delay"], p["throughput"], p["ratio"]) for p in alone["points"]] == [(0, 0.125, 1), (8, 0.0625, 0.5)]


def test_sweep_of_random_times_has_a_spread_at_each_delay(folder: Path) -> None:
    arguments = ("--against", "lockstep.yaml", "--sweep", "worker[0]|replica[0]=12", "--samples", "4")
    found = simulated("hogwild", "--stages", "2", "--costs", "B=uniform(1,3)", *arguments)["sweep"]
    for point in found["points"]:
        assert point["spread"]["p10"] <= point["spread"]["median"] == point["ratio"] <= point["spread"]["p90"]


def test_links_make_transfers_take_time(folder: Path) -> None:
    free = simulated("pipeline.yaml", "--stages", "4")
    assert free["period"] == 3
    assert simulated("pipeline.yaml", "--stages", "4", "--link", "latency=1/2")["period"] == 3.75
    sized = simulated("pipeline.yaml", "--job", "digits", "--link", "latency=1/2,bandwidth=1e6")
    assert 3 < simulated("pipeline.yaml", "--job", "digits", "--link", "latency=1/2")["period"] < sized["period"]
    text = invoke("simulate", "pipeline.yaml", "--stages", "2", "--link", "latency=2").stdout
    assert "F of stage 1 waits for SEND_F of stage 0 (transfer between devices)" in text
    assert "  costs        F=1 B=2 U=0 SEND_F=2 2 SEND_B=2 2\n" in text


def test_simulated_run_is_drawn_beside_its_plan(folder: Path) -> None:
    arguments = ("async-lu", "--stages", "2", "--microbatches", "4", "--delay", "backward[0]=4")
    outcome = invoke("simulate", *arguments, "--html", "run.html", "--trace", "run.json")
    assert outcome.code == 0
    assert outcome.stderr == "wrote run.html\nwrote run.json\n"
    assert outcome.stdout.startswith("async-lu: 2 stages, 4 microbatches\n")
    assert "backward[0] late by 4" in (folder / "run.html").read_text()
    actions = {
        e["name"]: e["ts"] for e in json.loads((folder / "run.json").read_text())["traceEvents"] if e["ph"] == "X"
    }
    scale = actions["1F0"] - actions["0F0"]
    assert actions["1B0"] - actions["0F0"] == 6 * scale
    svg = invoke("simulate", *arguments, "--costs", "B=uniform(1,3)", "--svg", "-")
    assert svg.stdout.startswith("<svg")
    assert invoke("simulate", *arguments, "--json", "--svg", "-").code == 2


def test_job_gives_stages_and_bytes() -> None:
    document = simulated("async-lu", "--job", "digits")
    assert document["memory"]["unit"] == "bytes"
    assert document["memory"]["devices"][0]["parameters"] > 10_000
    assert "B: activations" in invoke("simulate", "async-lu", "--job", "digits").stdout


def test_more_than_a_hundred_stages_are_told_in_runs() -> None:
    text = invoke("simulate", "async-lu", "--stages", "120").stdout
    assert "  at update    40 x 2, 40 x 1, 40 x 0\n" in text
    assert max(map(len, text.splitlines())) < 140
    assert len(text.splitlines()) < 60


def test_thousand_replicas_are_told_as_two_kinds(folder: Path) -> None:
    (folder / "many.yaml").write_text(LOCKSTEP.replace("count: 2", "count: 1024"))
    document = simulated("many.yaml", "--stages", "2", "--delay", "replica[1000]=3")
    assert (document["replicas"], document["period"], document["speedup"]) == (1024, 9, pytest.approx(1024 * 6 / 9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--delay", "backwards=1"], "backwards: async-lu has no such stream\n  help: did you mean 'backward'?"),
        (["--delay", "forward"], "--delay 'forward': expected a stream, =, and a value"),
        (["--delay", "forward=x"], "--delay 'forward=x': expected a number of at least 0 or a distribution, found 'x'"),
        (["--delay", "forward=20ms"], "--delay 'forward=20ms': virtual time has no seconds\n  help: as in 4T"),
        (["--sweep", "forward=1,2s"], "--sweep 'forward=1,2s': virtual time has no seconds"),
        (["--delay", "a b=1"], "--delay 'a b=1': expected a stream such as backward[0]"),
        (["--delay", "forward=gamma(1)"], "--delay 'forward=gamma(1)': no distribution is called 'gamma'"),
        (["--straggler", "forward=0"], "--straggler 'forward=0': expected a factor above 0, found '0'"),
        (["--link", "latency=1"], "--link: async-lu has no transfers between devices"),
        (["--link", "delay=1"], "--link 'delay=1': expected latency or bandwidth, found 'delay=1'"),
        (["--link", "bandwidth=0"], "--link 'bandwidth=0': expected a positive number, found 'bandwidth=0'"),
        (["--link", "bandwidth=1"], "--link bandwidth: the bytes of a transfer are not known"),
        (["--sweep", "forward"], "--sweep 'forward': expected a stream, =, and delays"),
        (["--sweep", "forward=1,x"], "--sweep 'forward=1,x': expected a number of at least 0 or a distribution"),
        (["--sweep", "nobody=1"], "nobody: async-lu has no such stream"),
        (["--against", "sgd"], "--against needs --sweep"),
        (["--samples", "3"], "--samples: no time here is random"),
        (["--costs", "F=normal(1)"], "--costs 'F=normal(1)': normal takes 2 numbers, found 'normal(1)'"),
        (["--costs", "F=1", "--microbatches", "9", "-o", "train.batch=1"], "-o 'train.batch=1': a schedule has no key"),
    ],
)
def test_wrong_options_are_usage_errors(arguments: list[str], message: str) -> None:
    outcome = invoke("simulate", "async-lu", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {message}")


def test_invalid_schedule_is_told_as_check_does(folder: Path) -> None:
    (folder / "wrong.yaml").write_text("asyncpipe: 1\nstreams: {f: {runs: [F]}, b: {runs: [B, U]}}\n")
    outcome = invoke("simulate", "wrong.yaml")
    assert (outcome.code, outcome.stdout) == (3, "")
    assert outcome.stderr.startswith("wrong.yaml:2:1: error[AP501]: ")


def test_too_many_random_microbatches_are_refused() -> None:
    outcome = invoke("simulate", "sgd", "--microbatches", "100000000", "--costs", "F=exponential(1)")
    assert outcome.code == 2
    assert outcome.stderr.endswith("are too many for random times\n  help: ask for fewer --microbatches or stages\n")


def test_streams_share_as_many_workers_as_are_asked_for() -> None:
    text = invoke("simulate", "async-lu", "--stages", "3", "--workers", "2").stdout
    assert "  period       3 per microbatch\n  workers      4.5 per microbatch on 2, busy 100.0% 97.4%\n" in text
    found = simulated("async-lu", "--stages", "3", "--workers", "3")
    assert found["workers"]["count"] == 3
    assert found["workers"]["period"] == found["period"] == 3
    assert simulated("async-lu")["workers"] is None


@pytest.mark.parametrize("disturbed", [("--delay", "forward=1"), ("--costs", "F=normal(1,0.1)")])
def test_workers_are_for_exact_times(disturbed: tuple[str, str]) -> None:
    outcome = invoke("simulate", "async-lu", "--workers", "2", *disturbed)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: --workers: times must be exact, without delays and stragglers\n")
