"""`asyncpipe check`: compile, verify, and say what a schedule does before it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import click

from asyncpipe.analysis.races import Race, guaranteed_staleness, intended_races
from asyncpipe.cli.diagnostics import as_json as diagnostic_json
from asyncpipe.cli.diagnostics import in_order, render
from asyncpipe.cli.instance import instance_stages
from asyncpipe.cli.options import costs_text, counted, instance_options, json_option, override_option
from asyncpipe.compiler import Compiled, check_expect, compile_instance
from asyncpipe.errors import ScheduleError
from asyncpipe.schedule import Costs, Schedule, read_schedule
from asyncpipe.schedule.job import read_job
from asyncpipe.schedule.source import Report

__all__ = ["command"]


@dataclass
class _Finding:
    """What came out for one file."""

    file: str
    report: Report
    compiled: Compiled | None = None
    races: list[Race] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


@click.command("check")
@click.argument("files", metavar="SCHEDULE...", nargs=-1, required=True)
@instance_options
@click.option("--job", metavar="NAME|FILE", help="Check the schedule for this job: its layers and its keys.")
@override_option
@json_option
def command(
    files: Sequence[str],
    stages: int | None,
    microbatches: int | None,
    costs: Costs | None,
    job: str | None,
    overrides: Sequence[str],
    as_json: bool,
) -> int:
    """Compile and verify schedules (files or library names); exit code 3 if one is invalid.

    Every error is told at once, with its line. What could not be checked here is listed.
    """
    findings = [_check(file, stages, microbatches, costs, job, overrides) for file in files]
    valid = not any(finding.report.has_errors for finding in findings)
    if as_json:
        click.echo(json.dumps(_document(findings, valid)))
    else:
        for finding in findings:
            _print(finding)
    return 0 if valid else 3


def _check(
    file: str,
    stages: int | None,
    microbatches: int | None,
    costs: Costs | None,
    job: str | None,
    overrides: Sequence[str],
) -> _Finding:
    report = Report()
    finding = _Finding(file, report)
    schedule = read_schedule(file, report, overrides)
    source = job or (schedule.job if schedule else None)
    spec = None if source is None else read_job(source, report, overrides)
    if schedule is None:
        return finding
    finding.file = schedule.file
    check_expect(schedule, report)
    count, finding.not_checked = instance_stages(schedule, stages, spec, report)
    if count is not None and not report.has_errors:
        finding.compiled = compile_instance(schedule, count, schedule.costs.merged(costs or Costs()), report)
    try:
        _lower(finding, microbatches)
    except ScheduleError as error:
        for diagnostic in error.diagnostics:
            report.add(diagnostic)
    return finding


def _lower(finding: _Finding, microbatches: int | None) -> None:
    """Programs are made too: what only shows there is found before a run."""
    if finding.compiled is not None:
        finding.races = intended_races(finding.compiled.sample_program(), finding.compiled.schedule.weights)
        if microbatches is not None:
            finding.compiled.program(microbatches)


def _document(findings: list[_Finding], valid: bool) -> dict[str, Any]:
    """The contract's keys for all files together, and one instance per file."""
    return {
        "schema": "asyncpipe.check/1",
        "ok": valid,
        "diagnostics": [diagnostic_json(d) for f in findings for d in in_order(f.report.diagnostics)],
        "intended_races": [
            {"file": f.file, "op": r.op.value, "stages": r.stages, "because": r.because}
            for f in findings
            for r in f.races
        ],
        "not_checked": list(dict.fromkeys(text for f in findings for text in f.not_checked)),
        "instances": [_instance(f.file, f.compiled) for f in findings if f.compiled is not None],
    }


def _instance(file: str, compiled: Compiled) -> dict[str, Any]:
    measured = compiled.staleness
    return {
        "file": file,
        "stages": compiled.stages,
        "period": float(compiled.period),
        "speedup": float(_speedup(compiled)),
        "staleness": {
            "apply": [float(value) for value in measured.apply],
            "max": measured.max,
            "forward_backward": [float(value) for value in measured.forward_backward],
            "bound": guaranteed_staleness(compiled.sample_program()),
        },
        "in_flight": compiled.slots,
    }


def _speedup(compiled: Compiled) -> Fraction:
    """Against the same actions one after another."""
    every = compiled.diagram.every
    ticks = compiled.ticks
    work = sum(Fraction(ticks.of(op, s), every if op.value == "U" else 1) for op, s in compiled.diagram.ops)
    return work * ticks.unit / compiled.period


def _print(finding: _Finding) -> None:
    click.echo(render(finding.report.diagnostics), err=True, nl=False)
    compiled = finding.compiled
    if finding.report.has_errors or compiled is None:
        click.echo(f"{finding.file}: invalid, {_count(finding.report)}")
        return
    click.echo(f"{finding.file}: ok")
    for name, text in _facts(compiled.schedule, compiled):
        click.echo(f"  {name:<11}{text}")
    for race in finding.races:
        click.echo(f"  {'race':<11}{race}, as intended")
    click.echo(f"  {'not checked':<11} {'; '.join(finding.not_checked)}")


def _count(report: Report) -> str:
    return counted(sum(d.is_error for d in report.diagnostics), "error")


def _staleness(compiled: Compiled) -> str:
    """What the planned timing gives, and what no timing can exceed."""
    bounds = guaranteed_staleness(compiled.sample_program())
    most = " ".join("-" if bound is None else str(bound) for bound in bounds)
    limit = "without bound" if all(bound is None for bound in bounds) else f"never more than {most}"
    return f"{' '.join(map(str, compiled.staleness.apply))} as planned, {limit}"


def _facts(schedule: Schedule, compiled: Compiled) -> list[tuple[str, str]]:
    costs = {op: tuple(Fraction(t) * compiled.ticks.unit for t in times) for op, times in compiled.ticks.costs.items()}
    shown = Costs(tuple((op, times if len(set(times)) > 1 else times[:1]) for op, times in costs.items()))
    streams = ", ".join(stream.name for stream in compiled.diagram.streams)
    return [
        ("instance", f"{counted(compiled.stages, 'stage')}, costs {costs_text(shown, schedule.ops)}"),
        ("streams", streams if len(streams) < 90 else f"{len(compiled.diagram.streams)}"),
        ("period", f"{compiled.period} per microbatch, {float(_speedup(compiled)):.2f}x one stream"),
        ("staleness", _staleness(compiled)),
        ("slots", " ".join(map(str, compiled.slots))),
    ]
