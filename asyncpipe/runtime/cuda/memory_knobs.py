"""What would free memory, and about how much: the same plan with one number changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asyncpipe.runtime.cuda.memory_plan import MemoryPlan
from asyncpipe.runtime.cuda.stage_plan import StagePlan

__all__ = ["Knob", "knobs"]


@dataclass(frozen=True)
class Knob:
    """name: of the option or key of the schedule. change: what to do. frees: bytes, about, of one device."""

    name: str
    change: str
    frees: int


def knobs(plan: MemoryPlan, device: int) -> list[Knob]:
    """Those that free something, the most first."""
    here = [stage for stage in plan.stages if stage.device == device]
    own = plan.of(device).bytes
    found = [
        Knob("batch", "half as large", (own["activations"] + own["data"] + _library_free(plan, device)) // 2),
        Knob("recompute", "full", sum(_without_saved(stage) for stage in here)),
        Knob("in_flight", "one less", sum(_of_one(stage) for stage in here if stage.in_flight > 1)),
        Knob("stages", "half as many", _of_fewer_stages(plan, here)),
        *_of_period(plan, device),
    ]
    return sorted((knob for knob in found if knob.frees > 0), key=lambda knob: -knob.frees)


def _library_free(plan: MemoryPlan, device: int) -> int:
    """What actions hold besides their results."""
    memory = plan.of(device)
    return max(0, memory.bytes["workspace"] - memory.memory.workspace)


def _without_saved(stage: StagePlan) -> int:
    """With `recompute: full`; what one microbatch saves is then made for its backward alone."""
    return stage.held * (stage.each.kept - stage.full.kept) - max(0, stage.full.backward - stage.each.backward)


def _of_one(stage: StagePlan) -> int:
    """Bytes of one microbatch in flight, in all places that it has."""
    return stage.held * stage.each.kept // stage.in_flight


def _of_fewer_stages(plan: MemoryPlan, here: Sequence[StagePlan]) -> int:
    """Two neighbours become one, with as many microbatches in flight as stages that are as far from the last have."""
    count = 1 + max(stage.stage for stage in plan.stages)
    in_flight = {stage.stage: stage.in_flight for stage in plan.stages}
    half = count // 2
    if half == 0 or count % 2:
        return 0
    merged = {stage: in_flight[half + stage // 2] for stage in range(count)}
    handed_over = sum(merged[stage.stage] * stage.each.inputs for stage in here if stage.stage % 2)
    return sum((stage.in_flight - merged[stage.stage]) * _of_one(stage) for stage in here) + handed_over


def _of_period(plan: MemoryPlan, device: int) -> Iterable[Knob]:
    graphs = plan.graphs
    if graphs is None or graphs.least == graphs.microbatches:
        return ()
    own = plan.of(device).bytes
    frees = (own["data"] + own["graph"]) * (graphs.microbatches - graphs.least) // graphs.microbatches
    return (Knob("period", f"{graphs.least} instead of {graphs.microbatches}", frees),)
