"""All schedules of the library on one job, and what a late worker costs; on `serial`, so every number repeats.

    python benchmarks/algorithms/main.py table delays threads --out benchmarks/results/algorithms.json

Each trial is a line of the journal; a killed run goes on where it was. `--smoke` is a try on digits and claims nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from contestants import CONTESTANTS
from delayed import DelayCurve
from job import JOBS
from journal import Journal
from plan import Plan, is_exact
from report import T_95, delay_tables, pair_table, paired_difference, real_table, row, table
from simulated import simulated
from sleeping import RealRates

from asyncpipe.errors import UserError
from asyncpipe.schedule import library, load
from asyncpipe.tools.environment import describe_environment

PAIR = ("async-lu", "async-bu")
SMOKE: dict[str, Any] = {
    "job": "digits",
    "samples": 64,
    "seeds": 1,
    "pair_seeds": 2,
    "target": 10.0,
    "budget": 9.0,
    "schedules": ["sgd", "petra"],
    "contestants": ["sgd", "layup"],
    "delays": [0.0, 8.0],
    "lrs": [0.03],
    "pair_lrs": [0.03],
}


def run_table(options: argparse.Namespace) -> dict[str, Any]:
    """Prints the table over the library and that of the pair; returns both as plain values."""
    job = JOBS[options.job](options.data)
    plan = Plan(options.job, job, Journal(options.journal), options.samples, options.lrs)
    rows = {
        name: row(plan.tune(name), plan.judge(name, options.seeds), simulated(load(name), job), options.target)
        | {"exact": is_exact(load(name))}
        for name in options.schedules
    }
    print(table(rows) + "\n")
    best = {name: row_of(plan, name, options.pair_seeds) for name in PAIR}
    pairs = plan.pairs(PAIR, options.pair_lrs, options.pair_seeds)
    print(pair_table(pairs, best))
    own = paired_difference(*(best[name]["accuracy"] for name in PAIR))
    return {"rows": rows, "pair": {"by_lr": pairs, "own_lr": best, "own_lr_difference": own}}


def row_of(plan: Plan, name: str, seeds: int) -> dict[str, Any]:
    found = plan.judge(name, seeds)
    return {"lr": found[0]["lr"], "accuracy": [each["accuracy"] for each in found]}


def run_delays(options: argparse.Namespace) -> dict[str, Any]:
    """Prints throughput and accuracy over the delays; returns both as plain values."""
    job = JOBS[options.job](options.data)
    journal = Journal(options.journal)
    curve = DelayCurve(options.job, job, journal, options.budget, options.seeds, options.lrs, options.delays)
    points = curve.points([CONTESTANTS[name] for name in options.contestants])
    print(delay_tables(points))
    return {"points": points}


def run_threads(options: argparse.Namespace) -> dict[str, Any]:
    """Prints throughput with real sleep; returns it as plain values."""
    contestants = [CONTESTANTS[name] for name in options.contestants]
    points = RealRates(Journal(options.journal), options.steps).points(contestants, options.real_delays)
    print(real_table(points))
    return {"points": points}


PARTS = {"table": run_table, "delays": run_delays, "threads": run_threads}


def environment() -> dict[str, Any]:
    """Date, versions, commit; and the kind of machine, which changes no result here."""
    found = describe_environment()
    machine = f"{os.cpu_count()}-core {platform.machine()} machine, {'a' if torch.cuda.is_available() else 'no'} GPU"
    return {key: found[key] for key in ("time_utc", "python", "versions", "git")} | {"machine": machine}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--job", choices=sorted(JOBS), default="fashion-mnist")
    parser.add_argument("--data", type=Path, help="folder of the idx files; default: that of Debian's package")
    parser.add_argument("--schedules", nargs="+", choices=list(library()), default=list(library()))
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--delays", nargs="+", type=float, default=[0.0, 0.5, 1.0, 2.0, 4.0, 8.0], help="in T")
    parser.add_argument("--real-delays", nargs="+", type=float, default=[0.0, 4.0], help="of the part `threads`")
    parser.add_argument("--steps", type=int, default=24, help="undelayed steps of the part `threads`")
    parser.add_argument("--lrs", nargs="+", type=float, default=[0.1, 0.03, 0.01, 0.003], help="tried for each method")
    parser.add_argument("--pair-lrs", nargs="+", type=float, default=[0.03, 0.017, 0.01, 0.003])
    parser.add_argument("--samples", type=int, default=12_288)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pair-seeds", type=int, default=10, choices=sorted(T_95), metavar="2..10")
    parser.add_argument("--target", type=float, default=75.0, help="accuracy in percent")
    parser.add_argument("--budget", type=float, default=400.0, help="virtual time of the delay curve, in T")
    parser.add_argument("--journal", type=Path, default=Path("runs/algorithms.jsonl"))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.smoke:
        vars(options).update(SMOKE)
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    results = {part: PARTS[part](options) for part in options.parts}
    if options.smoke:
        print("a smoke run: these numbers mean nothing")
    if options.out:
        asked = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
        document = {"benchmark": "algorithms", "options": asked, "environment": environment(), "results": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
