"""Traces read back: what nests, what grows, and that nothing is said which was not measured."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asyncpipe.errors import UsageError
from asyncpipe.ir import Op, TimedRun
from asyncpipe.tools.trace.events import trace_events
from asyncpipe.tools.trace.file import write_trace
from asyncpipe.tools.trace.measured import MeasuredRun, Steps, default_steps, parse_steps, window_of
from tests.command_line import invoke
from tests.pictures.timelines import compiled
from tests.tools.profile.measured import measured, profiled, write_profile
from tests.tools.watch.folders import rows, write_run

SCHEDULES = ["async-lu", "ddp", "lapsgd", "1f1b"]
Event = dict[str, Any]
STAGES = 2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(schedule: str, losses: bool = True) -> MeasuredRun:
    run = measured(compiled((schedule,), STAGES))
    count = (run.program.microbatches or 0) * run.program.replicas
    return MeasuredRun(run, "digits", "threads", [4.0 / (1 + i) for i in range(count)] if losses else None)


def traced(measured: MeasuredRun, steps: Steps | None = None) -> list[Event]:
    program = measured.run.program
    window = window_of(measured.run, steps or default_steps(program, program.updates))
    write_trace(Path("t.json"), trace_events(measured, window), {})
    return read("t.json")


def read(name: str) -> list[Event]:
    raw = Path(name).read_bytes()
    events: list[Event] = json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)["traceEvents"]
    check(events)
    return events


def names(events: list[Event], kind: str) -> dict[tuple[int, int], str]:
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == f"{kind}_name"}


def tracks(events: list[Event]) -> dict[tuple[str, str], list[Event]]:
    """The slices of each thread, by the names of process and thread."""
    processes, threads = names(events, "process"), names(events, "thread")
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in "Xi":
            found[processes[event["pid"], 0], threads[event["pid"], event["tid"]]].append(event)
    return found


def check(events: list[Event]) -> None:
    """The rules of the format, and ours: one thing at a time on a track, counters and arrows forward in time."""
    for track in tracks(events).values():
        assert all(round(a["ts"] + a.get("dur", 0), 3) <= b["ts"] for a, b in pairwise(track))
    counters: dict[tuple[int, str], list[float]] = defaultdict(list)
    for event in events:
        if event["ph"] == "C":
            counters[event["pid"], event["name"]].append(event["ts"])
        assert event["ph"] == "M" or event["ts"] >= 0
    assert all(a < b for times in counters.values() for a, b in pairwise(times))
    starts, ends = ({e["id"]: e["ts"] for e in events if e["ph"] == phase} for phase in "sf")
    assert starts.keys() == ends.keys()
    assert all(starts[number] <= ends[number] for number in starts)
    assert len(starts) == sum(e["ph"] == "s" for e in events)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_action_is_on_the_track_of_its_stream_and_of_its_worker(schedule: str) -> None:
    found = made(schedule)
    events = traced(found)
    program = found.run.program
    by_stream = {key: track for key, track in tracks(events).items() if key[0] != "workers"}
    by_worker = [event for key, track in tracks(events).items() if key[0] == "workers" for event in track]
    assert {key[1] for key in tracks(events) if key[0] == "workers"} == {"worker 0", "worker 1"}
    assert {stream for _, stream in by_stream} <= {stream.name for stream in program.streams}
    prefix = "replica 0 " if program.replicas > 1 else ""
    assert (f"{prefix}device 0") in {process for process, _ in by_stream}
    streams = sorted((e["name"], e["ts"]) for track in by_stream.values() for e in track if e["cat"] != "SYNC")
    workers = sorted((e["name"], e["ts"]) for e in by_worker if e["cat"] != "SYNC")
    assert [name for name, _ in streams] == [name for name, _ in workers]
    assert [time for _, time in streams] == pytest.approx([time for _, time in workers], abs=0.002)
    assert len(streams) > 40


def test_times_are_those_that_were_measured() -> None:
    found = made("async-lu")
    window = window_of(found.run, Steps(10, 20))
    shown = [t for t in found.run.actions if t.end > window.begin and t.begin < window.end]
    origin = min(timed.begin for timed in shown)
    expected = {str(timed.action): (timed.begin - origin, timed.seconds) for timed in shown}
    slices = {
        event["name"]: (event["ts"] / 1e6, event["dur"] / 1e6)
        for key, track in tracks(traced(found, Steps(10, 20))).items()
        if key[0] == "device 0"
        for event in track
    }
    assert slices.keys() == expected.keys()
    assert all(slices[name] == pytest.approx(expected[name], abs=2e-9) for name in expected)


def test_the_window_begins_and_ends_with_its_microbatches() -> None:
    found = made("1f1b")
    program = found.run.program
    assert program.every > 1
    window = window_of(found.run, Steps(1, 3))
    begins = {
        t.action.index: t.begin for t in reversed(found.run.actions) if t.action.op is Op.F and not t.action.stage
    }
    assert (window.begin, window.end) == (begins[program.every], begins[3 * program.every])
    last = window_of(found.run, Steps(0, program.updates or 0))
    assert (last.begin, last.end) == (begins[0], max(timed.end for timed in found.run.actions))


def counter(events: list[Event], name: str) -> list[tuple[float, float]]:
    return [(e["ts"], next(iter(e["args"].values()))) for e in events if e["ph"] == "C" and e["name"] == name]


def test_counters_go_on_from_before_the_window() -> None:
    found = made("async-lu")
    part, whole = traced(found, Steps(20, 30)), traced(found, Steps(0, 48))
    for name in ("stage 0 staleness", "stage 1 staleness", "stage 0 in flight", "stage 1 in flight", "loss"):
        begin, first = counter(part, name)[0]
        assert begin == 0
        values = [value for _, value in counter(whole, name)]
        assert first in values
        assert [value for _, value in counter(part, name)[1:]] != values
    assert {value for _, value in counter(whole, "stage 0 staleness")} == {0, 1}
    losses = [value for _, value in counter(whole, "loss")]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 48


def test_a_loss_stands_where_its_last_forward_ended() -> None:
    found = made("ddp")
    ends = {
        (t.replica, t.action.index): t.end
        for t in found.run.actions
        if t.action.op is Op.F and t.action.stage == STAGES - 1
    }
    by_value = {value: time for time, value in counter(traced(found, Steps(0, 48)), "loss")}
    assert found.losses is not None
    origin = min(timed.begin for timed in found.run.actions)
    for number in (0, 1, 7, 100):
        own, replica = divmod(number, found.run.program.replicas)
        # Replicas end at the same time here, and one value stands for all of them.
        same = [m for m in range(len(found.losses)) if ends[m % 4, m // 4] == ends[replica, own]]
        end = pytest.approx((ends[replica, own] - origin) * 1e6, abs=0.01)
        assert any(by_value.get(found.losses[m]) == end for m in same)


def test_losses_that_are_not_finite_or_not_known_are_left_out() -> None:
    found = made("async-lu", losses=False)
    assert counter(traced(found), "loss") == []
    spoiled = replace(found, losses=[float("nan"), *[1.0] * 47])
    assert len(counter(traced(spoiled, Steps(0, 48)), "loss")) == 47


def test_arrows_lead_to_what_stood_still() -> None:
    events = traced(made("async-lu"))
    last: Event = {}
    targets: dict[int, Event] = {}
    sources: dict[int, Event] = {}
    for event in events:
        if event["ph"] in "Xi":
            last = event
        elif event["ph"] in "sf":
            (sources if event["ph"] == "s" else targets)[event["id"]] = last
    assert targets
    for number, target in targets.items():
        assert sources[number]["name"] in target["args"]["waited"]


@pytest.mark.parametrize("text", ["3", "3:", ":3", "3:3", "4:3", "a:b", "-1:3", "1:2:3", ""])
def test_steps_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected A:B, updates A up to but without B"):
        parse_steps(text)


def test_a_timeline_that_is_not_whole_is_refused() -> None:
    whole = made("async-lu")
    begun = TimedRun(whole.run.program, whole.run.actions[:20])
    with pytest.raises(UsageError, match="--steps 9:12: the timeline has no actions of update 9"):
        window_of(begun, Steps(9, 12))


def test_the_default_is_a_short_part_of_the_steady_state() -> None:
    program = compiled(("async-lu",), STAGES).program()
    assert default_steps(program, 1000) == Steps(484, 516)
    assert default_steps(program, 20) == Steps(0, 20)
    steady = default_steps(program)
    assert (steady.first >= program.start, steady.after - steady.first) == (True, 32)
    assert default_steps(compiled(("1f1b",), 2).program(), 100).after <= 100


TEXT = """\
async-lu on digits: threads, 2 stages
updates 8 to 39: 186.7 ms, 666 events, KIB
no loss: a profile does not keep it
open it at https://ui.perfetto.dev, which uploads nothing, or chrome://tracing
"""


def without_size(text: str) -> str:
    return "\n".join(f"{line.rpartition(', ')[0]}, KIB" if "KiB" in line else line for line in text.split("\n"))


def test_a_profile_is_converted() -> None:
    write_profile(Path("run"))
    (Path("run") / "resolved.yaml").write_text(f"{compiled(('async-lu',), STAGES).schedule}")
    outcome = invoke("tools", "trace", "run", "--out", "a.json")
    assert (outcome.code, without_size(outcome.stdout)) == (0, TEXT)
    assert outcome.stderr == "wrote a.json\n"
    found = json.loads(invoke("tools", "trace", "run", "--out", "b.json.gz", "--steps", "8:40", "--json").stdout)
    assert (found["steps"], found["events"], found["unavailable"]) == (
        [8, 40],
        666,
        {"loss": "a profile does not keep it"},
    )
    assert (
        found["file_bytes"] == Path("b.json.gz").stat().st_size < found["json_bytes"] == Path("a.json").stat().st_size
    )
    assert read("b.json.gz") == read("a.json")
    assert {file.name for file in Path().iterdir()} == {"run", "a.json", "b.json.gz"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--steps", "4:999"], "--steps 4:999: the run has 48 updates\n  help: as in --steps 0:48\n"),
        (["run", "--seed", "3", "-o", "in_flight=2"], "--seed, -o have no meaning with a folder\n"),
        (["run", "--out", "x.txt"], "--out x.txt: expected a name that ends in .json or .json.gz\n"),
        (["run", "--out", "no/x.json"], "--out no/x.json: cannot be written: No such file or directory\n"),
        (["trained"], "trained: has no timeline.csv, since nobody timed its actions\n"),
        (["bare"], "bare: has no resolved.yaml\n"),
        (["other"], "other is a run of another schedule than ddp: async-lu, or changed since\n"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_its_reason(arguments: list[str], message: str) -> None:
    for name, schedule in (("run", "async-lu"), ("other", "ddp"), ("bare", "")):
        write_profile(Path(name), profiled())
        if schedule:
            (Path(name) / "resolved.yaml").write_text(str(compiled((schedule,), STAGES).schedule))
    write_run(Path("trained"), *rows(1))
    outcome = invoke("tools", "trace", *arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"error: {message}")
    assert not list(Path().glob("**/*.new"))


def test_a_schedule_is_timed_and_its_trace_is_valid() -> None:
    outcome = invoke("tools", "trace", "async-lu", "--stages", "2", "--steps", "2:6", "--out", "t.json", "--json")
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)
    assert (found["schedule"], found["job"], found["steps"], found["unavailable"]) == ("async-lu", "digits", [2, 6], {})
    events = read("t.json")
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert {"0F2", "0F3", "0F4", "0F5"} <= names
    assert {event["cat"] for event in events if event["ph"] == "X"} == {"F", "B", "U"}
    assert "0F20" not in names
    assert len(counter(events, "loss")) >= 4


def test_a_large_trace_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncpipe.tools.trace.file.MOST_COMFORTABLE_BYTES", 1000)
    write_profile(Path("run"))
    (Path("run") / "resolved.yaml").write_text(f"{compiled(('async-lu',), STAGES).schedule}")
    outcome = invoke("tools", "trace", "run")
    assert outcome.stderr.startswith("warning: 76.6 KiB of JSON are much for a browser; ")
    assert "trace_processor_shell --httpd trace.json.gz" in outcome.stderr


def test_more_updates_than_a_viewer_shows_are_not_timed() -> None:
    outcome = invoke("tools", "trace", "sgd", "--steps", "0:1000000")
    assert (outcome.code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: --steps 0:1000000: 1,000,00")
