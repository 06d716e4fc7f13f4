"""Measured runs with chosen times: what two workers would have done, as if a stopwatch had seen it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from asyncpipe.analysis.asap import meets
from asyncpipe.analysis.launch_graph import finite_graph
from asyncpipe.analysis.workers import Workers, run_on_workers
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Op, TimedAction, TimedRun
from asyncpipe.tools.profile.efficiency import Efficiency
from asyncpipe.tools.profile.files import PROFILE_NAME, write_timeline
from asyncpipe.tools.profile.profile import examine
from asyncpipe.tools.profile.report import ProfileReport, Setting, document
from asyncpipe.tools.profile.times import OpTimes
from tests.pictures.timelines import compiled

__all__ = ["COSTS", "WORKERS", "measured", "profiled", "write_profile"]

COSTS = {Op.F: 0.002, Op.B: 0.003, Op.U: 0.0005, Op.I: 0.0015, Op.W: 0.0015, Op.SYNC: 0.001}
WORKERS = Workers(2, hand_over=20e-6, wake=50e-6)
MICROBATCHES = 48


def measured(
    planned: Compiled, workers: Workers = WORKERS, costs: Mapping[Op, float] = COSTS, microbatches: int = MICROBATCHES
) -> TimedRun:
    """Stages take 1, 2, 3, ... tenths more than `costs`."""
    program = planned.program(microbatches)
    graph = finite_graph(program)
    run = run_on_workers(graph, [costs.get(op, 0.0) * (1 + stage / 10) for op, stage in graph.keys], workers)
    actions = [
        TimedAction(replica, graph.stream[i], graph.action(i), starts[i], ends[i], own[i])
        for replica, (starts, ends, own) in enumerate(zip(run.starts, run.ends, run.workers, strict=True))
        for i in range(len(graph))
    ]
    # A SYNC at which replicas meet runs once, under the name of one of them.
    once = meets(program)
    kept = [timed for timed in actions if not (once and timed.action.op is Op.SYNC and timed.replica)]
    return TimedRun(program, sorted(kept, key=lambda timed: timed.end))


@cache
def profiled(schedule: str = "async-lu", stages: int = 2) -> ProfileReport:
    """A report whose every number follows from COSTS; alone everything takes two thirds as long."""
    planned = compiled((schedule,), stages)
    alone = measured(planned, Workers(1), {op: seconds * 2 / 3 for op, seconds in COSTS.items()})
    staleness = {"histogram": [{"0": 2, "1": 6, "2": 32}, *[{"1": 38, "0": 2}] * (stages - 1)]}
    profile = examine(measured(planned), WORKERS.count, planned, alone, staleness)
    setting = Setting(schedule, "digits", "threads", "cpu", 0, 32, 1, 24)
    found = Efficiency(2.5e9, 1e11, "a 1024 x 1024 float32 matrix product on 2 threads, best of 5")
    return ProfileReport(setting, profile, found, 5e-7, None, {"gpu": "threads runs on the CPU"})


def write_profile(folder: Path, report: ProfileReport | None = None, slower: float = 1.0) -> Path:
    """A folder as `tools profile` leaves it; its times are `slower` times as long as those of the run."""
    report = report or profiled()
    folder.mkdir(parents=True)
    times = report.profile.times
    samples = {key: [seconds * slower for seconds in each] for key, each in times.samples.items()}
    means = {key: replace(found, mean=found.mean * slower) for key, found in times.distributions.items()}
    profile = replace(report.profile, times=OpTimes(means, samples))
    (folder / PROFILE_NAME).write_text(json.dumps(document(replace(report, profile=profile))), "utf-8")
    write_timeline(folder, report.profile.run.program, report.profile.run.actions)
    return folder
