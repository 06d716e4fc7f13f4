"""`asyncpipe check`: compile, verify, and say what a schedule does before it runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from asyncpipe.cli.diagnostics import as_json as diagnostic_json
from asyncpipe.cli.diagnostics import in_order, render
from asyncpipe.cli.facts import Facts, facts_json, facts_text, find_facts, program_text
from asyncpipe.cli.instance import check_job, instance_stages
from asyncpipe.cli.job_sizes import stage_sizes
from asyncpipe.cli.options import allow_option, counted, instance_options, json_option, override_option, size_of
from asyncpipe.cli.stable_lr import find_stable_lr
from asyncpipe.compiler import check_expect, compile_instance, compile_phases
from asyncpipe.errors import Report, ScheduleError, UsageError
from asyncpipe.ir import Program
from asyncpipe.schedule import Costs, Schedule, read_schedule
from asyncpipe.schedule.job import read_job
from asyncpipe.schedule.source import read_file
from asyncpipe.verify.limits import check_memory, check_staleness
from asyncpipe.verify.trainable import untrainable

__all__ = ["command"]


PROGRAM_SUFFIX = ".l2"


@dataclass(frozen=True)
class _Asked:
    """What the options say."""

    stages: int | None
    microbatches: int | None
    costs: Costs | None
    job: str | None
    overrides: Sequence[str]
    memory: int | None
    max_staleness: int | None
    curvature: float | None
    allow: Sequence[str]


@dataclass
class _Finding:
    """What came out for one file."""

    file: str
    report: Report
    facts: Facts | None = None
    program: Program | None = None
    not_checked: list[str] = field(default_factory=list)
    not_trained: list[str] = field(default_factory=list)


@click.command("check")
@click.argument("files", metavar="SCHEDULE...", nargs=-1, required=True)
@instance_options
@click.option("--job", metavar="NAME|FILE", help="Check the schedule for this job: its layers and its keys.")
@click.option("--memory", metavar="SIZE", help="An error if a device needs more, as in 80GB; needs --job.")
@click.option("--max-staleness", type=click.IntRange(0), help="An error if a stage is planned to be staler.")
@click.option(
    "--curvature",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="An error if the job's lr is not stable at this curvature, the largest of the loss as measured; needs --job.",
)
@allow_option
@override_option
@json_option
def command(files: Sequence[str], memory: str | None, as_json: bool, **options: Any) -> int:
    """Compile and verify schedules (files or library names); exit code 3 if one is invalid.

    Every error is told at once, with its line. What could not be checked here is listed. A file NAME.l2 is a stream
    program, as `show --level L2` prints it: its launches, records and waits are verified.
    """
    asked = _Asked(memory=None if memory is None else size_of(memory), **options)
    findings = [_check_program(file) if file.endswith(PROGRAM_SUFFIX) else _check(file, asked) for file in files]
    valid = not any(finding.report.has_errors for finding in findings)
    if as_json:
        click.echo(json.dumps(_document(findings, valid)))
    else:
        for finding in findings:
            _print(finding)
        _point_to_pages(findings)
    return 0 if valid else 3


def _point_to_pages(findings: Sequence[_Finding]) -> None:
    """On a terminal: where to read more."""
    codes = sorted({d.code for finding in findings for d in finding.report.diagnostics})
    if codes and sys.stderr.isatty():
        click.echo(f"`asyncpipe explain {' '.join(codes)}` says more", err=True)


_CASTS = (
    "which weights a backward reads of those that autocast has cast: they stay as its forward made them, whatever"
    " `weights.backward` says"
)


def _check_program(file: str) -> _Finding:
    from asyncpipe.verify.events import read_program

    finding = _Finding(file, Report())
    text = read_file(file, finding.report)
    finding.program = None if text is None else read_program(text, file, finding.report)
    finding.not_checked = ["rules: a program does not name them", "capture on a GPU"]
    return finding


def _check(file: str, asked: _Asked) -> _Finding:
    report = Report()
    finding = _Finding(file, report)
    schedule = read_schedule(file, report, asked.overrides)
    source = asked.job or (schedule.job if schedule else None)
    spec = None if source is None else read_job(source, report, asked.overrides)
    if schedule is None:
        return finding
    finding.file = schedule.file
    finding.not_trained = [d.message.split("`")[1] for d in untrainable(schedule)]
    expected = check_expect(schedule, report)
    layers = None if spec is None else check_job(spec, report, asked.allow)
    count, finding.not_checked = instance_stages(schedule, asked.stages, spec, layers, report)
    if spec is not None and spec.train.autocast != "none" and schedule.weights.backward != "same":
        finding.not_checked.append(_CASTS)
    try:
        if count is not None and not report.has_errors:
            costs = schedule.costs.merged(asked.costs or Costs())
            compiled = compile_instance(schedule, count, costs, report, expected)
            if compiled is not None:
                compile_phases(compiled, report)
                stable_lr = find_stable_lr(compiled, spec, asked.curvature, report)
                sizes = stage_sizes(layers, schedule, asked.stages)
                finding.facts = find_facts(compiled, asked.microbatches, sizes, stable_lr)
                if not finding.facts.is_ordered:
                    finding.not_checked.append("races and the bound of staleness (too many streams)")
                _check_limits(schedule, finding.facts, asked, report)
    except ScheduleError as error:
        for diagnostic in error.diagnostics:
            report.add(diagnostic)
    return finding


def _check_limits(schedule: Schedule, facts: Facts, asked: _Asked, report: Report) -> None:
    if asked.memory is not None:
        if not facts.memory.in_bytes:
            raise UsageError(
                "--memory: the sizes of the stages are not known", "add --job, and of a model that is code --allow"
            )
        check_memory(schedule, facts.memory.devices, asked.memory, report)
    if asked.max_staleness is not None:
        check_staleness(schedule, facts.compiled.staleness.max, asked.max_staleness, report)


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
        "instances": [
            {"file": f.file, **facts_json(f.facts), "not_trained": f.not_trained}
            for f in findings
            if f.facts is not None
        ],
    }


def _print(finding: _Finding) -> None:
    click.echo(render(finding.report.diagnostics), err=True, nl=False)
    if finding.report.has_errors or (finding.facts is None and finding.program is None):
        click.echo(f"{finding.file}: invalid, {_count(finding.report)}")
        return
    click.echo(f"{finding.file}: ok")
    lines = [] if finding.facts is None else list(facts_text(finding.facts))
    if finding.program is not None:
        lines += program_text(finding.program)
    if finding.not_trained:
        lines.append(("not trained", f"`run` cannot do this yet: {', '.join(finding.not_trained)}"))
    for name, text in (*lines, ("not checked", "; ".join(finding.not_checked))):
        click.echo(f"  {name:<11} {text}")


def _count(report: Report) -> str:
    return counted(sum(d.is_error for d in report.diagnostics), "error")
