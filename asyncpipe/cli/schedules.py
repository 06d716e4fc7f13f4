"""`asyncpipe schedules`: what the library holds."""

from __future__ import annotations

import json

import click

from asyncpipe.cli.options import json_option
from asyncpipe.schedule import library, load
from asyncpipe.schedule.job import job_library

__all__ = ["command"]


@click.command("schedules")
@json_option
def command(as_json: bool) -> None:
    """List the built-in schedules and jobs; each name works wherever a file does."""
    schedules = [load(name) for name in library()]
    if as_json:
        rows = [{"name": s.name, "description": s.description, "file": s.file} for s in schedules]
        jobs = [{"name": name, "file": str(path)} for name, path in job_library().items()]
        click.echo(json.dumps({"schema": "asyncpipe.schedules/1", "schedules": rows, "jobs": jobs}))
        return
    width = max(len(s.name) for s in schedules)
    for schedule in schedules:
        click.echo(f"{schedule.name:<{width}}  {schedule.description}")
    click.echo(f"\njobs: {', '.join(job_library())}")
