"""A look as the lines of a screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

from asyncpipe.tools.nvml import GpuSnapshot, Unavailable
from asyncpipe.tools.watch.curve import chart
from asyncpipe.tools.watch.gpus import GpuLook
from asyncpipe.tools.watch.watched import Look
from asyncpipe.tools.watch.words import percent, span

__all__ = ["frame"]

_NAME, _HEIGHT, _WIDEST = 14, 5, 80
_BAR = 30
_MOST_STREAMS, _MOST_STAGES = 12, 8
_SHARES = {
    "utilization": "any kernel",
    "sm_activity": "SMs",
    "sm_occupancy": "occupancy",
    "tensor_activity": "tensor",
    "dram_activity": "DRAM",
}
_VALUES = {"power_watts": "W", "sm_clock_mhz": "MHz", "temperature_celsius": "C"}
_GIB = 2**30


def frame(look: Look, width: int = 100, braille: bool = True) -> list[str]:
    """No line is longer than `width`."""
    if look.state.kind == "waiting":
        return [f"waiting: {look.state.words}"[:width]]
    curve = partial(_curve, columns=min(_WIDEST, width - _NAME), braille=braille)
    sections = (_head, _progress, _speed, _loss, curve, _evaluation, _streams, _staleness, _gpus, _notes)
    return [line[:width].rstrip() for section in sections for line in section(look)]


def _row(name: str, text: str) -> str:
    return f"{name:<{_NAME}}{text}"


def _counted(count: int, noun: str, several: str = "") -> str:
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def _head(look: Look) -> Iterator[str]:
    plan, state = look.plan, look.state
    if plan is None:
        yield str(look.folder)
    else:
        replicas = f", {_counted(plan.replicas, 'replica')}" if plan.replicas > 1 else ""
        size = f"{_counted(plan.stages, 'stage')}{replicas}, seed {plan.seed}"
        yield f"{plan.schedule} on {plan.job}: {plan.backend}, {size} ({look.folder})"
    parts = [state.words] if state.words else []
    if not state.is_over:
        parts += [] if look.elapsed is None else [f"began {span(look.elapsed)} ago"]
        parts += [] if look.silence is None else [f"last row {span(look.silence)} ago"]
    yield _row(state.kind, "; ".join(parts))


def _progress(look: Look) -> Iterator[str]:
    seen, plan = look.seen, look.plan
    total = f" of {plan.microbatches:,}" if plan else ""
    share = f" ({seen.microbatches / plan.microbatches:.0%})" if plan and plan.microbatches else ""
    counts = f"{_counted(seen.step, 'update')}, {_counted(seen.samples, 'sample')}"
    virtual = "" if seen.virtual_time is None else f", virtual time {seen.virtual_time:,.0f}"
    yield _row("microbatches", f"{seen.microbatches:,}{total}{share}, {counts}{virtual}")


def _speed(look: Look) -> Iterator[str]:
    speed, left = look.seen.samples_per_s, look.seconds_left
    if speed is None:
        yield _row("speed", "not known before the second microbatch")
        return
    window = f"{speed:,.0f} samples/s over the last {span(look.seen.window_s)} of training"
    yield _row("speed", window if left is None else f"{window}; {span(left)} of it left")


def _loss(look: Look) -> Iterator[str]:
    seen = look.seen
    if seen.loss is None:
        yield _row("loss", "not known before the first microbatch")
    else:
        yield _row("loss", f"{seen.loss:.4f}, mean of the last {len(seen.losses)}; lr {seen.lr:.6g}")


def _curve(look: Look, columns: int, braille: bool) -> Iterator[str]:
    """The loss from the first microbatch to the last, with the values of its top and its bottom."""
    points = look.seen.curve.points(2 * columns)
    if len(points) < 2 or columns < 8:
        return
    labels = {0: f"{max(points):.4f}", _HEIGHT - 1: f"{min(points):.4f}"}
    for number, line in enumerate(chart(points, columns, _HEIGHT, braille)):
        yield f"{labels.get(number, ''):>{_NAME - 2}} |{line}"


def _evaluation(look: Look) -> Iterator[str]:
    found = look.seen.evaluation
    if found is None:
        yield _row("evaluation", "none yet")
        return
    accuracy = "" if found["accuracy"] is None else f", test accuracy {100 * found['accuracy']:.2f} %"
    yield _row("evaluation", f"test loss {found['loss']:.4f}{accuracy} after {_counted(found['samples'], 'sample')}")


def _streams(look: Look) -> Iterator[str]:
    busy, plan = look.seen.busy, look.plan
    if busy is None or plan is None or len(busy) != len(plan.streams):
        yield _row("streams", "not timed: `asyncpipe run --timed` writes how busy they are")
        return
    yield _row("streams", "busy")
    for name, share in list(zip(plan.streams, busy, strict=True))[:_MOST_STREAMS]:
        filled = min(_BAR, round(share * _BAR))
        yield _row(f"  {name}", f"{percent(share):>6}  {'#' * filled}{'.' * (_BAR - filled)}")
    yield from _rest(len(busy) - _MOST_STREAMS, "stream")


def _staleness(look: Look) -> Iterator[str]:
    seen = look.seen
    counters, words = (seen.staleness, "") if seen.staleness else (seen.sampled, ", of the microbatches measured")
    if not counters:
        yield _row("staleness", "not known before the first evaluation")
        return
    yield _row("staleness", f"in updates, by share of microbatches{words}")
    for stage, counts in enumerate(counters[:_MOST_STAGES]):
        yield _row(f"  stage {stage}", _histogram(counts))
    yield from _rest(len(counters) - _MOST_STAGES, "stage")


def _histogram(counts: Counter[int]) -> str:
    total = counts.total()
    return "  ".join(f"{value}: {percent(counts[value] / total)}" for value in sorted(counts))


def _rest(count: int, noun: str) -> Iterator[str]:
    if count > 0:
        yield f"  ... and {_counted(count, noun)} more"


def _gpus(look: Look) -> Iterator[str]:
    if look.gpus is None:
        yield _row("gpu", "not known which the run uses")
    elif not look.gpus:
        yield _row("gpu", f"none used by {look.plan.backend if look.plan else 'this run'}")
    else:
        for gpu in look.gpus:
            yield from _gpu(gpu)


def _gpu(gpu: GpuLook) -> Iterator[str]:
    found, name = gpu.snapshot, f"cuda:{gpu.ordinal}"
    shares = [f"{words} {value:.0%}" for key, words in _SHARES.items() if (value := _number(found, key)) is not None]
    values = [f"{value:.0f} {unit}" for key, unit in _VALUES.items() if (value := _number(found, key)) is not None]
    used, total = (_number(found, key) for key in ("memory_used_bytes", "memory_total_bytes"))
    if used is not None and total is not None:
        values.insert(0, f"{used / _GIB:.1f} of {total / _GIB:.1f} GiB")
    if not shares and not values:
        reason = found.utilization
        yield _row(name, f"no readings: {reason.reason if isinstance(reason, Unavailable) else ''}")
        return
    yield _row(name, "; ".join(", ".join(each) for each in (shares, values) if each))
    slowed = found.throttle_reasons
    if not isinstance(slowed, Unavailable) and slowed:
        yield _row("", f"slowed: {', '.join(slowed)}")


def _number(found: GpuSnapshot, key: str) -> float | None:
    value: float | Unavailable = getattr(found, key)
    return None if isinstance(value, Unavailable) else value


def _notes(look: Look) -> Iterator[str]:
    if look.damaged:
        yield _row("damaged", f"{_counted(look.damaged, 'row')} left out")
