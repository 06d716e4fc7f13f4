"""`asyncpipe tools bench`: the performance suite on what this machine has."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from asyncpipe.cli.options import json_option
from asyncpipe.errors import MachineError, UsageError

__all__ = ["command"]

GATE_FAILED = 6
"""The exit code of guards."""
_BUDGETS = {"cpu": 300.0, "cuda": 240.0}
_AHEAD_SHARE = 0.4
"""Of the budget on CUDA, for building before anything is timed."""


@click.command("bench")
@click.option("--rows", multiple=True, metavar="NUMBER|NAME,...", help="Only these; --list names them.")
@click.option("--list", "as_list", is_flag=True, help="Name the rows, and whether this machine can measure them.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--budget", type=click.FloatRange(min=1), metavar="SECONDS", help="For everything; default 300, 240 on CUDA."
)
@click.option("--contenders", multiple=True, metavar="LETTER|NAME,...", help="Only these: E, C, G, async-lu, ...")
@click.option("--rounds", type=click.IntRange(2, 1000), default=7, show_default=True, help="Of turns, at least.")
@click.option("--against", metavar="FILE", help="An earlier --out: for each row faster, slower or the same.")
@click.option(
    "--fail-under",
    type=click.FloatRange(min=0),
    metavar="RATIO",
    help="Exit with 6 where our best is below so much of the best peer.",
)
@click.option("--smoke", is_flag=True, help="Tiny sizes and two rounds: does everything run? The numbers mean nothing.")
@click.option(
    "--out", type=click.Path(dir_okay=False), metavar="FILE", help="The document of --json, written after each row."
)
@json_option
@click.pass_context
def command(context: click.Context, /, as_json: bool, as_list: bool, out: str | None, **asked: Any) -> None:
    """Measure asyncpipe against the strongest plain PyTorch programs that we know, on this machine.

    All contenders of a row train the same network on the same batches, in turns, in one process. A ratio is that of
    the medians against the best peer: torch.compile, CUDA graphs of the whole step, side streams, jax; on a CPU eager
    loops, torch.compile, half a batch on each of two threads. docs/tools.md explains the rows.
    """
    from asyncpipe.tools.bench.rows import choose_rows

    rows = choose_rows(_words(asked["rows"]))
    if as_list:
        click.echo("\n".join(f"{row.number:>2} {row.name:16} {row.needs:5} {row.title}".rstrip() for row in rows))
        return
    from asyncpipe.tools.bench.against import compare, read_earlier
    from asyncpipe.tools.bench.report import summary_text, verdict_text

    earlier = None if asked["against"] is None else read_earlier(asked["against"])
    document = _new_document(asked)
    for row in _measured(rows, document, asked):
        document["rows"].append(row)
        _show(row, as_json)
        if earlier is not None:
            document["against"] = {"file": asked["against"], "rows": compare(document["rows"], earlier)}
        _write(document, out)
    document["load_after"] = os.getloadavg()[0]
    document["below"] = _below(document["rows"], asked["fail_under"])
    _write(document, out)
    if as_json:
        click.echo(json.dumps(document))
    else:
        for verdict in (document["against"] or {"rows": []})["rows"]:
            click.echo(verdict_text(verdict))
        click.echo(summary_text(document["rows"]))
        if asked["smoke"]:
            click.echo("smoke run: sizes were tiny, and the numbers mean nothing")
    for text in document["below"]:
        click.echo(f"below --fail-under {asked['fail_under']:g}: {text}", err=True)
    if document["below"]:
        context.exit(GATE_FAILED)


def _words(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in value.split(",") if word)


def _new_document(asked: dict[str, Any]) -> dict[str, Any]:
    from asyncpipe.tools.bench.suite import SCHEMA
    from asyncpipe.tools.environment import describe_environment

    device = _device(asked["device"])
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 4 and not asked["smoke"]:
        click.echo(
            f"warning: the load of this machine is {load:.1f} already, on {cores} cores: repeat it quietly", err=True
        )
    return {
        "schema": SCHEMA,
        "device": device,
        "smoke": asked["smoke"],
        "budget_s": asked["budget"] or _BUDGETS[device],
        "environment": describe_environment(),
        "load_before": load,
        "load_after": None,
        "rows": [],
        "against": None,
        "below": [],
    }


def _device(asked: str) -> str:
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise MachineError(
            "--device cuda: torch finds no CUDA device", "leave it out, or use a machine with an NVIDIA GPU"
        )
    return ("cuda" if available else "cpu") if asked == "auto" else asked


def _measured(rows: Any, document: dict[str, Any], asked: dict[str, Any]) -> Iterable[dict[str, Any]]:
    from asyncpipe.tools.bench.catalogue import contenders
    from asyncpipe.tools.bench.setting import Setting
    from asyncpipe.tools.bench.suite import built_ahead, run_suite

    names = _words(asked["contenders"])
    for name in names:
        if not contenders((name,)):
            raise UsageError(f"--contenders: there is none called {name!r}", "letters and names are in docs/tools.md")
    budget = document["budget_s"]
    setting = Setting(document["device"], budget, asked["smoke"], names, asked["rounds"])
    if document["device"] != "cuda":
        yield from run_suite(rows, setting, budget)
        return
    click.echo(f"building all rows for up to {_AHEAD_SHARE * budget:.0f} s", err=True)
    end = time.monotonic() + budget
    with built_ahead(rows, setting, _AHEAD_SHARE * budget) as measure:
        yield from run_suite(rows, setting, end - time.monotonic(), measure)


def _show(row: dict[str, Any], as_json: bool) -> None:
    """Progress goes to stderr where stdout has only the document."""
    from asyncpipe.tools.bench.report import row_text

    click.echo(row_text(row), err=as_json)


def _write(document: dict[str, Any], out: str | None) -> None:
    if out is None:
        return
    file = Path(out)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}", "name a file that can be written") from error


def _below(rows: Sequence[dict[str, Any]], least: float | None) -> list[str]:
    """Rows that miss the gate, and those that the gate could not be held against because they failed."""
    if least is None:
        return []
    low = [
        f"{row['name']}: {row['of_best_peer']['name']} reaches {row['of_best_peer']['ratio']:.2f} of {row['best_peer']}"
        for row in rows
        if row.get("of_best_peer") and row["of_best_peer"]["ratio"] < least
    ]
    return [*low, *(f"{row['name']}: failed: {row['reason']}" for row in rows if row["status"] == "failed")]
