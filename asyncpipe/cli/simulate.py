"""`asyncpipe simulate`: what a schedule does in virtual time, how fast it can be at best, and what holds it back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from asyncpipe.analysis.distribution import Distribution
from asyncpipe.cli.options import allow_option, json_option, override_option
from asyncpipe.cli.pictures import check_targets, picture_options
from asyncpipe.cli.simulate_json import document
from asyncpipe.cli.simulate_text import report
from asyncpipe.cli.simulation import SAMPLES, Asked, Results, analyse, prepare, prepare_rival
from asyncpipe.cli.simulation import swept as with_sweep
from asyncpipe.cli.timing_options import parse_cost_model, parse_delay, parse_link, parse_straggler, parse_sweep
from asyncpipe.errors import UsageError

__all__ = ["command"]


@click.command("simulate")
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--stages", type=click.IntRange(1, 4096), help="How many stages.")
@click.option("--microbatches", type=click.IntRange(1, 10**9), help="How many microbatches the run has.")
@click.option("--costs", metavar="F=1,B=normal(2,0.1)|FILE.json", help="Time of each op, or a measured profile.")
@click.option("--job", metavar="NAME|FILE", help="A job: its layers give the stages and their bytes.")
@click.option("--delay", "delays", multiple=True, metavar="STREAM=TIME", help="Once for each microbatch of a stream.")
@click.option(
    "--straggler", "stragglers", multiple=True, metavar="STREAM=FACTOR", help="It takes so many times longer."
)
@click.option("--link", metavar="latency=T,bandwidth=B", help="What transfers between devices take.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Also on so many threads, as `threads` has it.")
@click.option("--samples", type=click.IntRange(1, 10_000), help=f"Runs with random times; default: {SAMPLES}.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of random times.")
@click.option("--sweep", "swept", metavar="STREAM=T,T,...", help="The throughput over delays of a stream.")
@click.option("--against", metavar="SCHEDULE", help="With --sweep: relative to this schedule under the same delays.")
@allow_option
@picture_options
@override_option
@json_option
def command(
    schedule: str,
    stages: int | None,
    microbatches: int | None,
    costs: str | None,
    job: str | None,
    delays: Sequence[str],
    stragglers: Sequence[str],
    link: str | None,
    workers: int | None,
    samples: int | None,
    seed: int,
    swept: str | None,
    against: str | None,
    svg: str | None,
    html: str | None,
    trace: str | None,
    allow: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
) -> None:
    """Simulate SCHEDULE (a file or a library name) in virtual time.

    Times are numbers, or uniform(a,b), normal(mean,std), lognormal(median,sigma), exponential(mean); a delay may be in
    forward passes, as 4T. STREAM is a group, a stream such as backward[0], device[1], replica[2], replica[2].backward,
    * for all, or alternatives a|b.
    With --svg, --html or --trace the run is drawn into files; `-` is stdout, instead of the report.
    """
    files = {"--svg": svg, "--html": html, "--trace": trace}
    targets = {option: file for option, file in files.items() if file is not None}
    check_targets(targets, as_json)
    if against is not None and swept is None:
        raise UsageError("--against needs --sweep", "as in --against ddp --sweep 'worker[0]|replica[0]=0,1,2,4'")
    asked = Asked(
        stages,
        microbatches,
        Asked().costs if costs is None else parse_cost_model(costs),
        job,
        tuple(map(parse_delay, delays)),
        tuple(map(parse_straggler, stragglers)),
        None if link is None else parse_link(link),
        samples or SAMPLES,
        seed,
        overrides,
        allow,
    )
    selector, times = (None, ()) if swept is None else parse_sweep(swept)
    own = prepare(schedule, asked)
    if samples is not None and not (own.timing.is_random or any(isinstance(t.value, Distribution) for t in times)):
        raise UsageError("--samples: no time here is random", "as in --costs 'F=1,B=normal(2,0.1)'")
    results = analyse(own, asked)
    if workers is not None:
        results = _on_workers(results, workers, costs)
    if selector is not None:
        other = None if against is None else prepare_rival(against, own, asked)
        results = with_sweep(results, selector, times, other)
    _write(results, targets, as_json)


def _on_workers(results: Results, count: int, costs: str | None) -> Results:
    from asyncpipe.cli.simulate_workers import on_workers, workers_of

    return replace(results, on_workers=on_workers(results.instance, workers_of(count, costs)))


def _write(results: Results, targets: Mapping[str, str], as_json: bool) -> None:
    """The pictures, and the report unless stdout is taken."""
    if targets:
        from asyncpipe.cli.simulate_picture import draw_simulation

        draw_simulation(results, targets)
    if "-" not in targets.values():
        click.echo(json.dumps(document(results)) if as_json else report(results), nl=as_json)
