"""Which layers make a stage: the author's number or list, or layers merged until the hand-over costs little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from asyncpipe.errors import Diagnostic, ScheduleError, UsageError
from asyncpipe.schedule import Schedule, StageRange
from asyncpipe.schedule.expression import names

__all__ = ["LayerWork", "cut_evenly", "cut_stages", "estimated_seconds"]

FLOPS_PER_SECOND = 30e9
BYTES_PER_SECOND = 10e9
SECONDS_PER_OPERATION = 5e-6
"""What one CPU core does, roughly. Estimates decide only where to cut, so that every machine cuts alike."""
HAND_OVER_SECONDS = 60e-6
LEAST_STAGE_SECONDS = 20 * HAND_OVER_SECONDS
"""A stage's forward should take twenty times what handing over to the next stage costs."""


class LayerWork(Protocol):
    """The counts of a layer: those of a built-in's description, or measured on a module."""

    @property
    def forward_flops(self) -> int: ...
    @property
    def activation_bytes(self) -> int: ...
    @property
    def parameter_bytes(self) -> int: ...
    @property
    def operations(self) -> int: ...


def estimated_seconds(layer: LayerWork) -> float:
    """The forward time of a layer on one core, from its counts alone."""
    moved = 2 * layer.activation_bytes + layer.parameter_bytes
    compute = layer.forward_flops / FLOPS_PER_SECOND + moved / BYTES_PER_SECOND
    return compute + layer.operations * SECONDS_PER_OPERATION


def cut_stages(
    schedule: Schedule, asked: int | None, layers: int, costs: Callable[[], Sequence[LayerWork]]
) -> tuple[range, ...]:
    """The layers of each stage. `asked` wins over the file; UsageError or ScheduleError where layers do not suffice."""
    wanted = _wanted(schedule, layers) if asked is None else asked
    if isinstance(wanted, tuple):
        return _named(wanted, layers)
    if wanted == "layers":
        return tuple(range(i, i + 1) for i in range(layers))
    if isinstance(wanted, int) and wanted > layers:
        raise UsageError(
            f"the schedule has {wanted} stages, but the model has only {layers} layer{'s' * (layers != 1)}",
            f"use --stages {layers} or fewer; a model is cut at the children of nn.Sequential",
        )
    seconds = [estimated_seconds(layer) for layer in costs()] if layers > 1 else [1.0]
    return cut_evenly(seconds, wanted) if isinstance(wanted, int) else _auto(seconds)


def _wanted(schedule: Schedule, layers: int) -> str | int | tuple[StageRange, ...]:
    """What the file asks for; `auto` does not merge where devices follow from stages, or workers own blocks of them."""
    pipeline = any(name.name == "S" for name in names(schedule.devices))
    if schedule.stages != "auto" or not (pipeline or schedule.update.scope != "all"):
        return schedule.stages
    return min(schedule.expect.stages if schedule.expect else layers, layers)


def _auto(seconds: Sequence[float]) -> tuple[range, ...]:
    """The most stages of which each is worth its hand-over."""
    # One more than what the whole could pay for: sums of floats may fall short by a rounding.
    most = min(len(seconds), int(sum(seconds) / LEAST_STAGE_SECONDS) + 1)
    starts = _last_starts(seconds, most)
    for stages in range(most, 1, -1):
        cut = _traced(starts[:stages], len(seconds))
        if min(sum(seconds[i] for i in part) for part in cut) >= LEAST_STAGE_SECONDS:
            return cut
    return (range(len(seconds)),)


def _named(ranges: tuple[StageRange, ...], layers: int) -> tuple[range, ...]:
    expected = 0
    for part in ranges:
        if part.first != expected or part.last < part.first:
            message = (
                f"stage {part.name} has the layers {part.first}-{part.last}; expected it to begin with layer {expected}"
            )
            raise ScheduleError(
                [Diagnostic("AP120", message, part.where, "every layer belongs to exactly one stage, in order")]
            )
        expected = part.last + 1
    if expected != layers:
        message = f"the stages cover {expected} layers; the model has {layers}"
        raise ScheduleError(
            [Diagnostic("AP120", message, ranges[-1].where, "every layer belongs to exactly one stage")]
        )
    return tuple(range(part.first, part.last + 1) for part in ranges)


def cut_evenly(costs: Sequence[float], stages: int) -> tuple[range, ...]:
    """Consecutive runs of layers, `stages` of them, whose largest total cost is as small as possible.

    Of several such cuts the one whose last stage begins earliest, and so on for the layers before it.
    """
    return _traced(_last_starts(costs, stages), len(costs))


def _last_starts(costs: Sequence[float], stages: int) -> list[list[int]]:
    """Per number of stages, less one: where the last one begins, for the first i layers; layers * stages steps.

    For more layers the last stage never begins earlier, so that one pass over the layers finds all beginnings.
    """
    total = [0.0]
    for cost in costs:
        total.append(total[-1] + cost)
    starts, best = [[0] * len(total)], total
    for before in range(1, stages):
        start, row, own = before, [float("inf")] * len(total), [0] * len(total)
        for i in range(before + 1, len(total)):
            while start < i and best[start] < total[i] - total[start]:
                start += 1
            own[i] = _earliest(total, best, before, start, i)
            row[i] = max(best[own[i]], total[i] - total[own[i]])
        starts.append(own)
        best = row
    return starts


def _earliest(total: Sequence[float], best: Sequence[float], first: int, start: int, i: int) -> int:
    """At `start` the stages before begin to cost more than the last: the best is there or one layer earlier."""
    if start == first or (start < i and best[start] < total[i] - total[start - 1]):
        return start
    start -= 1
    while start > first and total[start - 1] == total[start]:  # layers that cost nothing
        start -= 1
    return start


def _traced(starts: Sequence[Sequence[int]], layers: int) -> tuple[range, ...]:
    """The stages, from the last one's beginning back to the first's."""
    parts: list[range] = []
    for own in reversed(starts):
        parts.append(range(own[layers], layers))
        layers = own[layers]
    return tuple(reversed(parts))
