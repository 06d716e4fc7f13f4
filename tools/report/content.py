"""What a report shows: the charts, the schedules and the tables of some groups of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import ScheduleError
from asyncpipe.ir import Op, Program
from asyncpipe.pictures.svg import MOST_BOXES
from asyncpipe.pictures.timeline import Timeline, planned
from asyncpipe.tools.report.chart import Chart, Curve, Histogram
from asyncpipe.tools.report.groups import Group, Spread
from asyncpipe.tools.report.runs import Run

__all__ = ["STAGE_COLUMNS", "Picture", "charts", "common_accuracy", "histograms", "pictures", "stage_table", "table"]

STAGE_COLUMNS = (
    ("staleness", ("staleness_measured", "apply")),
    ("most", ("staleness_measured", "max")),
    ("‖θ_B − θ_F‖", ("divergence", "forward_backward")),
    ("most", ("divergence", "forward_backward_max")),
    ("‖θ_U − θ_F‖", ("divergence", "forward_update")),
    ("‖θ_F‖", ("divergence", "weights")),
    ("‖g‖", ("divergence", "gradient")),
)
"""Titles of the table of stages, and where its numbers are in summary.json."""
_PERIODS = 4
_TIMES = {True: "virtual time, T (forward passes of one microbatch)", False: "training time, s"}


def common_accuracy(runs: Sequence[Run]) -> float | None:
    """The highest test accuracy that every run had at some evaluation; None where some have none."""
    best = [max((row["accuracy"] or 0.0 for row in run.evaluations), default=0.0) for run in runs]
    return min(best, default=0.0) or None


def charts(groups: Sequence[Group]) -> list[Chart]:
    """Learning curves against samples and against time, and the divergence; those for which there are numbers."""
    found = [
        _chart("train-loss-samples", "Training loss", "samples", [group.losses(False) for group in groups]),
        *_by_time(groups, "train-loss", "Training loss", "loss"),
    ]
    for y, title in (("accuracy", "Test accuracy"), ("loss", "Test loss")):
        curves = [group.evaluations(y, False) for group in groups]
        found.append(_chart(f"test-{y}-samples", title, "samples", curves, y == "accuracy"))
        found += _by_time(groups, f"test-{y}", title, y, evaluated=True)
    moved = [group.divergence() for group in groups]
    found.append(_chart("divergence-samples", "How far weights move from forward to backward, L2", "samples", moved))
    return [chart for chart in found if chart.curves]


def _by_time(groups: Sequence[Group], name: str, title: str, y: str, evaluated: bool = False) -> Iterator[Chart]:
    """Real and virtual time are no one axis: a chart for each."""
    for virtual, label in _TIMES.items():
        curves = [
            (group.evaluations(y, True) if evaluated else group.losses(True)) if group.is_virtual is virtual else None
            for group in groups
        ]
        yield _chart(f"{name}-{'virtual-time' if virtual else 'time'}", title, label, curves, y == "accuracy")


def _chart(name: str, title: str, label: str, curves: Sequence[Curve | None], percent: bool = False) -> Chart:
    """A group has the same look in every chart."""
    own = tuple(replace(curve, style=i) for i, curve in enumerate(curves) if curve is not None)
    return Chart(name, title, label, own, percent)


def histograms(groups: Sequence[Group]) -> list[Histogram]:
    """The measured staleness of each group that has some."""
    found = [(number, group, group.staleness()) for number, group in enumerate(groups, 1)]
    return [Histogram(f"staleness-{n}", f"Staleness, {group.name}", shares) for n, group, shares in found if shares]


@dataclass(frozen=True)
class Picture:
    """The plan of one schedule; no timeline where it has too many boxes or none is known, with the reason."""

    name: str
    title: str
    timeline: Timeline | None
    reason: str = ""


def pictures(groups: Sequence[Group]) -> list[Picture]:
    """The first periods of each group's schedule; groups that share one share the picture."""
    found: dict[tuple[str, int], Picture] = {}
    for number, group in enumerate(groups, 1):
        run = group.runs[0]
        program = run.program
        key = (str(run.schedule), -1 if program is None else program.stages)
        if key not in found:
            found[key] = _picture(f"schedule-{number}", group, program)
    return list(found.values())


def _picture(name: str, group: Group, program: Program | None) -> Picture:
    run = group.runs[0]
    if program is None:
        return Picture(name, group.name, None, "the run has not come to its first evaluation")
    # Warmup, a few times the body, and the end: what repeats after that looks the same.
    count = program.start + _PERIODS * program.step
    boxes = count * program.stages * sum(any(op in s.runs for s in program.streams) for op in Op)
    title = f"{run.schedule.name}: {program.stages} stage{'s' * (program.stages != 1)}, as planned"
    if boxes > MOST_BOXES:
        return Picture(name, title, None, f"about {boxes:,} boxes; `asyncpipe show --html` draws them")
    try:
        return Picture(name, title, planned(compile_schedule(run.schedule, program.stages).program(count)))
    except ScheduleError as error:
        return Picture(name, title, None, str(error))


def stage_table(groups: Sequence[Group]) -> list[tuple[str, int, list[Spread | None]]]:
    """(group, stage, what was measured there: see `STAGE_COLUMNS`)."""
    found = []
    for group in groups:
        for stage in range(max((run.stages or 0 for run in group.runs if run.summary), default=0)):
            found.append((group.name, stage, [group.of_stage(stage, *keys) for _, keys in STAGE_COLUMNS]))
    return found


def table(groups: Sequence[Group], accuracy: float | None) -> list[dict[str, Any]]:
    """A row of numbers for each group; those with a spread are Spread or None."""
    return [_numbers(group, accuracy) for group in groups]


def _numbers(group: Group, accuracy: float | None) -> dict[str, Any]:
    unfinished = sum(run.summary is None for run in group.runs)
    found: dict[str, Any] = {"name": group.name, "runs": len(group.runs), "unfinished": unfinished}
    found["seeds"] = [run.seed for run in group.runs]
    found["time_unit"] = "T" if group.is_virtual else "s"
    reached: dict[str, Spread | None] = {"samples_to_accuracy": None, "time_to_accuracy": None}
    if accuracy is not None:
        reached = {key: group.until(accuracy, key.startswith("time")) for key in reached}
    return {
        **found,
        "accuracy": group.summary("eval", "accuracy"),
        "best_accuracy": group.summary("best", "accuracy"),
        "loss": group.summary("eval", "loss"),
        **reached,
        "samples_per_s": None if group.is_virtual else group.summary("samples_per_s"),
        "bias_bound": group.summary("gradient", "bias_bound"),
        "bias_from_divergence": group.summary("gradient", "bias_from_divergence"),
        "sigma_stale_over_sgd": group.summary("gradient", "sigma_stale_over_sgd"),
    }
