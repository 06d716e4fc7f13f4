"""A profile for people: a section for each question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from asyncpipe.ir import Op
from asyncpipe.tools.profile.distributions import Distribution
from asyncpipe.tools.profile.gpu import gpu_lines
from asyncpipe.tools.profile.report import ProfileReport, histogram
from asyncpipe.tools.profile.streams import StreamUse, Wait

__all__ = ["duration", "profile_text", "signed_percent"]

_MOST_COSTS, _MOST_STREAMS, _MOST_WAITS, _MOST_STAGES = 24, 16, 3, 16
_LEAST_SHARE = 0.001
_OWN_OPS = (Op.F, Op.B, Op.I, Op.W, Op.U, Op.R)
"""Streams that only transfer or synchronise are idle by nature."""
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, ""))


def profile_text(report: ProfileReport) -> str:
    """Everything, ready to print."""
    sections = (
        ("", [_head(report)]),
        ("time", _time(report)),
        ("costs", _costs(report)),
        ("streams", _streams(report)),
        ("workers", _workers(report)),
        ("in flight", _in_flight(report)),
        ("staleness", _staleness(report)),
        ("machine", _machine(report)),
    )
    lines: list[str] = []
    for title, body in sections:
        found = list(body)
        lines += [*([title] if title and found else []), *found]
    return "".join(f"{line}\n" for line in lines)


def duration(seconds: float) -> str:
    """Three digits and a unit: `2.45 ms`."""
    scale, unit = next((entry for entry in _UNITS if abs(seconds) >= entry[0] * 0.9995), _UNITS[-1])
    value = seconds / scale
    return f"{value:.{0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2}f} {unit}"


def signed_percent(share: float) -> str:
    """`+1.2%`; what rounds to nothing is `+0.0%`."""
    return f"{round(share, 3) + 0.0:+.1%}"


def _counted(count: int, noun: str, several: str = "") -> str:
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


def _row(name: str, text: str) -> str:
    return f"  {name:<12} {text}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _head(report: ProfileReport) -> str:
    setting, profile, program = report.setting, report.profile, report.profile.run.program
    replicas = f", {_counted(program.replicas, 'replica')}" if program.replicas > 1 else ""
    size = f"{_counted(program.stages, 'stage')}{replicas}, {_counted(len(program.streams), 'stream')}"
    threads = f"{_counted(profile.workers, 'worker')} of {_counted(setting.intra_op_threads, 'thread')}"
    return f"{setting.schedule} on {setting.job}: {setting.backend}, {size}, {threads}"


def _time(report: ProfileReport) -> Iterator[str]:
    profile, setting, predicted = report.profile, report.setting, report.profile.predicted
    of = " of each replica" if profile.run.program.replicas > 1 else ""
    rate = f"{profile.samples_per_s(setting.batch):,.0f} samples/s"
    yield _row("period", f"{duration(profile.period)} per microbatch{of}, {rate}")
    on = f"on {_counted(profile.workers, 'worker')}: {signed_percent(predicted.error(profile.period))}"
    own = f"{duration(predicted.on_own_processors)} with a processor for each stream"
    yield _row("simulated", f"{duration(predicted.on_workers)} {on}; {own}")
    count, seconds = profile.steady
    steady = f"{_counted(count, 'microbatch', 'microbatches')} of {_counted(setting.batch, 'sample')}"
    yield _row("measured", f"{steady} in {duration(seconds)}, after {setting.warm_microbatches} that do not count")


def _costs(report: ProfileReport) -> Iterator[str]:
    times, profile = report.profile.times, report.profile
    rows = [["", "median", "10%", "90%", "count"]]
    rows += [[f"{stage}{op}", *_numbers(found)] for (op, stage), found in times.distributions.items()]
    left = len(rows) - 1 - _MOST_COSTS
    yield from _table(rows[: _MOST_COSTS + 1])
    if left > 0:
        yield f"  ... and {left} more in profile.json"
    betas = [times.beta(stage) for stage in range(profile.run.program.stages)]
    if (beta := times.beta()) is not None:
        each = " ".join("-" if value is None else f"{value:.2f}" for value in betas[:_MOST_STAGES])
        per_stage = f"; by stage {each}{' ...' * (len(betas) > _MOST_STAGES)}" if len(betas) > 1 else ""
        yield _row("beta", f"{beta:.2f}: backward over forward{per_stage}")
    if profile.contention:
        factors = ", ".join(f"{op} {factor:.2f}" for op, factor in profile.contention.items())
        yield _row("contention", f"{factors} times as long as alone")


def _numbers(found: Distribution) -> list[str]:
    return [duration(found.median), duration(found.p10), duration(found.p90), str(found.count)]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = max(widths[0], 12)
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield f"  {row[0]:<{widths[0]}} {'  '.join(cells)}".rstrip()


def _streams(report: ProfileReport) -> Iterator[str]:
    """Of many streams those that work most; below each what it waits for longest."""
    profile = report.profile
    own = [use for use in profile.streams if any(op in _OWN_OPS for op in use.stream.runs)]
    shown = sorted(own, key=lambda use: -use.busy)[:_MOST_STREAMS] if len(own) > _MOST_STREAMS else own
    rows = [["", "busy", "waiting", "no worker", "dispatch", "ends"]]
    rows += [[_name(use, profile.run.program.replicas), *map(_share, _shares(use))] for use in shown]
    lines = list(_table(rows))
    yield lines[0]
    for line, use in zip(lines[1:], shown, strict=True):
        yield line
        yield from _waits(use)
    if len(own) > len(shown):
        yield f"  ... and {len(own) - len(shown)} more in profile.json, which work less"


def _name(use: StreamUse, replicas: int) -> str:
    return f"replica {use.replica} {use.stream.name}" if replicas > 1 else use.stream.name


def _shares(use: StreamUse) -> list[float]:
    return [part / use.length for part in (use.busy, use.waiting, use.no_worker, use.dispatch, use.ends)]


def _waits(use: StreamUse) -> Iterator[str]:
    long = [wait for wait in use.waits if wait.seconds >= _LEAST_SHARE * use.length]
    for wait in long[:_MOST_WAITS]:
        yield f"    {wait.seconds / use.length:6.1%}  {_cause(wait)}"
    if rest := long[_MOST_WAITS:]:
        seconds = sum(wait.seconds for wait in rest)
        yield f"    {seconds / use.length:6.1%}  for {_counted(len(rest), 'other cause')}"


def _cause(wait: Wait) -> str:
    target = f"{wait.target[0]} of stage {wait.target[1]}"
    if wait.source is None:
        return f"{target} waits for another replica"
    return f"{target} waits for {wait.source[0]} of stage {wait.source[1]} ({wait.reason})"


def _workers(report: ProfileReport) -> Iterator[str]:
    profile = report.profile
    yield _row("busy", " ".join(map(_share, profile.worker_busy)))
    if (found := profile.overheads.hand_over) is not None:
        yield _row("hand-over", f"{_middle(found)} from an action's end to the next one's begin")
    if (found := profile.overheads.wake) is not None:
        yield _row("wake", f"{_middle(found)} until an idle worker begins")


def _middle(found: Distribution) -> str:
    return f"{duration(found.median)} ({duration(found.p10)} to {duration(found.p90)}, {found.count} times)"


def _in_flight(report: ProfileReport) -> Iterator[str]:
    yield from _by_stage(shares.items() for shares in report.profile.in_flight)


def _staleness(report: ProfileReport) -> Iterator[str]:
    counts: Sequence[Mapping[str, int]] = report.profile.staleness.get("histogram", ())
    yield from _by_stage(histogram(each) for each in counts)


def _by_stage(shares: Iterable[Iterable[tuple[int, float]]]) -> Iterator[str]:
    for stage, each in enumerate(shares):
        if stage == _MOST_STAGES:
            yield "  ... and more in profile.json"
            return
        yield _row(f"stage {stage}", "  ".join(f"{value}: {share:.1%}" for value, share in each))


def _machine(report: ProfileReport) -> Iterator[str]:
    found = report.efficiency
    if found is not None:
        peak = f"{_flops(found.peak_flops_per_s)}, {found.denominator}"
        yield _row("mfu", f"{found.mfu:.1%}: {_flops(found.flops_per_s)} of {peak}")
    if report.gpu is not None:
        yield from (_row(name, text) for name, text in gpu_lines(report.gpu))
    for name, reason in report.unavailable.items():
        yield _row(name, f"not known: {reason}")
    cost = f"{duration(report.stopwatch_seconds)} for each action, {report.stopwatch_share:.2%} of the time"
    yield _row("stopwatch", cost)
    if (clock := report.profile.run.clock) is not None:
        apart = f"; two devices agree to {duration(clock.between_devices)}" if clock.between_devices else ""
        yield _row("clock", f"the device's, in steps of {duration(clock.step)}{apart}")


def _flops(value: float) -> str:
    scale, prefix = next((entry for entry in _PREFIXES if value >= entry[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}FLOP/s"
