"""Test accuracy of asynchronous schedules against `sgd` on the default job, paired over seeds.

    python benchmarks/accuracy/main.py --seeds 10 --out benchmarks/results/accuracy.json

Every seed fixes initialisation and data order; the difference to `sgd` of the same seed is averaged, with a 95 %
interval (Student's t). `threads` decides the staleness by real time, so a repetition gives other numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from asyncpipe.schedule import load
from asyncpipe.schedule.job import read_job
from asyncpipe.schedule.source import Report
from asyncpipe.tools.environment import describe_environment
from asyncpipe.training import TrainingRun

BASELINE = "sgd"
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 20: 2.093}
"""Two-sided 95 % quantile of Student's t by the number of seeds."""


def accuracy(schedule: str, job: str, backend: str, stages: int | None, seed: int) -> float:
    """Test accuracy in percent after one training."""
    spec = read_job(job, Report())
    assert spec is not None
    run = TrainingRun(load(schedule), spec, backend, stages, None, None, seed, (), quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        summary: dict[str, Any] = run.execute(f"{folder}/run", {})
    return 100.0 * float(summary["eval"]["accuracy"])


def paired(values: list[float], baseline: list[float]) -> dict[str, float]:
    """Mean difference and the half width of its 95 % interval, in points."""
    differences = [a - b for a, b in zip(values, baseline, strict=True)]
    half = T_95[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5
    return {"mean": statistics.mean(differences), "half_width_95": half}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, choices=sorted(T_95), default=10)
    parser.add_argument("--job", default="digits")
    parser.add_argument("--stages", type=int, help="default: the schedule's `auto`")
    parser.add_argument("--schedules", nargs="+", default=["async-lu", "async-bu", "hogwild"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[float]] = {name: [] for name in (BASELINE, *options.schedules)}
    for seed in range(options.seeds):
        for name, values in rows.items():
            values.append(accuracy(name, options.job, "threads", options.stages, seed))
    print("| schedule | mean accuracy, % | difference to sgd, points (95 % interval) |\n|---|---|---|")
    results = {}
    for name, values in rows.items():
        difference = paired(values, rows[BASELINE])
        results[name] = {"accuracy": values, "difference": difference}
        interval = f"{difference['mean']:+.2f} ± {difference['half_width_95']:.2f}"
        print(f"| {name} | {statistics.mean(values):.2f} | {interval} |")
    if options.out:
        document = {"benchmark": "accuracy", "options": {**vars(options), "out": str(options.out)}}
        document |= {"environment": describe_environment(), "results": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
