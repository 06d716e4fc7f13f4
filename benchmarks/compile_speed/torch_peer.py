"""torch.distributed.pipelining's generator, validator, lowering and simulator, without a process group."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch.distributed.pipelining import schedules
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

from asyncpipe.tables.flat import FlatTable

__all__ = ["Rows", "as_torch", "construct", "generate", "lower", "simulate", "validate", "without_gaps"]

Rows = dict[int, list[Any]]


def generate(devices: int, stages: int, microbatches: int) -> Rows:
    """Interleaved 1F1B by the functions that order one device; no constructor, so nothing else is done."""
    schedule = object.__new__(schedules.ScheduleInterleaved1F1B)
    schedule.pp_group_size = devices
    schedule.n_local_stages = stages // devices
    schedule._n_microbatches = microbatches
    schedule.number_of_rounds = max(1, microbatches // devices)
    schedule.microbatches_per_round = microbatches // schedule.number_of_rounds
    return {device: schedule._calculate_single_rank_operations(device) for device in range(devices)}


def validate(rows: Rows, devices: int, stages: int, microbatches: int) -> None:
    schedules._validate_schedule(rows, devices, stages, microbatches)


def lower(rows: Rows, devices: int, stages: int) -> Rows:
    """With SEND and RECV; the lists are consumed."""
    return schedules._add_send_recv(rows, lambda stage: stage % devices, stages)


def simulate(rows: Rows, devices: int, stages: int) -> Rows:
    return schedules._simulate_comms_compute(rows, lambda stage: stage % devices, stages)


def construct(devices: int, stages: int, microbatches: int) -> None:
    """What a user calls: generates, validates and lowers, with UNSHARD, RESHARD and REDUCE_GRAD as well."""
    get_schedule_ops("Interleaved1F1B", devices, microbatches, num_stages_per_rank=stages // devices)


def as_torch(table: FlatTable) -> Rows:
    """The rows of a table of F and B as torch's actions."""
    kinds = (schedules._ComputationType.FORWARD, schedules._ComputationType.FULL_BACKWARD)
    cells = zip(table.stage.tolist(), table.op.tolist(), table.microbatch.tolist(), strict=True)
    actions = [schedules._Action(stage, kinds[op], microbatch) for stage, op, microbatch in cells]
    bounds = table.offsets.tolist()
    return {device: actions[a:b] for device, (a, b) in enumerate(pairwise(bounds))}


def without_gaps(rows: Rows) -> Rows:
    """The rows without the cells in which a device does nothing: they would only cost torch time."""
    return {device: [action for action in row if action is not None] for device, row in rows.items()}
