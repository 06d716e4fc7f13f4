"""What a compute-only table in torch's dialect cannot say of a schedule: all of it, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from asyncpipe.analysis.happens_before import HappensBefore
from asyncpipe.compiler import Compiled
from asyncpipe.errors import Position
from asyncpipe.exchange.window import COMPUTATIONS, Window
from asyncpipe.ir import Action, Op
from asyncpipe.passes.diagram import Origin
from asyncpipe.schedule import Schedule
from asyncpipe.tables.index import data_sources

__all__ = ["Loss", "losses", "resolved_predecessors"]


class Loss(NamedTuple):
    text: str
    where: Position | None


def losses(compiled: Compiled, found: Window) -> list[Loss]:
    """Nothing where torch, with the table, computes what the schedule computes, in the same order."""
    return [
        *_flush(compiled, found),
        *_meaning(compiled.schedule),
        *_streams(compiled),
        *_waits(compiled, found),
    ]


def _flush(compiled: Compiled, found: Window) -> Iterator[Loss]:
    """In torch the optimizer steps after the table, and the next table begins after that."""
    schedule, every = compiled.schedule, compiled.diagram.every
    if found.microbatches > every:
        text = f"an update after every {every} of the {found.microbatches} microbatches: torch steps once, after all"
        yield Loss(text, schedule.where("update.every", "update"))
    stale = compiled.staleness.apply
    if any(stale):
        text = f"staleness {' '.join(map(str, stale))}: of a table it is 0 everywhere"
        yield Loss(text, schedule.where("rules", "streams"))
    pair = _overlap(compiled)
    if pair:
        text = f"updates that are not at a flush: {pair[1]} does not wait for {pair[0]}"
        yield Loss(text, schedule.where("rules", "streams"))


def _overlap(compiled: Compiled) -> tuple[Action, Action] | None:
    """An update, and a forward of the next update that need not wait for it."""
    every = compiled.diagram.every
    order = HappensBefore(compiled.program(2 * every))
    updates = [Action(stage, Op.U, 0) for stage in range(compiled.stages)]
    forwards = [Action(0, Op.F, every + m) for m in range(every)]
    pairs = ((update, forward) for forward in forwards for update in updates if update in order.actions)
    return next((pair for pair in pairs if not order.before(*pair)), None)


def _meaning(schedule: Schedule) -> Iterator[Loss]:
    """What the actions mean: weights, gradients, replicas."""
    weights, update = schedule.weights, schedule.update
    if weights.texts != ("latest", "latest"):
        forward, backward = weights.texts
        yield Loss(
            f"weights {{forward: {forward}, backward: {backward}}}: torch has one version", _at(schedule, "weights")
        )
    for transform in schedule.gradient:
        yield Loss(f"the gradient transform {transform}", transform.where or _at(schedule, "gradient"))
    if schedule.aux.gradient != "chain":
        text = f"{schedule.aux.gradient} gradients: in torch every backward waits for that of the stage above"
        yield Loss(text, _at(schedule, "aux"))
    if schedule.recompute.mode != "none":
        yield Loss(f"recompute: {schedule.recompute.mode} (R)", _at(schedule, "recompute"))
    if schedule.replicas.sync is not None or schedule.replicas.count > 1:
        sync = f", synchronised by {schedule.replicas.sync.kind} (SYNC)" if schedule.replicas.sync else ""
        yield Loss(f"{schedule.replicas.count} replicas{sync}", _at(schedule, "replicas"))
    defaults = {"write": "ordered", "owner": "shared", "scope": "all", "commit": 1}
    for key, default in defaults.items():
        value = getattr(update, key)
        if value != default:
            yield Loss(f"update {{{key}: {value}}}", _at(schedule, f"update.{key}", "update"))


def _at(schedule: Schedule, *keys: str) -> Position | None:
    return schedule.where(*keys)


def _streams(compiled: Compiled) -> Iterator[Loss]:
    """torch runs the actions of a device one after another."""
    schedule, names = compiled.schedule, dict[int, list[str]]()
    for stream in compiled.diagram.streams:
        if any(op in COMPUTATIONS or op is Op.U for op in stream.runs):
            names.setdefault(stream.device, []).append(stream.name)
    for device, found in names.items():
        if len(found) > 1:
            shown = ", ".join(found[:6]) + (", ..." if len(found) > 6 else "")
            yield Loss(f"device {device} has {len(found)} streams: {shown}", schedule.where("streams"))
    for group in schedule.streams:
        if group.assign == "dynamic":
            yield Loss(f"group {group.name}: assign: dynamic", group.where("assign"))
        for key in ("priority", "sms"):
            if getattr(group, key):
                yield Loss(f"group {group.name}: {key}: {getattr(group, key)}", group.where(key))


def _waits(compiled: Compiled, found: Window) -> Iterator[Loss]:
    """Edges inside the window, of `in_flight` or a rule, that follow neither from data nor from the order of a row."""
    order = _TorchOrder(found)
    said: set[Origin] = set()
    for device, action, _ in found.order:
        for source, origin in resolved_predecessors(compiled, action, found.microbatches):
            if origin.text.startswith("slot "):
                continue  # storage, which whoever runs the table manages
            if origin not in said and source in order.clocks and not order.before(source, device, action):
                said.add(origin)
                yield Loss(f"{origin.text}: {action} would not wait for {source}", origin.where)


def resolved_predecessors(compiled: Compiled, action: Action, n: int) -> Iterator[tuple[Action, Origin]]:
    """What an action waits for in a run of n microbatches; for a transfer, what that waits for."""
    for source, origin in compiled.diagram.predecessors(action, n):
        if source.op.is_transfer:
            yield from ((before, origin) for before, _ in resolved_predecessors(compiled, source, n))
        else:
            yield source, origin


class _TorchOrder:
    """What is ordered by data and by rows alone: vector clocks that count the actions of each device."""

    def __init__(self, found: Window) -> None:
        cells = {action: (device, 0) for device, action, _ in found.order}
        sources = data_sources(cells)
        known = [[0] * found.devices for _ in range(found.devices)]
        self.clocks: dict[Action, tuple[int, ...]] = {}
        self.places: dict[Action, tuple[int, int]] = {}
        for device, action, _ in found.order:
            for source in sources(action):
                if source in self.clocks and cells[source][0] != device:
                    known[device] = list(map(max, known[device], self.clocks[source]))
            self.places[action] = (device, known[device][device])
            known[device][device] += 1
            self.clocks[action] = tuple(known[device])

    def before(self, first: Action, device: int, second: Action) -> bool:
        """Whether `first` has ended when `second` starts."""
        where, position = self.places[first]
        return self.clocks[second][where] > position
