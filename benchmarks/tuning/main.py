"""Does `tools tune` find a setting that is at least as fast as the default ratio, and say so where there is none?

    python benchmarks/tuning/main.py --out benchmarks/results/tuning.json

For each job the command line tunes `async-lu` (one forward and two backward streams). Its answer, the default ratio and
the synchronous schedule then run side by side in fresh rounds, since the rounds that chose the answer flatter it. A
second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncpipe.tools.environment import describe_environment
from asyncpipe.tools.tune.candidate import SYNCHRONOUS, Candidate
from asyncpipe.tools.tune.journal import Journal
from asyncpipe.tools.tune.planning import Plan
from asyncpipe.tools.tune.process import run_trial
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.rounds import Contender, is_tie, measure_rounds
from asyncpipe.tools.tune.statistics import Interval, ratio_of
from asyncpipe.tools.tune.trials import Trials, machine_and_versions

HERE = Path(os.path.relpath(Path(__file__).parent))
ROWS = {"lstm": None, "mlp": None, "small": None, "mlp-on-one-core": 1}
"""Each row with the number of cores that it may use; None: all. Without a second core nothing can overlap."""
SCHEDULE = "async-lu"
TIMEOUT = 120.0


def tuned(job: str, options: argparse.Namespace) -> dict[str, Any]:
    """What `asyncpipe tools tune --json` answers."""
    command = [sys.executable, "-m", "asyncpipe", "tools", "tune", SCHEDULE, "--job", str(_file(job))]
    command += ["--allow", str(HERE / "data.py"), "--out", str(options.work / job), "--json"]
    command += ["--seconds", str(options.seconds), "--repeats", str(options.repeats), "--best", str(options.best)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _file(job: str) -> Path:
    return HERE / f"{job.partition('-')[0]}.yaml"


@contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """What is started meanwhile may use so many cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def candidate_of(document: Mapping[str, Any]) -> Candidate:
    settings = tuple(document["settings"].items())
    synchronous = document["schedule"] == SYNCHRONOUS
    return Candidate(document["schedule"], settings, document["threads"], document["period"], synchronous)


def side_by_side(job: str, answer: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Contender]:
    """The answer, the default and the best synchronous setting in rounds of their own; equal ones share theirs."""
    measured = answer["measured"]
    own = next(one for one in measured if one["is_own"])
    exact = [one for one in measured if one["schedule"] == SYNCHRONOUS and one["speed"] is not None]
    synchronous = max(exact, key=lambda one: one["speed"]["value"])
    chosen = {"tuned": candidate_of(answer["best"]), "default": candidate_of(own), "sync": candidate_of(synchronous)}
    contenders = {candidate: Contender(Plan(candidate)) for candidate in chosen.values()}
    trials = _trials(job, options)
    measure_rounds(list(contenders.values()), trials, options.rounds, lambda text: print(text, file=sys.stderr))
    return {name: contenders[candidate] for name, candidate in chosen.items()}


def _trials(job: str, options: argparse.Namespace) -> Trials:
    base = Request("speed", SCHEDULE, tuned=SCHEDULE, job=str(_file(job)), allow=(str(HERE / "data.py"),))
    base = replace(base, seconds=options.seconds, warm_up=min(0.5, options.seconds / 4))
    journal = Journal(options.work / job / "side-by-side.jsonl")
    return Trials(base, journal, run_trial, TIMEOUT, machine_and_versions())


def row(contenders: Mapping[str, Contender]) -> dict[str, Any]:
    """Speeds in samples per second, and ratios of the answer with their 95 % intervals."""
    best = contenders["tuned"]
    found: dict[str, Any] = {"speed": {name: _numbers(one.speed) for name, one in contenders.items()}}
    for name in ("default", "sync"):
        same = best is contenders[name]
        ratio = Interval(1.0, 1.0, 1.0) if same else ratio_of(best.rounds, contenders[name].rounds)
        found[f"against_{name}"] = _numbers(ratio)
    other = contenders["default"]
    ratio = ratio_of(best.rounds, other.rounds)
    wins = ratio is not None and (ratio.value >= 1 or is_tie(best, other))
    others = [one.others for one in contenders.values() if one.others is not None]
    return {**found, "beats_or_ties_default": wins, "other_cores": max(others, default=None)}


def _numbers(found: Any) -> dict[str, float] | None:
    return None if found is None else {"value": found.value, "low": found.low, "high": found.high}


def text(job: str, answer: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    speeds = " | ".join(_speed(found["speed"][name]) for name in ("tuned", "default", "sync"))
    ratios = " | ".join(_ratio(found[f"against_{name}"]) for name in ("default", "sync"))
    return f"| {job} | {answer['answer'].partition(',')[0]} | {speeds} | {ratios} |"


def _speed(found: Mapping[str, float] | None) -> str:
    return "failed" if found is None else f"{found['value']:,.0f}"


def _ratio(found: Mapping[str, Any] | None) -> str:
    """With its interval, which takes two rounds."""
    if found is None:
        return "-"
    return f"{found['value']:.2f}" + ("" if found["low"] is None else f" ({found['low']:.2f}-{found['high']:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each trial")
    parser.add_argument("--best", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the tuning")
    parser.add_argument("--rounds", type=int, default=4, help="rounds side by side")
    parser.add_argument("--work", type=Path, default=Path("runs/tuning"), help="keeps the trials")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows, lines = {}, []
    for job in options.jobs:
        with on_cores(ROWS[job]):
            answer = tuned(job, options)
            found = row(side_by_side(job, answer, options))
        rows[job] = {"tune": answer, "side_by_side": found}
        lines.append(text(job, answer, found))
    print(
        "| job | answer | tuned | default 1:2 | sync | tuned / default | tuned / sync |\n|---|---|---|---|---|---|---|"
    )
    print("\n".join(lines))
    if options.out is not None:
        document = {"environment": describe_environment(), "jobs": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
