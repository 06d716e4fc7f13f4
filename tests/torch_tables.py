"""The orders and the validator of the installed torch.distributed.pipelining, without a process group."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

__all__ = ["executed_1f1b", "generated", "is_accepted", "loaded_from_csv", "zero_bubble_of_one_stage"]


def _modules() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own imports; every use of it here goes through this line
        from torch.distributed.pipelining import _schedule_visualizer, schedules
    return schedules, _schedule_visualizer


def _cells(actions: list[Any]) -> Iterator[str]:
    """Computations as text; gaps and reductions left out, composites as their parts."""
    for action in (action for action in actions if action is not None):
        yield from (str(part) for part in action.sub_actions or (action,) if part.is_compute_op)


def _stage(spec: type, **_: Any) -> Any:
    """A mock with the names of the class; `create_autospec` also reads every signature, slower than what is tested."""
    return mock.NonCallableMock(spec=spec)


def generated(name: str, devices: int, stages_per_device: int, microbatches: int) -> list[list[str]]:
    """The rows of one of torch's schedule classes; ValueError for sizes that it refuses."""
    visualizer = _modules()[1]
    with mock.patch.object(mock, "create_autospec", _stage):  # torch makes a stage of it
        rows = visualizer.get_schedule_ops(name, devices, microbatches, num_stages_per_rank=stages_per_device)
    return [list(_cells(row)) for row in rows]


def zero_bubble_of_one_stage(devices: int, microbatches: int) -> list[list[str]]:
    """Torch's class wants two stages on a device; the function that orders a device does not."""
    size = microbatches // max(1, microbatches // devices)
    schedule = SimpleNamespace(
        n_local_stages=1, microbatches_per_round=size, pp_group_size=devices, _n_microbatches=microbatches
    )
    order = _modules()[0].ScheduleInterleavedZeroBubble._calculate_single_rank_operations
    return [list(_cells(order(schedule, device))) for device in range(devices)]


def executed_1f1b(devices: int, microbatches: int) -> list[list[str]]:
    """What Schedule1F1B does with its stage, device by device."""
    schedules, _ = _modules()
    from torch.distributed.pipelining import PipelineStage

    rows: list[list[str]] = []
    for device in range(devices):
        row: list[str] = []
        stage = _stage(PipelineStage)
        stage.group_rank, stage.group_size = device, devices
        stage.stage_index, stage.num_stages, stage.submod, stage.is_last = device, devices, None, False
        for transfers in ("get_fwd_recv_ops", "get_fwd_send_ops", "get_bwd_recv_ops", "get_bwd_send_ops"):
            getattr(stage, transfers).return_value = []
        stage.forward_one_chunk.side_effect = lambda m, *_, d=device, r=row, **__: r.append(f"{d}F{m}")
        stage.backward_one_chunk.side_effect = lambda m, *_, d=device, r=row, **__: r.append(f"{d}B{m}")
        schedule = schedules.Schedule1F1B(stage, microbatches)
        with mock.patch.object(schedule, "_initialize_stage"):  # it would look at devices and shapes
            schedule._step_microbatches([()] * microbatches, [{}] * microbatches)
        rows.append(row)
    return rows


def is_accepted(text: str, stages: int, microbatches: int) -> bool:
    """Whether torch reads the text as a compute-only table and its validator passes it."""
    schedules, _ = _modules()
    try:
        read = list(csv.reader(io.StringIO(text, newline="")))
        table = {device: [schedules._Action.from_str(cell) for cell in row] for device, row in enumerate(read)}
        cells = [action for row in table.values() for action in row if action is not None]
        if not all(action.is_compute_op for action in cells):
            return False
        schedules._validate_schedule(table, len(table), stages, microbatches)
    except (AssertionError, KeyError, RuntimeError, csv.Error):
        return False
    return True


def loaded_from_csv(path: str, stages: int, microbatches: int, devices: int) -> list[list[str]]:
    """The rows as torch's runtime loads and lowers them; it raises for what it cannot run."""
    schedules, _ = _modules()
    from torch.distributed.pipelining import PipelineStage

    stage = _stage(PipelineStage)
    stage.group_rank, stage.group_size, stage.submod, stage.num_stages = 0, devices, None, stages
    runtime = schedules._PipelineScheduleRuntime([stage] * 2, microbatches)
    runtime.pipeline_order = {}
    runtime._load_csv(path, format="compute_only")
    return [list(_cells(runtime.pipeline_order_with_comms[device])) for device in range(devices)]
