"""What a training holds now, by the classes of its plan: for the report when memory ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from asyncpipe.runtime.cuda.execution import DeviceExecution
from asyncpipe.runtime.cuda.flight import carried
from asyncpipe.runtime.cuda.references import storage_of, tensors_in
from asyncpipe.runtime.cuda.stage_plan import kept_by_stages

__all__ = ["held_bytes"]


def held_bytes(executions: Sequence[DeviceExecution], devices: Sequence[int], device: int) -> dict[str, int]:
    """Bytes by class on one device; `devices`: of each stage. Memory that several tensors share counts once."""
    found = dict.fromkeys(("parameters", "optimizer", "versions", "activations", "gradients"), 0)
    for execution in executions:
        here = [stage for stage, home in enumerate(devices) if home == device]
        for stage in here:
            for name, size in kept_by_stages(execution, stage).items():
                found[name] += size
        found["activations"] += _bytes(one for stage in here for one in _activations(execution, stage))
        found["gradients"] += _bytes(one for stage in here for one in _gradients(execution, stage))
    return found


def _activations(execution: DeviceExecution, stage: int) -> Iterator[Any]:
    yield execution.outputs[stage], execution.returned[stage]
    for slot in execution.slots_of(stage):
        yield [value for name, value in carried(slot).items() if name not in ("read", "seeds")]


def _gradients(execution: DeviceExecution, stage: int) -> Iterator[Any]:
    yield execution.incoming[stage], [slot.seeds for slot in execution.slots_of(stage)]
    yield [pending.gradients for pending in execution.pending[stage].values()], list(execution.reduced[stage].values())


def _bytes(values: Iterable[Any]) -> int:
    tensors: list[Tensor] = [tensor for value in values for tensor in tensors_in(value)]
    return sum({storage_of(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
