"""The text of `asyncpipe simulate`: a section for each kind of statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from asyncpipe.analysis.bubbles import Cause, StreamTime, waits_for_replica
from asyncpipe.analysis.critical_path import reason_of
from asyncpipe.analysis.loops import Loop
from asyncpipe.analysis.simulate import Number, StreamUse
from asyncpipe.analysis.steady import SteadyRun
from asyncpipe.cli.options import compact, costs_text, counted, number, several
from asyncpipe.cli.simulation import Results
from asyncpipe.cli.statements import binding_text, memory_texts
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.schedule import Costs

__all__ = ["cause_text", "report"]

_MOST_STREAMS, _MOST_CAUSES, _MOST_HOPS = 16, 3, 40
_MANY = 12
_OWN_OPS = (Op.F, Op.B, Op.I, Op.W, Op.U, Op.R)
"""Streams that only transfer or synchronise are idle by nature."""


def report(results: Results) -> str:
    """Everything, ready to print."""
    sections = (
        ("", _instance(results)),
        ("time", _times(results)),
        ("streams", _streams(results)),
        ("staleness", _staleness(results)),
        ("memory", _memory(results)),
        ("bounds", _bounds(results)),
        ("critical path", _path(results.path)),
        ("distributions", _distributions(results)),
        ("delays", _sweep(results)),
    )
    lines: list[str] = []
    for title, body in sections:
        found = list(body)
        if found:
            lines += [*([title] if title else []), *found]
    return "".join(f"{line}\n" for line in lines)


def _row(name: str, text: str) -> str:
    return f"  {name:<{_MANY}} {text}"


def _instance(results: Results) -> Iterator[str]:
    instance, program = results.instance, results.instance.endless
    size = f"{counted(program.stages, 'stage')}, {counted(instance.microbatches, 'microbatch', 'microbatches')}"
    replicas = f", {counted(program.replicas, 'replica')}" if program.replicas > 1 else ""
    yield f"{program.schedule}: {size}{replicas}"
    shown = {op: tuple(Fraction(t) * program.unit for t in times) for op, times in program.costs.items()}
    short = {op: times if len(set(times)) > 1 else times[:1] for op, times in shown.items() if not op.is_transfer}
    texts = [costs_text(Costs(tuple((op.value, t) for op, t in short.items())), short)]
    texts += [f"{op}={compact(shown[op])}" for op in shown if op.is_transfer and any(shown[op])]
    yield _row("costs", " ".join(texts))
    for op, distribution in results.asked.costs.noise.items():
        if op in program.costs:
            yield _row("", f"{op} is {distribution}")
    for delay in instance.timing.delays:
        yield _row("delay", f"{delay.value} for each microbatch of {delay.selector}")
    for straggler in instance.timing.stragglers:
        yield _row("straggler", f"{straggler.selector} takes {number(straggler.factor)} times as long")


def _times(results: Results) -> Iterator[str]:
    found = results.simulation
    of = " of each replica" if found.program.replicas > 1 else ""
    yield _row("period", f"{number(found.period)} per microbatch{of}")
    if (shared := results.on_workers) is not None:
        busy = " ".join(f"{share:.1%}" for share in shared.utilisation[:_MOST_STREAMS])
        yield _row("workers", f"{number(shared.period)} per microbatch{of} on {shared.workers.count}, busy {busy}")
    yield _row("speed-up", f"{float(found.speedup):.2f}x the same actions one after another")
    if found.makespan is not None:
        count = counted(results.instance.microbatches, "microbatch", "microbatches")
        yield _row("makespan", f"{number(found.makespan)} for {count}")
    if not all(run.recurrence for run in results.runs):
        yield _row("", "the streams drift apart: what follows is counted in the later half of a long run")
    yield from _lambda(results)


def _lambda(results: Results) -> Iterator[str]:
    decoupled = results.decoupled
    if decoupled is None:
        yield _row("lambda", "not defined: forward and backward share streams")
    elif decoupled.why_not:
        yield _row("lambda", f"not defined: {decoupled.why_not}")
    else:
        b = results.instance.microbatches
        formula = f"(1 + beta)b/(b + beta) with beta {number(decoupled.beta)}"
        yield _row(
            "lambda", f"{float(decoupled.speedup(b)):.2f}x = {formula}, {float(decoupled.limit):.2f}x in the end"
        )


def _streams(results: Results) -> Iterator[str]:
    """A line for each stream that ever works, and what it waits for; of many, the busiest and the idlest of a group."""
    shown = [(use, time) for use, time in zip(results.simulation.streams, results.streams, strict=True) if time.busy]
    width = max((len(use.name) for use, _ in shown), default=0)
    left = len(shown) - _MOST_STREAMS
    if left > 0:
        shown = sorted(shown, key=lambda pair: -pair[1].idle)[:_MOST_STREAMS]
    for use, time in shown:
        yield _stream(use, time, width)
        yield from _causes(results, time)
    if left > 0:
        yield f"  ... and {left} more, less idle than these"


def _stream(use: StreamUse, time: StreamTime, width: int) -> str:
    idle = 1 - float(use.utilisation) - time.held / time.length
    held = f", held up {time.held / time.length:.1%}" if time.held else ""
    shares = f"busy {float(use.utilisation):.1%}, idle {max(0.0, idle):.1%}{held}"
    return f"  {use.name:<{width}}  device {use.device}  {shares}"


def _causes(results: Results, time: StreamTime) -> Iterator[str]:
    run = results.runs[0]
    if not any(op in _OWN_OPS for op in run.graph.program.streams[time.stream].runs):
        return
    for cause, ticks in time.waits[:_MOST_CAUSES]:
        share = ticks / time.length
        yield f"    {share:6.1%}  {cause_text(cause, run, results.instance.compiled.diagram)}"
    rest = sum(ticks for _, ticks in time.waits[_MOST_CAUSES:])
    if rest:
        yield f"    {rest / time.length:6.1%}  for {counted(len(time.waits) - _MOST_CAUSES, 'other cause')}"


def cause_text(cause: Cause, run: SteadyRun, diagram: Diagram) -> str:
    """`F of stage 0 waits for B of stage 0 (in_flight: 3)`."""
    (op, stage), source = cause.keys(run.graph)
    target = f"{op} of stage {stage}"
    if source is None or cause.source is None:
        return f"{target} waits for another replica"
    reason, _ = reason_of(run.graph, diagram, cause.target, cause.source)
    late = ", which waits for another replica" if source[0] is Op.SYNC and waits_for_replica(run, cause.source) else ""
    return f"{target} waits for {source[0]} of stage {source[1]} ({reason}){late}"


def _staleness(results: Results) -> Iterator[str]:
    measured, is_random = results.simulation.staleness, results.instance.timing.is_random
    apply, between = (
        [float(f"{float(value):.3g}") if is_random else value for value in values]
        for values in (measured.apply, measured.forward_backward)
    )
    yield _row("at update", compact(apply))
    if list(measured.max) != apply:
        yield _row("at most", compact(measured.max))
    yield _row("at backward", compact(between))


def _memory(results: Results) -> Iterator[str]:
    yield _row("in flight", compact(results.memory.in_flight))
    yield _row("slots", compact(results.instance.compiled.slots))
    yield _row("versions", compact(results.memory.versions))
    for name, text in memory_texts(results.memory):
        yield _row(name, text)


def _bounds(results: Results) -> Iterator[str]:
    unit, found = results.instance.endless.unit, results.bounds
    yield _row("resource", f"{number(found.resource * unit)}: the work of {several(found.streams)}")
    if found.cycle is not None:
        yield _row("recurrence", f"{number(found.cycle.period * unit)}: a cycle of waits")
        yield from _loop(found.cycle)
    period = Fraction(results.simulation.period)
    if results.instance.timing.is_disturbed or results.instance.timing.is_random:
        yield _row("period", f"{float(period / (found.best * unit)):.2f} times the larger one, under these times")
    else:
        yield _row("binds", binding_text(found, period / unit))


def _loop(loop: Loop) -> Iterator[str]:
    lines = list(loop.lines())
    shown = (
        lines
        if len(lines) <= _MOST_HOPS
        else [*lines[: _MOST_HOPS - 1], f"... {len(lines) - _MOST_HOPS} more ...", lines[-1]]
    )
    yield from (f"    {line}" for line in shown)


def _path(loop: Loop | None) -> Iterator[str]:
    if loop is not None:
        names = " and ".join(map(str, loop.replicas))
        where = f", in replica{'s' if len(loop.replicas) > 1 else ''} {names}" if names else ""
        yield f"  {number(loop.time)} for {counted(loop.microbatches, 'microbatch', 'microbatches')}{where}"
        yield from _loop(loop)


def _distributions(results: Results) -> Iterator[str]:
    found = results.simulation
    if found.spreads:
        yield f"  median, and 10% and 90% of {counted(found.samples, 'sample')}; the rest is at the central times"
    for name, spread in found.spreads.items():
        yield _row(name, f"{number(spread.median)}  {number(spread.low)} to {number(spread.high)}")


def _sweep(results: Results) -> Iterator[str]:
    if not results.sweep:
        return
    name = results.instance.endless.schedule
    rival = "without delay" if results.against is None else results.against.endless.schedule
    yield f"  throughput per unit of time, delay of {results.swept}"
    rows = [("delay", name, rival, "ratio", "10% to 90%")]
    for point in results.sweep:
        spread = "exact" if point.spread is None else f"{point.spread.low:.3f} to {point.spread.high:.3f}"
        rows.append(
            (_shown(point.delay), _rate(point.throughput), _rate(point.against), f"{float(point.ratio):.3f}", spread)
        )
    yield from _table(rows)


def _shown(value: object) -> str:
    return number(value) if isinstance(value, Fraction) else str(value)


def _rate(value: Number) -> str:
    return f"{float(value):.6g}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
