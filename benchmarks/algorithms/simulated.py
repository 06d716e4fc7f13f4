"""What the simulator says of a schedule in the steady state: speed and memory, relative to plain SGD."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from job import Job, microbatch_size
from observed import STAGES

from asyncpipe.analysis.memory import StageSizes, memory
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing
from asyncpipe.api import simulate
from asyncpipe.compiler import compile_schedule
from asyncpipe.ir import Op
from asyncpipe.models.measure import measure_layers
from asyncpipe.models.modules import split_layers
from asyncpipe.schedule import Schedule
from asyncpipe.staging import cut_stages

__all__ = ["Simulated", "simulated"]

_COMPUTE = {Op.F, Op.B, Op.I, Op.W, Op.R}


@dataclass(frozen=True)
class Simulated:
    """`speed`: microbatches per time that SGD on one stream takes for one; `streams`: that compute, of all replicas.

    `activations` and `weights`: bytes of the whole system, the sum of what its devices hold at most.
    """

    streams: int
    devices: int
    speed: float
    activations: int
    weights: int


def simulated(schedule: Schedule, job: Job) -> Simulated:
    size = microbatch_size(schedule)
    program = compile_schedule(schedule, STAGES).program()
    held = memory(run_steady(program, Timing()), stage_sizes(schedule, job, size)).devices
    step = 3 * sum(program.costs[Op.F]) * program.unit
    return Simulated(
        streams=program.replicas * sum(bool(_COMPUTE & set(stream.runs)) for stream in program.streams),
        devices=program.replicas * len({stream.device for stream in program.streams}),
        speed=float(simulate(program).throughput * step),
        activations=program.replicas * sum(device.activations for device in held),
        weights=program.replicas * sum(device.parameters for device in held),
    )


def stage_sizes(schedule: Schedule, job: Job, size: int) -> tuple[StageSizes, ...]:
    """Bytes for a microbatch of `size` samples. Activations are the outputs of layers, as `check --memory` counts."""
    layers = split_layers(job.model(0))
    sample = torch.zeros(size, *job.train.inputs.shape[1:])
    costs = measure_layers([layer for _, layer in layers], sample, [name for name, _ in layers])
    entering, sizes = sample.nbytes, []
    for part in cut_stages(schedule, STAGES, len(layers), lambda: costs):
        own = [costs[i] for i in part]
        sizes.append(StageSizes(sum(c.parameter_bytes for c in own), entering, sum(c.activation_bytes for c in own)))
        entering = own[-1].activation_bytes
    return tuple(sizes)
