"""`tools profile` on runs with chosen times: its text whole, and every number from the times alone."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from textwrap import indent

import pytest

from asyncpipe.analysis.launch_graph import finite_graph
from asyncpipe.analysis.workers import Workers
from asyncpipe.errors import ScheduleError, UsageError
from asyncpipe.ir import Op, TimedAction, TimedRun, parse_action
from asyncpipe.tools.profile.distributions import describe, sketch, sketch_censored
from asyncpipe.tools.profile.files import fingerprint, read_measured_costs, read_timeline
from asyncpipe.tools.profile.flight import in_flight
from asyncpipe.tools.profile.overheads import overheads_of
from asyncpipe.tools.profile.profile import examine
from asyncpipe.tools.profile.report import document
from asyncpipe.tools.profile.steps import steps_of
from asyncpipe.tools.profile.streams import StreamUse, stream_uses
from asyncpipe.tools.profile.text import duration, profile_text, signed_percent
from asyncpipe.tools.profile.times import times_of
from tests.pictures.timelines import compiled, program
from tests.tools.profile.measured import COSTS, WORKERS, measured, profiled, write_profile
from tests.tools.profile.test_compare_runs import PICTURE

TEXT = """\
async-lu on digits: threads, 2 stages, 3 streams, 2 workers of 1 thread
time
  period       5.83 ms per microbatch, 5,484 samples/s
  simulated    5.83 ms on 2 workers: +0.0%; 4.20 ms with a processor for each stream
  measured     30 microbatches of 32 samples in 175 ms, after 24 that do not count
costs
                median      10%      90%  count
  0F           2.00 ms  2.00 ms  2.00 ms     30
  1F           2.20 ms  2.20 ms  2.20 ms     30
  0B           3.00 ms  3.00 ms  3.00 ms     30
  1B           3.30 ms  3.30 ms  3.30 ms     29
  0U            500 us   500 us   500 us     30
  1U            550 us   550 us   550 us     30
  beta         1.50: backward over forward; by stage 1.50 1.50
  contention   F 1.50, B 1.50, U 1.50 times as long as alone
streams
                busy  waiting  no worker  dispatch  ends
  forward      70.9%     0.0%      26.5%      0.0%  2.6%
  backward[0]  62.0%    34.3%       0.7%      0.0%  3.0%
     34.3%  B of stage 1 waits for F of stage 1 (data flow)
  backward[1]  62.0%    34.3%       0.6%      0.0%  3.0%
     34.3%  B of stage 1 waits for F of stage 1 (data flow)
workers
  busy         97.5% 97.5%
  hand-over    20.0 us (20.0 us to 20.0 us, 286 times) from an action's end to the next one's begin
in flight
  stage 0      1: 9.3%  2: 90.7%
  stage 1      0: 16.1%  1: 73.2%  2: 10.7%
staleness
  stage 0      0: 5.0%  1: 15.0%  2: 80.0%
  stage 1      0: 5.0%  1: 95.0%
machine
  mfu          2.5%: 2.5 GFLOP/s of 100 GFLOP/s, a 1024 x 1024 float32 matrix product on 2 threads, best of 5
  gpu          not known: threads runs on the CPU
  stopwatch    500 ns for each action, 0.03% of the time
"""
DDP = """\
ddp on digits: threads, 1 stage, 4 replicas, 2 streams, 2 workers of 1 thread
time
  period       12.2 ms per microbatch of each replica, 10,518 samples/s
  simulated    12.2 ms on 2 workers: +0.0%; 6.50 ms with a processor for each stream
  measured     164 microbatches of 32 samples in 499 ms, after 24 that do not count
costs
                median      10%      90%  count
  0F           2.00 ms  2.00 ms  2.00 ms    164
  0B           3.00 ms  3.00 ms  3.00 ms    163
  0U            500 us   500 us   500 us    164
  0SYNC        1.00 ms  1.00 ms  1.00 ms     41
  beta         1.50: backward over forward
  contention   F 1.50, B 1.50, U 1.50 times as long as alone
streams
                  busy  waiting  no worker  dispatch  ends
  replica 0 main 45.2%    50.0%       4.5%      0.2%  0.1%
     50.0%  U of stage 0 waits for SYNC of stage 0 (replicas.sync: allreduce)
  replica 1 main 45.2%    49.8%       4.5%      0.4%  0.1%
     49.8%  U of stage 0 waits for SYNC of stage 0 (replicas.sync: allreduce)
  replica 2 main 45.2%     8.6%      44.9%      0.4%  0.9%
      8.6%  U of stage 0 waits for SYNC of stage 0 (replicas.sync: allreduce)
  replica 3 main 45.2%     8.4%      45.1%      0.4%  0.9%
      8.4%  U of stage 0 waits for SYNC of stage 0 (replicas.sync: allreduce)
workers
  busy         94.5% 94.5%
  hand-over    20.0 us (20.0 us to 20.0 us, 574 times) from an action's end to the next one's begin
  wake         50.0 us (50.0 us to 50.0 us, 48 times) until an idle worker begins
in flight
  stage 0      0: 17.1%  1: 0.8%  2: 82.1%
staleness
  stage 0      0: 5.0%  1: 15.0%  2: 80.0%
machine
  mfu          2.5%: 2.5 GFLOP/s of 100 GFLOP/s, a 1024 x 1024 float32 matrix product on 2 threads, best of 5
  gpu          not known: threads runs on the CPU
  stopwatch    500 ns for each action, 0.03% of the time
"""


def test_text_of_a_profile() -> None:
    assert profile_text(profiled()) == TEXT


def test_text_of_a_profile_of_replicas_that_meet() -> None:
    assert profile_text(profiled("ddp", 1)) == DDP


@pytest.mark.parametrize("schedule", ["async-lu", "1f1b", "ddp", "layup"])
def test_costs_and_overheads_of_a_replayed_run_predict_its_period_exactly(schedule: str) -> None:
    found = examine(measured(compiled((schedule,), 2)), WORKERS.count)
    assert found.predicted.on_workers == pytest.approx(found.period, rel=1e-6)
    assert found.overheads.hand_overs == pytest.approx([WORKERS.hand_over] * 32)
    wakes = [WORKERS.wake] * len(found.overheads.wakes) if found.overheads.wake else [0.0]
    assert found.overheads.wakes == pytest.approx(wakes)


@pytest.mark.parametrize("schedule", ["async-lu", "1f1b", "ddp", "layup", "hogwild"])
def test_work_waits_and_ends_of_a_stream_add_up_to_the_run(schedule: str) -> None:
    found = examine(measured(compiled((schedule,), 2)), WORKERS.count)
    assert len(found.streams) == len(found.run.program.streams) * found.run.program.replicas
    for use in found.streams:
        parts = use.busy, use.waiting, use.no_worker, use.dispatch, use.ends
        assert min(parts) > -1e-12
        assert sum(parts) == pytest.approx(found.length)


def timed(program_streams: tuple[str, ...], *rows: tuple[str, float, float, int]) -> list[TimedAction]:
    """Rows are (action, begin, end, worker); a stream of the same letter as the op runs it."""
    found = []
    for text, begin, end, worker in rows:
        action = parse_action(text)
        stream = next(i for i, name in enumerate(program_streams) if action.op.value in name.split()[3:])
        found.append(TimedAction(0, stream, action, begin, end, worker))
    return found


def uses(*rows: tuple[str, float, float, int], workers: int) -> dict[str, StreamUse]:
    """Of 0F0, 0F1 on one stream, 0B0, 0B1 on another, each B after its F."""
    streams = ("f device 0 runs F", "b device 0 runs B")
    lines = ("f launch 0F0", "f record 0F0", "b wait 0F0", "b launch 0B0")
    more = ("f launch 0F1", "f record 0F1", "b wait 0F1", "b launch 0B1")
    run = TimedRun(program(*lines, *more, streams=streams), timed(("f . . runs F", "b . . runs B"), *rows))
    graph = finite_graph(run.program)
    return {use.stream.name: use for use in stream_uses(steps_of(run, graph), graph, None, workers)}


def test_waiting_for_an_action_and_missing_a_worker_are_told_apart() -> None:
    """One worker: 0B1 has its forward at 4, but the worker is busy with 0B0 until 6."""
    found = uses(("0F0", 0, 2, 0), ("0F1", 2, 4, 0), ("0B0", 4, 6, 0), ("0B1", 6, 8, 0), workers=1)
    assert (found["f"].busy, found["f"].ends, found["f"].waits) == (4, 4, ())
    assert (found["b"].busy, found["b"].ends, found["b"].no_worker) == (4, 4, 0)
    found = uses(("0F0", 0, 2, 0), ("0B0", 2, 3, 0), ("0F1", 3, 7, 0), ("0B1", 7, 8, 0), workers=1)
    assert [found["f"].no_worker, found["f"].dispatch, found["f"].ends] == [1, 0, 1]
    assert [(wait.target, wait.source, wait.seconds) for wait in found["b"].waits] == [((Op.B, 0), (Op.F, 0), 4)]


def test_free_worker_that_begins_late_is_dispatch() -> None:
    found = uses(("0F0", 0, 2, 0), ("0B0", 2, 3, 0), ("0F1", 2.5, 6, 1), ("0B1", 7, 8, 0), workers=2)
    assert [found["f"].no_worker, found["f"].dispatch] == [0, 0.5]
    assert [found["b"].no_worker, found["b"].dispatch, found["b"].waiting] == [0, 1, 3]


def test_overheads_are_gaps_on_workers_that_go_on_and_on_workers_that_were_idle() -> None:
    run = measured(compiled(("ddp",), 1), Workers(2, hand_over=1e-4, wake=3e-4))
    found = overheads_of(steps_of(run, finite_graph(run.program)))
    assert found.hand_overs == pytest.approx([1e-4] * 32)
    assert found.wakes == pytest.approx([3e-4] * len(found.wakes))


def test_times_and_beta_are_those_of_each_stage() -> None:
    found = examine(measured(compiled(("zb-h1",), 2)), 2).times
    assert found.beta(1) == pytest.approx(1.5)
    assert found.means[Op.I, 1] == pytest.approx(COSTS[Op.I] * 1.1)
    costs = found.costs(2)
    assert list(costs) == ["F", "I", "W", "U", "SEND"]
    assert costs["F"] == pytest.approx([0.002, 0.0022])


def test_times_are_those_of_the_steady_part_where_it_has_any() -> None:
    run = measured(compiled(("sgd",), 1))
    late = run.actions[0]._replace(begin=run.actions[0].begin - 1)
    found = times_of(TimedRun(run.program, [late, *run.actions[1:]]), (0.05, 0.1))
    assert found.means[Op.F, 0] == pytest.approx(0.002)
    assert times_of(TimedRun(run.program, [late]), (0.05, 0.1)).means[Op.F, 0] == pytest.approx(1.002)


def test_microbatches_in_flight_are_counted_by_time() -> None:
    rows = timed(
        ("f . . runs F", "b . . runs B"),
        ("0F0", 0, 1, 0),
        ("0F1", 1, 2, 0),
        ("0B0", 3, 4, 0),
        ("0B1", 4, 8, 0),
    )
    assert in_flight(rows, 1, (0, 10)) == [{0: 0.2, 1: 0.5, 2: 0.3}]
    assert in_flight(rows, 1, (2, 4)) == [{2: 1.0}]


def test_sketch_has_the_mean_of_all_values_and_their_order() -> None:
    values = [float(i % 7) ** 2 for i in range(45)]
    found = sketch(values)
    assert len(found) == 32
    assert found == sorted(found)
    assert fmean(found) == pytest.approx(fmean(values))
    assert (found[0], found[-1]) == (0.0, 36.0)
    assert sketch([3.0, 1.0]) == [1.0, 3.0]
    assert sketch([]) == []


def test_distribution_has_values_that_were_measured() -> None:
    found = describe([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    assert found is not None
    assert (found.median, found.p10, found.p90, found.mean, found.count) == (5.5, 1.0, 9.0, 5.5, 10)
    assert describe([]) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.5, "2.50 s"),
        (0.99996, "1.00 s"),
        (0.0123, "12.3 ms"),
        (123e-6, "123 us"),
        (2e-9, "2.00 ns"),
        (0.0, "0.00 ns"),
    ],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_error_that_rounds_to_nothing_has_no_minus() -> None:
    assert [signed_percent(x) for x in (-0.0001, 0.0124, -0.05)] == ["+0.0%", "+1.2%", "-5.0%"]


def test_files_give_back_costs_workers_and_timeline(tmp_path: Path) -> None:
    report = profiled()
    folder = write_profile(tmp_path / "run")
    found = read_measured_costs(folder / "profile.json")
    assert (found.workers.count, found.workers.wake) == (2, 0)
    assert found.workers.hand_over == pytest.approx(WORKERS.hand_over)
    assert found.times.costs[Op.B, 0] == report.profile.times.samples[Op.B, 0]
    assert found.seconds(Op.F, 1) == pytest.approx(0.0022)
    assert found.seconds(Op.SEND_F, 0) == 0.0
    assert found.document["program_sha256"] == fingerprint(report.profile.run.program)
    back = read_timeline(folder, report.profile.run.program)
    for row, own in zip(back, report.profile.run.actions, strict=True):
        assert row[:3] == own[:3]
        assert row[3:5] == pytest.approx(own[3:5], abs=1e-9)
        assert row.worker == own.worker


def test_document_is_json_with_a_reason_for_each_null() -> None:
    found = json.loads(json.dumps(document(profiled())))
    assert found["schema"] == "asyncpipe.profile/1"
    assert found["gpu"] is None
    assert found["unavailable"] == {"gpu": "threads runs on the CPU"}
    assert found["predicted"]["error"] == pytest.approx(0, abs=1e-6)
    assert found["costs_alone"]["B"] == pytest.approx([0.002, 0.0022])
    assert found["contention"] == pytest.approx({"F": 1.5, "B": 1.5, "U": 1.5})
    assert found["efficiency"]["mfu"] == 0.025
    first = found["streams"][1]
    assert first["waits"][0]["action"] == "1B"
    assert (first["waits"][0]["for"], first["waits"][0]["reason"]) == ("1F", "data flow")


def test_costs_without_workers_are_no_profile_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{"schema": "asyncpipe.profile/1", "costs": {"F": 1}}')
    with pytest.raises(UsageError, match="has costs, and not the workers that they were measured on"):
        read_measured_costs(tmp_path / "costs.json")
    with pytest.raises(ScheduleError):
        read_measured_costs(tmp_path / "none.json")


def test_damaged_timeline_is_named(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "run")
    (folder / "timeline.csv").write_text("replica,stream\n0,sideways\n")
    with pytest.raises(UsageError, match=r"timeline.csv: cannot be read: ValueError 'sideways' is not in list"):
        read_timeline(folder, profiled().profile.run.program)


def test_document_on_the_tools_shows_what_they_print() -> None:
    shown = (Path(__file__).parents[3] / "docs" / "tools.md").read_text("utf-8")
    assert indent(TEXT, "    ") in shown
    assert indent(PICTURE, "    ") in shown


def test_wake_up_that_lost_its_action_counts_as_longer_than_it_took() -> None:
    """The second worker is called at 4 for 0F2, which the first takes at 5; called at 7, it begins 0B2 at 7.5."""
    streams = ("f device 0 runs F", "b device 0 runs B")
    lines = [f"{line}{m}" for m in range(3) for line in ("f launch 0F", "f record 0F", "b wait 0F", "b launch 0B")]
    rows = timed(
        ("f . . runs F", "b . . runs B"),
        ("0F0", 0, 1, 0),
        ("0B0", 1.5, 2, 1),
        ("0F1", 1, 4, 0),
        ("0B1", 4, 5, 0),
        ("0F2", 5, 7, 0),
        ("0B2", 7.5, 8, 1),
    )
    run = TimedRun(program(*lines, streams=streams, microbatches=3), rows)
    found = overheads_of(steps_of(run, finite_graph(run.program)))
    assert (found.wake, found.wakes) == (describe([0.5]), [0.5, 1.0])
    assert (found.hand_over, found.hand_overs) == (describe([0.0] * 3), [0.0] * 3)


def test_lost_times_make_the_others_less_likely() -> None:
    """Of four, one took 1; one more than 2; then each of the two left is half of what is left."""
    assert sketch_censored([1.0, 3.0, 4.0], [2.0]) == [1.0, 3.0, 3.0, 4.0]
    assert sketch_censored([1.0], [5.0]) == [1.0, 5.0]
    assert sketch_censored([], [2.0]) == [2.0]
    assert sketch_censored([], []) == []
