"""How near the simulator comes to `threads`: the predicted and the measured period of every schedule of the library.

    python benchmarks/fidelity/main.py --out benchmarks/results/fidelity.json
    python benchmarks/fidelity/main.py --smoke

Runs that are profiled and runs that are measured take turns on one warm trainer. A prediction sees the costs and the
overheads of the profiled runs, and the plan; it never sees a measured run.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from trial import Sizes, Trial, run_trial

from asyncpipe.errors import UserError
from asyncpipe.schedule import load
from asyncpipe.tools.environment import describe_environment

LIBRARY = Path(__file__).parents[2] / "schedules"
FULL, SMOKE = Sizes(rounds=4, seconds=0.4), Sizes(rounds=2, seconds=0.05)
SMOKE_SCHEDULES = ("sgd", "async-lu")


def library() -> list[str]:
    """The names of all schedules that ship with asyncpipe."""
    return sorted(file.stem for file in LIBRARY.glob("*.yaml"))


def table(trials: Sequence[Trial]) -> Iterator[str]:
    """Markdown: a row for each schedule, the best prediction first."""
    yield "| schedule | streams | workers | measured ms | predicted ms | error | own error | own processors ms |"
    yield "|---|---|---|---|---|---|---|---|"
    for trial in sorted(trials, key=lambda trial: abs(trial.error)):
        measured = f"{1e3 * trial.measured:.3f} ({1e3 * min(trial.periods):.3f}-{1e3 * max(trial.periods):.3f})"
        cells = (trial.schedule, trial.streams, trial.workers, measured, f"{1e3 * trial.predicted:.3f}")
        row = " | ".join(map(str, cells))
        yield f"| {row} | {trial.error:+.1%} | {trial.own_error:+.1%} | {1e3 * trial.on_own_processors:.3f} |"


def summary(trials: Sequence[Trial]) -> dict[str, float]:
    """Absolute errors: the median, what nine of ten schedules keep within, and the worst."""
    errors = sorted(abs(trial.error) for trial in trials)
    own = [abs(trial.own_error) for trial in trials]
    plain = [abs(trial.on_own_processors / trial.measured - 1) for trial in trials]
    tenth = errors[max(0, -(-9 * len(errors) // 10) - 1)]
    found = {"median": median(errors), "p90": tenth, "worst": errors[-1]}
    return {**found, "median_of_own": median(own), "median_with_own_processors": median(plain)}


def measure(names: Sequence[str], sizes: Sizes) -> tuple[list[Trial], dict[str, str]]:
    """Each schedule after the other; what cannot be measured is named with its reason."""
    trials, refused = [], {}
    for name in names:
        try:
            trials.append(run_trial(load(name), sizes))
            print(f"{name}: {trials[-1].error:+.1%}", flush=True)
        except UserError as error:
            refused[name] = error.message
            print(f"{name}: {error.message}", flush=True)
    return trials, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two schedules, a moment each")
    parser.add_argument("--schedules", nargs="+", metavar="NAME", help="default: the whole library")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load_before = os.getloadavg()
    names = options.schedules or (SMOKE_SCHEDULES if options.smoke else library())
    trials, refused = measure(names, SMOKE if options.smoke else FULL)
    found = summary(trials)
    print("\n".join([*table(trials), "", *(f"{name}: {value:.1%}" for name, value in found.items())]))
    environment = {**describe_environment(), "load_before": load_before, "load_after": os.getloadavg()}
    document: dict[str, Any] = {"benchmark": "fidelity", "environment": environment, "summary": found}
    document |= {"not_measured": refused, "schedules": [trial.document() for trial in trials]}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
