"""`asyncpipe run`: train a job under a schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import click

from asyncpipe.cli.delay_options import check_streams, named_values
from asyncpipe.cli.instance import check_job, instance_stages
from asyncpipe.cli.options import json_option, override_option, refuse_two_lengths
from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.cli.replay_options import read_recorded
from asyncpipe.cli.stable_lr import warn_of_rate
from asyncpipe.compiler import Compiled, check_expect, compile_instance
from asyncpipe.errors import ScheduleError
from asyncpipe.schedule import Schedule, read_schedule
from asyncpipe.schedule.job import JobSpec, read_job
from asyncpipe.schedule.source import Report
from asyncpipe.verify.trainable import untrainable

__all__ = ["command", "read_inputs"]

DEFAULT_SCHEDULE = "async-lu"
BACKENDS = ["auto", "serial", "threads", "streams", "graph"]


@click.command("run")
@click.argument("schedule", metavar="[SCHEDULE]", required=False)
@click.option("--job", metavar="NAME|FILE", help="What to train; default: the file's `job:`, else digits.")
@click.option(
    "--backend", type=click.Choice(["auto", "serial", "threads", "streams", "graph"]), default="auto", show_default=True
)
@click.option("--emulate", is_flag=True, help="On streams and graph: one GPU stands for all devices.")
@click.option(
    "--period",
    type=click.IntRange(1, 256),
    help="Microbatches of one graph, at least; default: 8, or fewer where memory is short.",
)
@click.option(
    "--data",
    type=click.Choice(["auto", "device", "pinned"]),
    default="auto",
    help="Where streams and graph keep the data set; auto: on the GPU, if it fits.",
)
@click.option(
    "--executables",
    type=click.IntRange(1, 4),
    default=1,
    help="Graphs of one period, launched in turn, so that the next is prepared while one runs.",
)
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--steps", type=click.IntRange(1), help="Stop after so many updates.")
@click.option("--epochs", type=click.IntRange(1), help="Default: the job's.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Default: the job's.")
@click.option("--delay", "delays", multiple=True, metavar="STREAM=TIME", help="Once for each microbatch of a stream.")
@click.option(
    "--straggler", "stragglers", multiple=True, metavar="STREAM=FACTOR", help="It takes so many times longer."
)
@click.option("--record", is_flag=True, help="Log the order of all actions into interleaving.log.")
@click.option("--record-to", metavar="FILE", help="As --record, into another file.")
@click.option("--replay", metavar="LOG|FOLDER", help="Run the order of a recorded run, on serial.")
@click.option("--target", type=click.FloatRange(0, 1), metavar="0..1", help="Say when test accuracy came to this.")
@click.option(
    "--measure-every",
    type=click.IntRange(0),
    default=50,
    metavar="N",
    help="How far weights move, on 1 in N; 0: never.",
)
@click.option("--timed", is_flag=True, help="Write how busy each stream is, for `tools watch`.")
@click.option("--out", metavar="FOLDER", help="The run directory; default: runs/SCHEDULE-TIME.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
def command(
    schedule: str | None,
    job: str | None,
    backend: str,
    emulate: bool,
    period: int | None,
    data: str,
    executables: int,
    stages: int | None,
    steps: int | None,
    epochs: int | None,
    seed: int | None,
    delays: Sequence[str],
    stragglers: Sequence[str],
    record: bool,
    record_to: str | None,
    replay: str | None,
    target: float | None,
    measure_every: int,
    timed: bool,
    out: str | None,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Train a job under SCHEDULE (a file or a library name; default: async-lu).

    The run directory gets schedule.yaml, resolved.yaml, env.json, metrics.jsonl and summary.json. The result goes to
    stdout, everything else to stderr. STREAM and TIME are as in `asyncpipe simulate`; TIME has a unit: 4T (forward
    passes of one microbatch), 0.5s or 20ms (real time, on threads), none (cost). Each may be repeated.

    With --replay, schedule, job, stages, seed and length are those of the log and the run directory that it lies in.
    """
    refuse_two_lengths(steps, epochs)
    late = named_values("--delay", delays, "backward[0]=4T")
    slow = named_values("--straggler", stragglers, "backward[0]=1.5")
    known = read_recorded(replay, backend, bool(late or slow), bool(record or record_to))
    schedule, stages = schedule or known.schedule or DEFAULT_SCHEDULE, stages or known.stages
    loaded, spec, compiled = read_inputs(schedule, job, stages, overrides)
    check_streams((*late, *slow), compiled.program())
    warn_of_rate(compiled, spec)
    from asyncpipe.tools.environment import describe_environment
    from asyncpipe.training import TrainingRun

    backend, seed = "serial" if replay else backend, known.seed if seed is None else seed
    run = TrainingRun(loaded, spec, backend, stages, steps, epochs, seed, tuple(allow), as_json)
    run = replace(run, delays=late, stragglers=slow, measure_every=measure_every, target=target)
    run = replace(run, emulate=emulate, period=period, data=data, microbatches=known.microbatches)
    run = replace(run, executables=executables)
    run = replace(run, record=record_to or record, replay=replay, timed=timed)
    with prints_on_stderr():
        summary = run.execute(out, describe_environment())
    click.echo(json.dumps(summary) if as_json else run.result_text(summary))


def read_inputs(
    schedule: str, job: str | None, stages: int | None, overrides: Sequence[str]
) -> tuple[Schedule, JobSpec, Compiled]:
    """Both files, checked and compiled before anything runs; ScheduleError tells what is wrong with either."""
    report = Report()
    loaded = read_schedule(schedule, report, overrides)
    source = job or (loaded.job if loaded else None)
    spec = read_job(source, report, overrides)
    compiled = None
    if loaded is not None and spec is not None and not report.has_errors:
        expected = check_expect(loaded, report)
        for diagnostic in untrainable(loaded):
            report.add(diagnostic)
        count, _ = instance_stages(loaded, stages, spec, check_job(spec, report), report)
        compiled = None if count is None else compile_instance(loaded, count, loaded.costs, report, expected)
    if loaded is None or spec is None or compiled is None or report.has_errors:
        raise ScheduleError(report.diagnostics)
    return loaded, spec, compiled
