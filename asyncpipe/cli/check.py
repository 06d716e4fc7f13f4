"""`asyncpipe check`: compile, verify, and say what a schedule does before it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from asyncpipe.cli.diagnostics import as_json as diagnostic_json
from asyncpipe.cli.diagnostics import in_order, render
from asyncpipe.cli.facts import Facts, facts_json, facts_text, find_facts
from asyncpipe.cli.instance import instance_stages
from asyncpipe.cli.job_sizes import stage_sizes
from asyncpipe.cli.options import counted, instance_options, json_option, override_option
from asyncpipe.compiler import check_expect, compile_instance
from asyncpipe.errors import Report, ScheduleError
from asyncpipe.schedule import Costs, read_schedule
from asyncpipe.schedule.job import read_job

__all__ = ["command"]


@dataclass
class _Finding:
    """What came out for one file."""

    file: str
    report: Report
    facts: Facts | None = None
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
    try:
        if count is not None and not report.has_errors:
            compiled = compile_instance(schedule, count, schedule.costs.merged(costs or Costs()), report)
            if compiled is not None:
                finding.facts = find_facts(compiled, microbatches, stage_sizes(spec, schedule, stages))
    except ScheduleError as error:
        for diagnostic in error.diagnostics:
            report.add(diagnostic)
    return finding


def _document(findings: list[_Finding], valid: bool) -> dict[str, Any]:
    """The contract's keys for all files together, and one instance per file."""
    return {
        "schema": "asyncpipe.check/1",
        "ok": valid,
        "diagnostics": [diagnostic_json(d) for f in findings for d in in_order(f.report.diagnostics)],
        "intended_races": [
            {"file": f.file, "op": r.op.value, "stages": r.stages, "because": r.because}
            for f in findings
            for r in (f.facts.races if f.facts else ())
        ],
        "not_checked": list(dict.fromkeys(text for f in findings for text in f.not_checked)),
        "instances": [{"file": f.file, **facts_json(f.facts)} for f in findings if f.facts is not None],
    }


def _print(finding: _Finding) -> None:
    click.echo(render(finding.report.diagnostics), err=True, nl=False)
    if finding.report.has_errors or finding.facts is None:
        click.echo(f"{finding.file}: invalid, {_count(finding.report)}")
        return
    click.echo(f"{finding.file}: ok")
    for name, text in (*facts_text(finding.facts), ("not checked", "; ".join(finding.not_checked))):
        click.echo(f"  {name:<11} {text}")


def _count(report: Report) -> str:
    return counted(sum(d.is_error for d in report.diagnostics), "error")
