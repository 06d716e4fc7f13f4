"""AP6xx: combinations that cannot mean anything, refused with the reason."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.errors import Diagnostic, Report
from asyncpipe.ir import Op
from asyncpipe.passes.diagram import Diagram
from asyncpipe.passes.names import instance_names, span_of, stages_text
from asyncpipe.schedule import Schedule, StreamGroup
from asyncpipe.verify.phases import phase_findings

__all__ = ["check_copies", "check_meaning"]


def check_meaning(schedule: Schedule, stages: int, report: Report) -> bool:
    """Whether the parts of the schedule make sense together; the findings are in the report."""
    found = [
        *_versions(schedule),
        *_private(schedule),
        *_owners(schedule),
        *_scope(schedule),
        *_dynamic(schedule),
        *_recompute(schedule),
        *_replicas(schedule),
        *_aux(schedule, stages),
        *_commit(schedule),
        *_settings(schedule),
        *phase_findings(schedule),
    ]
    for diagnostic in found:
        report.add(diagnostic)
    return not found


def _error(schedule: Schedule, code: str, message: str, hint: str, *keys: str) -> Diagnostic:
    return Diagnostic(code, message, schedule.where(*keys), hint)


def _versions(schedule: Schedule) -> Iterator[Diagnostic]:
    write = schedule.update.write
    if schedule.weights.forward == "lag" and write != "ordered":
        message = f"`lag` reads a certain version, but under `write: {write}` the updates of a stage form no chain"
        yield _error(schedule, "AP602", message, "use `write: ordered`, or `forward: latest`", "weights")


def _runners(schedule: Schedule, *ops: Op) -> list[StreamGroup]:
    return [group for group in schedule.streams if set(ops) & set(group.runs)]


def _private(schedule: Schedule) -> Iterator[Diagnostic]:
    private = schedule.weights.backward == "private"
    apart = [group for group in _runners(schedule, Op.B, Op.I, Op.W) if Op.U not in group.runs]
    if private and apart:
        message = f"`backward: private` gives each stream its own copy, but group {apart[0].name} runs no U to write it"
        yield _error(schedule, "AP603", message, "let the streams of the backward run U too", "weights")
    sync = schedule.replicas.sync
    if private and sync is not None and sync.kind != "allreduce":
        message = f"`{sync.kind}` changes the shared parameters, which a private copy (`backward: private`) never sees"
        yield _error(schedule, "AP603", message, "use `allreduce`, or another `backward`", "weights")
    if schedule.update.write == "overwrite" and not private:
        message = "`write: overwrite` replaces the shared parameters by a stream's own copy, but no stream has one"
        yield _error(schedule, "AP605", message, "add `weights: {backward: private}`, or use another `write`", "update")


def _owners(schedule: Schedule) -> Iterator[Diagnostic]:
    if schedule.update.owner == "stream" and all(group.count == 1 for group in _runners(schedule, Op.U)):
        message = "`owner: stream` gives each updating stream its own optimizer state, but a single stream runs U"
        yield _error(schedule, "AP604", message, "give the group a `count`, or use `owner: shared`", "update")
    several = [group for group in _runners(schedule, Op.U) if group.count > 1]
    if schedule.update.owner == "shared" and schedule.weights.backward == "private" and several:
        message = f"each of the {several[0].count} streams of {several[0].name} has its own copy (`backward: private`)"
        message += ", which needs its own optimizer state, and `owner: shared` is one for all"
        yield _error(schedule, "AP604", message, "add `update: {owner: stream}`", "weights")


def _scope(schedule: Schedule) -> Iterator[Diagnostic]:
    update = schedule.update
    if update.scope == "all":
        return
    workers = [group for group in schedule.streams if {Op.F, Op.U} <= set(group.runs) and group.per is None]
    if len(schedule.streams) > 1 or not workers:
        message = f"`scope: {update.scope}` is for workers that run F, the backward and U of all stages in one stream"
        yield _error(schedule, "AP606", message, "as in worker: {runs: [F, B, U], count: 4}", "update")
    elif update.every > 1:
        message = f"`scope: {update.scope}` with `every: {update.every}`: the microbatches of one update are of several"
        yield _error(schedule, "AP606", f"{message} workers, which own different blocks", "use `every: 1`", "update")
    elif {Op.I, Op.W} & set(workers[0].runs):
        message = f"`scope: {update.scope}` ends a backward above the worker's block, which is not defined for halves"
        yield _error(schedule, "AP606", message, "run B instead of I and W", "update")
    elif update.write == "ordered":
        message = f"`scope: {update.scope}` skips updates of a stage, so that they form no chain for `write: ordered`"
        yield _error(schedule, "AP606", message, "use `write: racy` or `write: atomic`", "update")


def _dynamic(schedule: Schedule) -> Iterator[Diagnostic]:
    for group in schedule.streams:
        if group.assign != "dynamic":
            continue
        if schedule.update.scope != "all":
            message = "`assign: dynamic` leaves open which worker takes a microbatch, but `scope` follows from m"
            yield Diagnostic("AP607", message, group.where("assign"), "remove one of the two")
        elif group.device is not None and "i" in str(group.device):
            message = f"`assign: dynamic`: the streams of group {group.name} live on different devices"
            hint = "put them on one device, so that any of them can take a microbatch"
            yield Diagnostic("AP607", message, group.where("assign"), hint)


def _recompute(schedule: Schedule) -> Iterator[Diagnostic]:
    if schedule.recompute.mode != "invert":
        return
    halves = [group for group in schedule.streams if {Op.I, Op.W} & set(group.runs)]
    if halves:
        message = "`recompute: invert` reconstructs the input within the backward, which cannot be split into I and W"
        yield _error(schedule, "AP608", message, "run B, or use `recompute: full`", "recompute")
    if schedule.weights.backward == "same":
        message = "`recompute: invert` inverts with the weights of now, so `backward: same` could not hold"
        yield _error(schedule, "AP608", message, "use `backward: latest`, or `recompute: full`", "recompute")


def _replicas(schedule: Schedule) -> Iterator[Diagnostic]:
    sync, write = schedule.replicas.sync, schedule.update.write
    if sync is None:
        return
    if sync.kind == "allreduce" and write != "ordered":
        message = f"`allreduce` joins update g of all replicas, but under `write: {write}` a replica has no g-th update"
        yield _error(schedule, "AP609", message, "use `write: ordered`, or `average`", "replicas")
    if sync.kind == "allreduce" and schedule.update.scope != "all":
        message = "`allreduce` needs the gradients of all stages in each update, but `scope` leaves some out"
        yield _error(schedule, "AP609", message, "use `scope: all`, or `average`", "replicas")


def _aux(schedule: Schedule, stages: int) -> Iterator[Diagnostic]:
    if schedule.aux.gradient == "chain":
        return
    span = span_of(schedule.aux.stages, instance_names(schedule, stages), "`aux`", None, Report())
    if stages - 1 in span and stages > 1:
        message = f"`aux` covers the last of {stages} stages, which has the loss itself"
        yield _error(schedule, "AP610", message, "as in stages: 0..last-1", "aux")
    if stages == 1:
        message = f"`aux: {{gradient: {schedule.aux.gradient}}}` needs a stage above, but there is one stage"
        yield _error(schedule, "AP610", message, "use two stages or more", "aux")


def _commit(schedule: Schedule) -> Iterator[Diagnostic]:
    update = schedule.update
    if update.commit > 1 and update.write != "ordered":
        message = f"`commit: {update.commit}` builds on the last commit, but `write: {update.write}` forms no chain"
        yield _error(schedule, "AP611", message, "use `write: ordered`", "update")


def _settings(schedule: Schedule) -> Iterator[Diagnostic]:
    """Transforms and outer steps with which nothing is trained."""
    kinds = [transform.kind for transform in schedule.gradient]
    for number, transform in enumerate(schedule.gradient):
        if transform.kind in kinds[:number]:
            message = f"the gradient transform {transform.kind} stands in the list twice"
            yield Diagnostic("AP613", message, transform.where, "write each transform once")
        elif transform.kind in ("shrink", "clip_norm") and transform.value == 0:
            message = f"{transform.kind}: 0 makes every gradient zero"
            yield Diagnostic("AP613", message, transform.where, "use a positive number, or remove it")
        elif transform.kind == "delay_compensation" and schedule.update.every > 1:
            message = f"delay_compensation with every: {schedule.update.every}: the microbatches of an update have read"
            hint = "use `every: 1` and larger microbatches"
            yield Diagnostic("AP613", f"{message} different weights", transform.where, hint)
    sync = schedule.replicas.sync
    if sync is not None and sync.kind == "outer" and (sync.lr == 0 or sync.momentum >= 1):
        what = "lr: 0 never leaves the first parameters" if sync.lr == 0 else f"momentum: {sync.momentum} has no end"
        yield _error(schedule, "AP613", f"outer {what}", "as in {every: 500, lr: 0.7, momentum: 0.9}", "replicas")


def check_copies(schedule: Schedule, diagram: Diagram, report: Report) -> None:
    """AP612 where actions of one stage run on several devices, and nothing says which copy of its weights they use."""
    for stage in range(diagram.stages):
        found = next(_copies(schedule, diagram, stage), None)
        if found is not None:
            report.error("AP612", found[0], schedule.where("streams"), found[1])
            return


def _copies(schedule: Schedule, diagram: Diagram, stage: int) -> Iterator[tuple[str, str]]:
    name, back, gradient = stages_text([stage]), diagram.backward_op(stage), diagram.gradient_op(stage)
    backwards, forwards = _devices(diagram, back, stage), _devices(diagram, Op.F, stage)
    if len(set(backwards)) > 1 and schedule.weights.backward != "private":
        message = f"the backward of {name} runs on devices {_and(backwards)}, each with a copy of the weights"
        hint = "add `weights: {backward: private}` and `update: {owner: stream}`: each stream then has its own"
        yield message, f"{hint}, and pushes it after its update"
    if len(set(forwards)) > 1:
        message = (
            f"the forward of {name} runs on devices {_and(forwards)}, but an update reaches one copy of its weights"
        )
        yield message, "let one device run the forward of a stage, or use `replicas`"
    updates = [device for device in _devices(diagram, Op.U, stage) for _ in range(diagram.every)]
    again = (Op.R,) if (Op.R, stage) in diagram.assign else ()
    for op in (gradient, back, *again):
        others = _devices(diagram, op, stage)
        if others[: len(updates)] != updates[: len(others)]:
            message = f"{op} and U of {name} run on devices {_and(others)} and {_and(updates)}"
            yield f"{message}, but no transfer carries what they share", "run them on the same device"
    if schedule.replicas.sync is not None and set(forwards) != set(updates):
        message = f"F and U of {name} run on devices {_and(forwards)} and {_and(updates)}"
        yield f"{message}, but replicas synchronise one copy", "run them on the same device"


def _devices(diagram: Diagram, op: Op, stage: int) -> list[int]:
    """The device of each index, over the indices after which the streams repeat."""
    period = diagram.repeats[1] // (diagram.every if op.by_update else 1)
    assign = diagram.assign[op, stage]
    return [diagram.streams[assign(index)].device for index in range(period)]


def _and(devices: list[int]) -> str:
    return " and ".join(map(str, sorted(set(devices))))
