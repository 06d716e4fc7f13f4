"""`asyncpipe tools tune`: which setting of a schedule is fastest on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncpipe.cli.options import json_option, override_option, parse_costs, size_of
from asyncpipe.cli.run import read_inputs
from asyncpipe.errors import UsageError
from asyncpipe.schedule.profile import is_profile

if TYPE_CHECKING:
    from asyncpipe.schedule import Costs, Schedule
    from asyncpipe.schedule.job import JobSpec
    from asyncpipe.tools.tune.objective import Objective
    from asyncpipe.tools.tune.patch import Patch
    from asyncpipe.tools.tune.trials import Trials
    from asyncpipe.tools.tune.tune import Tuning

__all__ = ["command"]


@click.command("tune")
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--job", metavar="NAME|FILE", help="What to train; default: the file's `job:`, else digits.")
@click.option(
    "--backend", type=click.Choice(["auto", "threads", "streams", "graph"]), default="auto", show_default=True
)
@click.option("--emulate", is_flag=True, help="On streams and graph: one GPU stands for all devices.")
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages; default: search among some.")
@click.option("--space", "spaces", multiple=True, metavar="KEY=VALUES", help="As in streams.backward.count=1..4.")
@click.option("--max-staleness", type=click.IntRange(0), help="Reject what is planned to be staler.")
@click.option("--memory", metavar="SIZE", help="Reject what needs more; a trial that takes more ends.")
@click.option("--costs", metavar="FILE.json", help="A profile, instead of the time to make one.")
@click.option("--objective", default="samples/s", show_default=True, help="Or time-to-loss=X: of the test loss.")
@click.option("--best", type=click.IntRange(0, 100), default=4, show_default=True, help="How many promising settings.")
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds of trials.")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), default=2.0, show_default=True, help="Of each trial.")
@click.option("--timeout", type=click.FloatRange(1, 86400), default=120.0, show_default=True, help="Of each trial.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Default: the job's.")
@click.option("--out", metavar="FOLDER", help="Keeps trials.jsonl; default: runs/tune-SCHEDULE-JOB.")
@click.option("--retry", is_flag=True, help="Run those trials again that failed before.")
@click.option("--patch", "patch_file", metavar="FILE", help="Write the change of the schedule as a unified diff.")
@click.option("--apply", "applies", is_flag=True, help="Change the file; of a library schedule make NAME-tuned.yaml.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
def command(schedule: str, objective: str, patch_file: str | None, applies: bool, as_json: bool, **asked: Any) -> None:
    """Find the counts of streams, depth, cut and intra-op threads with which SCHEDULE is fastest on this machine.

    One profile times the layers, from which all settings are planned. The most promising ones, the file's own and the
    synchronous schedule are measured, each trial in a process of its own, in turns. The same command goes on where it
    was stopped: what was measured on this machine is not measured again.
    """
    from asyncpipe.tools.tune.command import command_of
    from asyncpipe.tools.tune.document import document_of
    from asyncpipe.tools.tune.objective import read_objective
    from asyncpipe.tools.tune.text import lines_of, warnings_of

    goal = read_objective(objective)
    loaded, spec, _ = read_inputs(schedule, asked["job"], asked["stages"], asked["overrides"])
    _refuse_existing(loaded, applies)
    tuning = _tune(schedule, loaded, spec, goal, asked)
    for text in warnings_of(tuning):
        _say(f"warning: {text}")
    options = _options(asked)
    run = command_of(tuning, tuning.verdict.best, asked["overrides"], options)
    document = document_of(tuning, goal, spec.name, run)
    folder = tuning.trials.journal.path.parent
    (folder / "result.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo("\n".join(lines_of(tuning, goal, spec.name, asked["overrides"], options)))
    _write_patch(tuning, spec.name, asked["overrides"], folder, patch_file, applies)


def _tune(name: str, loaded: Schedule, spec: JobSpec, goal: Objective, asked: dict[str, Any]) -> Tuning:
    from asyncpipe.tools.tune.planning import Limits
    from asyncpipe.tools.tune.space import read_spaces
    from asyncpipe.tools.tune.tune import Asked, tune

    memory = None if asked["memory"] is None else size_of(asked["memory"])
    trials = _trials(name, spec, goal, memory, asked, Path(asked["out"] or f"runs/tune-{loaded.name}-{spec.name}"))
    limits = Limits(asked["max_staleness"], memory)
    cores = trials.machine["cpu"]["usable"]
    costs = None if asked["costs"] is None else _profile(asked["costs"])
    what = Asked(read_spaces(asked["spaces"]), limits, asked["best"], asked["repeats"], cores, costs)
    try:
        return tune(loaded, trials, what, _say)
    except KeyboardInterrupt:
        _say(f"stopped; the same command goes on with the {len(trials.journal)} trials of {trials.journal.path}")
        raise


def _profile(file: str) -> Costs:
    """Times in seconds: what `tools profile` writes."""
    if not is_profile(file):
        raise UsageError(f"--costs {file!r}: expected the profile.json of `asyncpipe tools profile`")
    return parse_costs(file)


def _trials(
    name: str, spec: JobSpec, goal: Objective, memory: int | None, asked: dict[str, Any], folder: Path
) -> Trials:
    from asyncpipe.tools.tune.journal import Journal
    from asyncpipe.tools.tune.process import run_trial
    from asyncpipe.tools.tune.request import Request
    from asyncpipe.tools.tune.trials import Trials, machine_and_versions

    base = Request(
        kind=goal.kind,
        schedule=name,
        overrides=tuple(asked["overrides"]),
        tuned=name,
        job=asked["job"],
        backend="threads" if asked["backend"] == "auto" else asked["backend"],
        stages=asked["stages"],
        emulate=asked["emulate"],
        allow=tuple(asked["allow"]),
        seed=spec.train.seed if asked["seed"] is None else asked["seed"],
        seconds=asked["seconds"],
        warm_up=min(0.5, asked["seconds"] / 4),
        target=goal.target,
        memory=memory,
    )
    journal, machine = Journal(folder / "trials.jsonl"), machine_and_versions()
    return Trials(base, journal, run_trial, asked["timeout"], machine, asked["retry"])


def _options(asked: dict[str, Any]) -> list[str]:
    """Those that `run` has too."""
    words = ["--job", asked["job"]] if asked["job"] else []
    words += ["--backend", asked["backend"]] if asked["backend"] != "auto" else []
    words += ["--emulate"] if asked["emulate"] else []
    return [*words, *(word for text in asked["allow"] for word in ("--allow", text))]


def _refuse_existing(schedule: Schedule, applies: bool) -> None:
    """Before anything runs: a file of the user is not overwritten by a new one."""
    from asyncpipe.tools.tune.patch import new_file

    file = new_file(schedule)
    if applies and file is not None and file.exists():
        raise UsageError(
            f"--apply: {file} exists, and {schedule.name} is part of asyncpipe", "remove it, or use --patch"
        )


def _write_patch(
    tuning: Tuning, job: str, overrides: Sequence[str], folder: Path, file: str | None, applies: bool
) -> None:
    """best.patch beside the trials; the file itself where that was asked for."""
    found = _patch(tuning, job, overrides)
    if found is None or not found.diff:
        if file is not None or applies:
            _say("nothing was written: the schedule stays as it is")
        return
    target = Path(file) if file is not None else folder / "best.patch"
    target.write_text(found.diff, "utf-8")
    _say(f"wrote {target}")
    if applies:
        found.file.write_text(found.after, "utf-8")
        _say(f"wrote {found.file}")


def _patch(tuning: Tuning, job: str, overrides: Sequence[str]) -> Patch | None:
    """None where the answer is another schedule, or the file as it is."""
    from asyncpipe.tools.tune.patch import make_patch

    verdict = tuning.verdict
    candidate = verdict.best.plan.candidate
    if verdict.best is verdict.own and tuning.schedule.ratio == "auto":
        candidate = candidate.with_settings([("streams.ratio", verdict.best.plan.counts)])
    if candidate.is_synchronous or not candidate.settings:
        return None
    gain = "" if verdict.gain is None else f", {verdict.gain.value:.2f}x of {tuning.schedule.name}"
    remark = f"Tuned for {job} on {datetime.now(UTC):%Y-%m-%d}{gain}; {tuning.trials.machine['cpu']['model']}."
    return make_patch(tuning.schedule, candidate, overrides, remark)


def _say(text: str) -> None:
    click.echo(text, err=True)
