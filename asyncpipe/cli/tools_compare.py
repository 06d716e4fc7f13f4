"""`asyncpipe tools compare`: two schedules on one job, or the runs in two folders, by paired seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asyncpipe.cli.delay_options import check_streams, named_values
from asyncpipe.cli.options import json_option, override_option, refuse_two_lengths
from asyncpipe.cli.output import prints_on_stderr
from asyncpipe.cli.run import read_inputs
from asyncpipe.errors import UsageError

if TYPE_CHECKING:
    from asyncpipe.tools.compare.arms import Pairs
    from asyncpipe.tools.compare.measures import Goal, Measure
    from asyncpipe.tools.compare.verdict import Verdict
    from asyncpipe.tools.report.groups import Spread
    from asyncpipe.training import TrainingRun

__all__ = ["command"]

_MEASURE_EVERY = 50
"""As `run` does by default: a report on the runs then has divergence."""
_TRAINING = (
    "job",
    "backend",
    "stages",
    "steps",
    "epochs",
    "seeds",
    "delays",
    "stragglers",
    "out",
    "allow",
    "overrides",
)


@click.command("compare")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--job", metavar="NAME|FILE", help="What both train; default: that of their files, else digits.")
@click.option("--backend", type=click.Choice(["auto", "serial", "threads"]), default="auto", show_default=True)
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--steps", type=click.IntRange(1), help="Stop after so many updates.")
@click.option("--epochs", type=click.IntRange(1), help="Default: the job's.")
@click.option("--seeds", type=click.IntRange(2, 1000), default=5, show_default=True, help="How many pairs of runs.")
@click.option("--target", type=click.FloatRange(0, 1), metavar="0..1", help="The accuracy whose time decides.")
@click.option("--delay", "delays", multiple=True, metavar="STREAM=TIME", help="For both, as in `run`.")
@click.option("--straggler", "stragglers", multiple=True, metavar="STREAM=FACTOR", help="For both, as in `run`.")
@click.option(
    "-a", "only_a", multiple=True, metavar="KEY=VALUE", help="As -o, for A alone: its own learning rate, say."
)
@click.option("-b", "only_b", multiple=True, metavar="KEY=VALUE", help="As -o, for B alone.")
@click.option("--out", metavar="FOLDER", help="Where the runs go; default: runs/compare-TIME.")
@click.option("--allow", multiple=True, metavar="PACKAGE|FILE", help="Code of the job that may run.")
@override_option
@json_option
@click.pass_context
def command(context: click.Context, /, a: str, b: str, target: float | None, as_json: bool, **asked: Any) -> None:
    """Say whether B is worth it instead of A on a job: by accuracy against samples, and against time.

    A and B are schedules (files or library names), which are trained in turns with the same seeds; or folders with
    finished runs, which are paired by seed. Time is that of training on threads, virtual time on serial. The time to
    the accuracy that every run came to (or --target) decides: worth it here, not here, or no difference that so many
    seeds can show.
    """
    from asyncpipe.tools.compare.arms import pair_arms, read_arm
    from asyncpipe.tools.compare.measures import Goal, common_goal, measures
    from asyncpipe.tools.compare.verdict import decide

    places = [a, b]
    if Path(a).is_dir() and Path(b).is_dir():
        _refuse_training_options(context)
    elif Path(a).is_dir() or Path(b).is_dir():
        raise UsageError(f"{a} and {b}: one is a folder and one a schedule", "compare two schedules, or two folders")
    else:
        places = [str(folder) for folder in _train(a, b, asked)]
    pairs = pair_arms(*map(read_arm, places))
    goal = common_goal(pairs)
    if target is not None:
        if goal.is_loss:
            raise UsageError("--target: the job's targets are no classes, so that there is no accuracy", "leave it out")
        goal = Goal(target)
    found = measures(pairs, goal)
    verdict = decide(found[-1], goal)
    for note in pairs.notes:
        click.echo(f"warning: {note}", err=True)
    if as_json:
        click.echo(json.dumps(_document(pairs, goal, found, verdict, places)))
    else:
        click.echo("\n".join(_lines(pairs, found, verdict, places)))


def _refuse_training_options(context: click.Context) -> None:
    """Finished runs are what they are."""
    given = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in (*_TRAINING, "only_a", "only_b") and context.get_parameter_source(name) is given:
            raise UsageError(f"{parameter.opts[0]}: the runs in these folders are finished", "leave it out")


def _train(a: str, b: str, asked: dict[str, Any]) -> Sequence[Path]:
    """Both arms trained, in folders a and b of the output."""
    refuse_two_lengths(asked["steps"], asked["epochs"])
    from asyncpipe.tools.compare.arms import refuse_different_jobs, train_arms
    from asyncpipe.tools.environment import describe_environment
    from asyncpipe.training.directory import new_folder

    job = asked["job"]
    makes = [_make(place, job, asked, own) for place, own in ((a, asked["only_a"]), (b, asked["only_b"]))]
    first, second = (make(0, 1).spec for make in makes)
    refuse_different_jobs(a, first, b, second)
    seeds = range(first.train.seed, first.train.seed + asked["seeds"])
    out = new_folder(asked["out"], "compare")
    with prints_on_stderr():
        return train_arms(makes, seeds, out, describe_environment(), lambda text: click.echo(text, err=True))


def _make(
    place: str, job: str | None, asked: dict[str, Any], own: Sequence[str]
) -> Callable[[int, int | None], TrainingRun]:
    """A function of (seed, steps) that gives a run of this arm; what is wrong with its files is told now."""
    late = named_values("--delay", asked["delays"], "backward[0]=4T")
    slow = named_values("--straggler", asked["stragglers"], "backward[0]=1.5")
    loaded, spec, compiled = read_inputs(place, job, asked["stages"], (*asked["overrides"], *own))
    check_streams((*late, *slow), compiled.program())
    from asyncpipe.training import TrainingRun

    def make(seed: int, steps: int | None) -> TrainingRun:
        updates, epochs = (asked["steps"], asked["epochs"]) if steps is None else (steps, None)
        allow = tuple(asked["allow"])
        run = TrainingRun(loaded, spec, asked["backend"], asked["stages"], updates, epochs, seed, allow, True)
        return replace(run, delays=late, stragglers=slow, measure_every=_MEASURE_EVERY)

    return make


def _lines(pairs: Pairs, found: Sequence[Measure], verdict: Verdict, places: Sequence[str]) -> list[str]:
    """A table of the measures, and the verdict below."""
    from asyncpipe.tools.compare.arms import differences_of_jobs

    a, b, job = pairs.a.name, pairs.b.name, pairs.a.runs[0]
    lines = [f"{a} and {b} on {job.job_name}, {job.backend}, {len(pairs.seeds)} seeds; B is {b}"]
    rows = [["", a, b, "B against A (95 % interval)", "p"]]
    for measure in found:
        early = sum(measure.early_a), sum(measure.early_b)
        cells = [_spread(value, measure, count) for value, count in zip(measure.spreads, early, strict=True)]
        rows.append([measure.name, *cells, *_against(measure)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if also := list(differences_of_jobs(pairs)):
        lines.append(f"the jobs differ too: {', '.join(also)}")
    test = "" if verdict.p is None else f" ({verdict.test}, p {_probability(verdict.p, '= ')})"
    lines.append(f"verdict: {b} instead of {a}: {verdict.answer}: {verdict.why}{test}")
    return [*lines, f"to draw them: asyncpipe tools report {' '.join(places)}"]


def _spread(value: Spread | None, measure: Measure, early: int) -> str:
    """`early` runs had passed the goal at their first evaluation, and have no number."""
    count = len(measure.a)
    passed = f"{early} of {count} before the first evaluation" if early else ""
    if value is None:
        return passed or ("not reached" if measure.is_ratio else "not evaluated by then")
    unit = f" {measure.unit}" if measure.unit else ""
    some = [f"{value.runs} of {count}" if value.runs < count else "", passed]
    missing = f" ({'; '.join(filter(None, some))})" if any(some) else ""
    around = "" if value.deviation is None else f" ± {_number(value.deviation, measure)}"
    return f"{_number(value.mean, measure)}{around}{unit}{missing}"


def _number(value: float, measure: Measure, sign: str = "") -> str:
    """A count without decimals, per cents and seconds with two, times T with one, losses with four."""
    decimals = {"%": 2, "s": 2, "T": 1}.get(measure.unit, 0 if measure.is_ratio else 4)
    return f"{value * (100 if measure.unit == '%' else 1):{sign}.{decimals}f}"


def _probability(p: float, equals: str = "") -> str:
    return f"{equals}{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _against(measure: Measure) -> tuple[str, str]:
    """How B differs, with its interval, and the p-value; without a spread there is neither."""
    difference = measure.difference
    if difference is None:
        return "cannot be told" if measure.is_censored else "", ""
    mean, low, high, p = difference
    if p is None:
        shown = f"{1 / mean:.2f}x" if measure.is_ratio else _number(mean, measure, "+")
        return f"{shown} (seeds made no difference to it)", ""
    shown = _probability(p)
    if measure.is_ratio:
        return f"{1 / mean:.2f}x ({1 / high:.2f} to {1 / low:.2f})", shown
    return f"{_number(mean, measure, '+')} ({_number(low, measure, '+')} to {_number(high, measure, '+')})", shown


def _document(
    pairs: Pairs, goal: Goal, found: Sequence[Measure], verdict: Verdict, places: Sequence[str]
) -> dict[str, Any]:
    """`asyncpipe.compare/1`."""
    from asyncpipe.tools.compare.arms import differences_of_jobs

    return {
        "schema": "asyncpipe.compare/1",
        "a": pairs.a.name,
        "b": pairs.b.name,
        "job": pairs.a.runs[0].job_name,
        "backend": pairs.a.runs[0].backend,
        "seeds": pairs.seeds,
        "time_unit": "T" if pairs.is_virtual else "s",
        "goal": {goal.key: goal.value},
        "jobs_differ_in": list(differences_of_jobs(pairs)),
        "measures": [_measure(measure) for measure in found],
        "curves": {name: [_curve(run) for run in arm.runs] for name, arm in (("a", pairs.a), ("b", pairs.b))},
        "verdict": {"answer": verdict.answer, "why": verdict.why, "test": verdict.test, "p": verdict.p},
        "notes": pairs.notes,
        "runs": list(places),
    }


def _measure(measure: Measure) -> dict[str, Any]:
    """`ratio` is A's value over B's, as of times: above 1 where B is sooner.

    A number whose `passed_before_first_evaluation` is true is an upper bound; then there is no test.
    """
    difference = measure.difference
    key = "ratio" if measure.is_ratio else "difference"
    test = None if difference is None else {key: difference.mean, "low": difference.low, "high": difference.high}
    p = None if difference is None else difference.p
    early = {"a": measure.early_a, "b": measure.early_b}
    numbers = {"name": measure.name, "unit": measure.unit, "a": measure.a, "b": measure.b}
    return {**numbers, "passed_before_first_evaluation": early, "b_against_a": test, "p": p}


def _curve(run: Any) -> dict[str, Any]:
    """The evaluations of a run."""
    rows = run.evaluations
    return {
        "seed": run.seed,
        "samples": [row["samples"] for row in rows],
        "time": [run.time_of(row) for row in rows],
        "accuracy": [row["accuracy"] for row in rows],
        "loss": [row["loss"] for row in rows],
    }
