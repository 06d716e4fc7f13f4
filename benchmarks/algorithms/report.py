"""Results as plain values for JSON, and as Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from simulated import Simulated

__all__ = ["crossing", "delay_tables", "pair_table", "paired_difference", "real_table", "row", "table"]

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Two-sided 95 % quantile of Student's t by the number of seeds."""
Found = dict[str, Any]
SAMPLES, TIME, ACCURACY = 0, 1, 2
COLUMNS = (
    *("schedule", "streams", "lr", "accuracy, %", "samples to target", "time to target"),
    *("speed", "staleness", "activations", "weights"),
)


def crossing(curve: Sequence[Sequence[float]], target: float, what: int) -> float | None:
    """Samples or time at which the accuracy first reaches `target`, on straight lines between the evaluations."""
    before: Sequence[float] = (0, 0.0, 0.0)
    for point in curve:
        if point[ACCURACY] >= target:
            part = (target - before[ACCURACY]) / (point[ACCURACY] - before[ACCURACY])
            return before[what] + part * (point[what] - before[what])
        before = point
    return None


def row(tuned: Sequence[Found], judged: Sequence[Found], simulated: Simulated, target: float) -> Found:
    """All about one method: `tuned` best first, `judged` one for each seed."""
    ended = [found for found in judged if found["accuracy"] is not None]
    first, rates = (ended or judged)[0], sorted(found["lr"] for found in tuned)
    curves = [found["curve"] for found in ended]
    most = [max(map(int, counts), default=0) for counts in first["histogram"]]
    return {
        "lr": first["lr"],
        "lr_at_the_edge": first["lr"] in (rates[0], rates[-1]),
        "tuning": {str(found["lr"]): found["accuracy"] for found in tuned},
        "microbatch": first["microbatch"],
        "updates": first["updates"],
        "accuracy": [found["accuracy"] for found in judged],
        "samples_to_target": [crossing(found["curve"], target, SAMPLES) for found in judged],
        "time_to_target": [crossing(found["curve"], target, TIME) for found in judged],
        "mean_curve": [
            round(statistics.mean(point[ACCURACY] for point in points), 2) for points in zip(*curves, strict=True)
        ],
        "time": first["time"] if ended else None,
        "staleness": first["staleness"],
        "max_staleness": most,
        **asdict(simulated),
    }


def table(rows: dict[str, Found], reference: str = "sgd") -> str:
    """One line for each method, the most accurate first; memory relative to the reference."""
    own = rows[reference]
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for name, found in sorted(rows.items(), key=lambda item: -_mean(item[1]["accuracy"])):
        cells = [
            name,
            str(found["streams"]),
            f"{found['lr']:g}{'*' if found['lr_at_the_edge'] else ''}",
            _spread(found["accuracy"]),
            _reached(found["samples_to_target"]),
            _reached(found["time_to_target"]),
            f"{found['speed']:.2f}",
            _staleness(found),
            f"{found['activations'] / own['activations']:.2f}",
            f"{found['weights'] / own['weights']:.1f}",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def paired_difference(ours: Sequence[float | None], theirs: Sequence[float | None]) -> tuple[float, float] | None:
    """Mean difference over the same seeds and the half width of its 95 % interval; None if any of them diverged."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    if len(differences) < len(ours):
        return None
    half = T_95[len(differences)] * statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), half


def pair_table(pairs: dict[float, dict[str, list[float | None]]], best: dict[str, Found]) -> str:
    """One line for each learning rate, the last for each method's own; first method minus the second."""
    first, second = best
    lines = [_line(["lr", first, second, "difference, points"]), _line(["---"] * 4)]
    rows = [(f"{lr:g}", values) for lr, values in pairs.items()]
    own = ", ".join(f"{best[name]['lr']:g}" for name in best)
    rows.append((f"each its own ({own})", {name: best[name]["accuracy"] for name in best}))
    for label, values in rows:
        found = paired_difference(values[first], values[second])
        shown = "-" if found is None else f"{found[0]:+.2f} ± {found[1]:.2f}"
        lines.append(_line([label, _spread(values[first]), _spread(values[second]), shown]))
    return "\n".join(lines)


def delay_tables(points: dict[str, dict[float, Found]]) -> str:
    """Throughput in the run, with how far it is from the closed form at most; and accuracy."""
    delays = [f"{delay:g} T" for delay in next(iter(points.values()))]
    rate = [_line(["microbatches per T", *delays, "run and simulator, off by"]), _line(["---"] * (len(delays) + 2))]
    good = [_line(["accuracy, %", "lr", *delays]), _line(["---"] * (len(delays) + 2))]
    for name, found in points.items():
        off = [max(abs(each[how] / each["closed_form"] - 1) for each in found.values()) for how in ("run", "simulated")]
        rates = [f"{each['closed_form']:.3f}" for each in found.values()]
        rate.append(_line([name, *rates, " ".join(f"{100 * value:.1f} %" for value in off)]))
        lr = next(iter(found.values()))["lr"]
        good.append(_line([name, f"{lr:g}", *(_spread(each["accuracy"]) for each in found.values())]))
    return "\n".join([*rate, "", *good])


def real_table(points: dict[str, dict[float, Found]]) -> str:
    """Throughput on real threads, and how far it is from the closed form."""
    delays = [f"{delay:g} T" for delay in next(iter(points.values()))]
    lines = [_line(["microbatches per T", *delays]), _line(["---"] * (len(delays) + 1))]
    for name, found in points.items():
        off = [(each["run"], 100 * (each["run"] / each["closed_form"] - 1)) for each in found.values()]
        lines.append(_line([name, *(f"{run:.3f} ({percent:+.1f} %)" for run, percent in off)]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Iterable[float | None]) -> float:
    """Diverged runs count as 0."""
    return statistics.mean(value or 0.0 for value in values)


def _spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation; and how many diverged."""
    good = [value for value in values if value is not None]
    lost = len(values) - len(good)
    if len(good) < 2:
        return f"{lost} of {len(values)} diverged" if lost else f"{good[0]:.1f}"
    return f"{statistics.mean(good):.1f} ± {statistics.stdev(good):.1f}" + (f", {lost} diverged" if lost else "")


def _reached(values: Sequence[float | None]) -> str:
    good = [value for value in values if value is not None]
    return f"{statistics.mean(good):.0f}" if len(good) == len(values) else f"{len(good)} of {len(values)}"


def _staleness(found: Found) -> str:
    """Mean over the stages in the steady state, and the most of all microbatches."""
    means = [value for value in found["staleness"] if value is not None]
    return f"{statistics.mean(means):.2f} / {max(found['max_staleness'])}" if found["time"] and means else "-"
