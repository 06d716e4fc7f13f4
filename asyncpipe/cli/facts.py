"""The short form of what a compiled schedule does, as `check` states it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from asyncpipe.analysis.bounds import Bounds, bounds
from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.analysis.memory import Memory, StageSizes, memory
from asyncpipe.analysis.races import Race, guaranteed_staleness, intended_races
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.analysis.work import work
from asyncpipe.cli.options import compact, costs_text, counted, number, several
from asyncpipe.cli.stable_lr import StableLr, stable_lr_json, stable_lr_text
from asyncpipe.cli.statements import binding_text, bounds_json, memory_json, memory_texts, staleness_json
from asyncpipe.compiler import Compiled
from asyncpipe.ir import Program
from asyncpipe.schedule import Costs
from asyncpipe.schedule.spec import Phase

__all__ = ["Facts", "facts_json", "facts_text", "find_facts"]


_MOST_ORDERED = 40_000_000


@dataclass(frozen=True)
class Facts:
    """`bound` is the staleness that no timing exceeds, None where there is no such bound."""

    compiled: Compiled
    speedup: Fraction
    bounds: Bounds
    memory: Memory
    races: Sequence[Race]
    bound: Sequence[int | None]
    stable_lr: StableLr
    is_ordered: bool = True
    """Whether races and the bound were looked for at all."""


def find_facts(
    compiled: Compiled, microbatches: int | None, sizes: Sequence[StageSizes] | None, stable_lr: StableLr
) -> Facts:
    """States all; programs are made too, since what only shows there is to be found before a run."""
    sample, endless = compiled.sample_program(), compiled.program(None)
    if microbatches is not None:
        compiled.program(microbatches)
    # With very many streams what events alone order costs more than all the rest.
    size = len(sample.streams) * (len(sample.warmup) + len(sample.cooldown) + 4 * len(sample.body))
    order = HappensBefore(sample) if size < _MOST_ORDERED else None
    return Facts(
        compiled,
        work(endless) * endless.replicas / compiled.period,
        bounds(compiled.diagram, compiled.plan, compiled.ticks.of),
        memory(run_steady(endless, Timing()), sizes),
        [] if order is None else intended_races(sample, compiled.schedule.weights, order),
        (None,) * compiled.stages if order is None else guaranteed_staleness(sample, order),
        stable_lr,
        order is not None,
    )


def facts_text(facts: Facts) -> Iterator[tuple[str, str]]:
    """(name, text) of each line."""
    compiled = facts.compiled
    yield "instance", f"{counted(compiled.stages, 'stage')}, costs {_costs(compiled)}"
    yield "streams", several([stream.name for stream in compiled.diagram.streams])
    yield "period", f"{number(compiled.period)} per microbatch, {float(facts.speedup):.2f}x one stream"
    yield "bound by", binding_text(facts.bounds, compiled.period / compiled.ticks.unit)
    yield "staleness", _staleness(facts)
    yield "stable lr", stable_lr_text(facts.stable_lr)
    slots = compact(compiled.slots)
    yield "in flight", f"{compact(facts.memory.in_flight)}, in slots {slots}"
    yield "versions", compact(facts.memory.versions)
    yield "memory", "; ".join(f"{name} {text}" for name, text in memory_texts(facts.memory))
    if compiled.schedule.phases:
        yield "phases", "; ".join(map(_phase, compiled.schedule.phases)) + "; then as above"
    for race in facts.races:
        yield "race", f"{race}, as intended"


def program_text(program: Program) -> Iterator[tuple[str, str]]:
    """(name, text) of what a stream program is."""
    length = "endless" if program.microbatches is None else counted(program.microbatches, "microbatch", "microbatches")
    yield "program", f"{program.schedule}, {counted(program.stages, 'stage')}, {length}"
    yield "streams", several([stream.name for stream in program.streams])
    parts = {"warmup": program.warmup, "body": program.body, "cooldown": program.cooldown}
    yield "size", ", ".join(f"{counted(len(part), 'instruction')} in {name}" for name, part in parts.items())


def _costs(compiled: Compiled) -> str:
    ops = sorted({op for op, _ in compiled.diagram.ops if not op.is_transfer}, key=lambda op: op.value)
    costs = {op: tuple(Fraction(t) * compiled.ticks.unit for t in compiled.ticks.costs[op]) for op in ops}
    shown = ((op.value, times if len(set(times)) > 1 else times[:1]) for op, times in costs.items())
    return costs_text(Costs(tuple(shown)), ops)


def _phase(phase: Phase) -> str:
    """`until 1/2 of the training: average every 1 update`."""
    until = f"{phase.until} of the training" if isinstance(phase.until, Fraction) else counted(phase.until, "update")
    changes = [f"scope {phase.scope}"] if phase.scope else []
    if phase.sync is not None:
        every = f" every {counted(phase.sync.every, 'update')}" if phase.sync.kind in ("average", "outer") else ""
        changes.append(f"{phase.sync.kind}{every}")
    return f"until {until}: {', '.join(changes)}"


def _staleness(facts: Facts) -> str:
    """What the planned timing gives, and what no timing can exceed."""
    planned = f"{compact(facts.compiled.staleness.apply)} as planned"
    if not facts.is_ordered:
        return planned
    known = [bound for bound in facts.bound if bound is not None]
    if len(known) < len(facts.bound):
        most = " ".join("-" if bound is None else str(bound) for bound in facts.bound)
        return f"{planned}, {f'never more than {most}' if known else 'without bound'}"
    return f"{planned}, never more than {compact(known)}"


def facts_json(facts: Facts) -> dict[str, Any]:
    compiled = facts.compiled
    return {
        "stages": compiled.stages,
        "period": float(compiled.period),
        "speedup": float(facts.speedup),
        "staleness": {**staleness_json(compiled.staleness), "bound": list(facts.bound)},
        "stable_lr": stable_lr_json(facts.stable_lr),
        "in_flight": list(facts.memory.in_flight),
        "slots": list(compiled.slots),
        "weight_versions": list(facts.memory.versions),
        "bounds": bounds_json(facts.bounds, compiled.ticks.unit),
        "bound_by": binding_text(facts.bounds, compiled.period / compiled.ticks.unit),
        "memory": memory_json(facts.memory),
    }
