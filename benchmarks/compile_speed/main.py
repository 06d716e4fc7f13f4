"""How fast schedules compile: flat tables against torch, the library at any length, `check` as a process.

    python benchmarks/compile_speed/main.py --out benchmarks/results/compile_speed.json
    python benchmarks/compile_speed/main.py --quick

Ours and torch's runs alternate in one process; ratios are of medians; wall time and processor time are both reported.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
from pathlib import Path
from typing import Any

from flat_tables import Size, measure_irregular, measure_regular, measure_retime
from library import NUMBERS, measure_check, measure_imports, measure_lengths

from asyncpipe.tools.environment import describe_environment

SIZES = (Size(56, 7), Size(352, 7), Size(536, 7), Size(1064, 5), Size(5320, 3))
QUICK = (Size(56, 3), Size(536, 3))
PARTS = ("flat", "retime", "lengths", "check")


def milliseconds(values: dict[str, float]) -> str:
    return f"{1e3 * values['median']:.1f} ({1e3 * values['low']:.1f}-{1e3 * values['high']:.1f})"


def flat_table(results: list[dict[str, Any]], clock: str) -> str:
    """Markdown: one line for each size and peer."""
    lines = [f"| lowered actions, {clock} time | asyncpipe ms | torch | torch ms | ratio |", "|---|---|---|---|---|"]
    for result in results:
        totals = result[f"{clock}_total"]
        for peer, times in totals.items():
            if peer != "asyncpipe":
                cells = (f"{result['actions']:,}", milliseconds(totals["asyncpipe"]), peer, milliseconds(times))
                lines.append(f"| {' | '.join(cells)} | {result[f'{clock}_ratio'][peer]:.0f} |")
    return "\n".join(lines)


def lengths_table(results: dict[str, Any]) -> str:
    """Markdown: one line for each schedule, processor time for the fewest and for the most microbatches."""
    few, many = str(NUMBERS[0]), str(NUMBERS[-1])
    columns = ("compile", "program", "simulate")
    lines = [
        f"| processor ms, {few} and {many} microbatches | {' | '.join(columns)} | instructions |",
        "|---|---|---|---|---|",
    ]
    for name, numbers in results["schedules"].items():
        medians = {n: {c: 1e3 * numbers[n]["cpu"][c]["median"] for c in columns} for n in (few, many)}
        cells = [f"{medians[few][column]:.1f}, {medians[many][column]:.1f}" for column in columns]
        sizes = f"{numbers[few]['instructions']:,}, {numbers[many]['instructions']:,}"
        lines.append(f"| {name} | {' | '.join(cells)} | {sizes} |")
    refused = [f"not measured: {name}: {reason}" for name, reason in results["not_measured"].items()]
    return "\n".join([*lines, *refused])


def times_table(results: dict[str, Any], title: str) -> str:
    lines = [f"| {title} | wall ms | processor ms |", "|---|---|---|"]
    for name, clocks in results.items():
        failed = f" (exit code {clocks['exit_code']})" if clocks.get("exit_code") else ""
        lines.append(f"| {name}{failed} | {milliseconds(clocks['wall'])} | {milliseconds(clocks['cpu'])} |")
    return "\n".join(lines)


def measure(part: str, sizes: tuple[Size, ...], quick: bool) -> dict[str, Any]:
    """The results of one part, printed as they come."""
    if part == "flat":
        regular = [measure_regular(size) for size in sizes]
        patternless = [measure_irregular(size) for size in sizes[2::2] or sizes[-1:]]
        for clock in ("wall", "cpu"):
            print(f"{flat_table(regular, clock)}\n\nno pattern:\n\n{flat_table(patternless, clock)}\n", flush=True)
        return {"interleaved-1f1b": regular, "no pattern": patternless}
    if part == "retime":
        times = measure_retime(Size(536, 5 if quick else 21))
        print(f"{times_table(times, 'new times for 100,768 actions')}\n", flush=True)
        return times
    if part == "lengths":
        lengths = measure_lengths(2 if quick else 5)
        print(f"{lengths_table(lengths)}\n", flush=True)
        return lengths
    processes = measure_check(3 if quick else 5)
    print(times_table(processes, "process"), flush=True)
    return {"processes": processes, "imports": measure_imports()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="parts not measured keep their old results there")
    options = parser.parse_args()
    document: dict[str, Any] = {"benchmark": "compile_speed", "environments": {}, "results": {}}
    if options.out and options.out.exists():
        document = json.loads(options.out.read_text())
    gc.freeze()  # what torch's modules hold is not looked through before each measurement
    for part in options.parts:
        load_before = os.getloadavg()
        document["results"][part] = measure(part, QUICK if options.quick else SIZES, options.quick)
        environment = {**describe_environment(), "load_before": load_before, "load_after": os.getloadavg()}
        document["environments"][part] = environment
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
