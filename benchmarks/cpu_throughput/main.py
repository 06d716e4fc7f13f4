"""Batches per second on a CPU: asyncpipe's `threads` back end against plain PyTorch, interleaved in one process.

    python benchmarks/cpu_throughput/main.py --rounds 11 --out benchmarks/results/cpu_throughput.json

Every round lets every contender train for about `--seconds`, in an order that rotates; a ratio is taken within a
round, and its median with the quartiles is reported. Ceiling: twice the one-thread rate of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from contenders import CONTENDERS, Contender
from workloads import WORKLOADS, Workload

from asyncpipe.tools.environment import describe_environment

ONE_THREAD = "eager, 1 thread"


def rate(train: Contender, batches: int) -> float:
    """Batches per second over one call."""
    start = time.perf_counter()
    train(batches)
    return batches / (time.perf_counter() - start)


def measure(workload: Workload, names: list[str], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Rates of each contender, one per round."""
    contenders = {name: CONTENDERS[name](workload) for name in names}
    sizes = {}
    for name, train in contenders.items():
        train(4)
        sizes[name] = max(8, round(rate(train, 8) * seconds))
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            rates[name].append(rate(contenders[name], sizes[name]))
    return rates


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "low": low, "high": high}


def summarise(rates: dict[str, list[float]]) -> dict[str, dict[str, dict[str, float]]]:
    """Per contender: its rate, its share of the ceiling, and its ratio to the best peer of the same round."""
    peers = [name for name in rates if not name.startswith(("async", "hogwild", "sgd"))]
    best = [max(rates[name][i] for name in peers) for i in range(len(rates[ONE_THREAD]))]
    ceiling = [2 * value for value in rates[ONE_THREAD]]
    return {
        name: {
            "batches_per_s": spread(values),
            "of_ceiling": spread([v / c for v, c in zip(values, ceiling, strict=True)]),
            "of_best_peer": spread([v / b for v, b in zip(values, best, strict=True)]),
        }
        for name, values in rates.items()
    }


def table(results: dict[str, dict[str, dict[str, dict[str, float]]]]) -> str:
    """Markdown: one line for each workload and contender."""
    lines = ["| workload | contender | batches/s | of the ceiling | of the best peer |", "|---|---|---|---|---|"]
    for workload, contenders in results.items():
        for name, row in contenders.items():
            ratios = [row["of_ceiling"], row["of_best_peer"]]
            cells = [f"{r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f})" for r in ratios]
            lines.append(f"| {workload} | {name} | {row['batches_per_s']['median']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    for name in options.workloads:
        rates = measure(WORKLOADS[name], options.contenders, options.rounds, options.seconds)
        results[name] = summarise(rates)
        print(table({name: results[name]}), flush=True)
    if options.out:
        document = {"benchmark": "cpu_throughput", "environment": describe_environment(), "results": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
