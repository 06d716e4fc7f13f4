"""Bytes of each stage, from the layers of the job."""

from __future__ import annotations

from asyncpipe.analysis.memory import StageSizes
from asyncpipe.cli.instance import JobLayers
from asyncpipe.schedule import Schedule
from asyncpipe.staging import cut_stages

__all__ = ["stage_sizes"]


def stage_sizes(layers: JobLayers | None, schedule: Schedule, asked: int | None) -> tuple[StageSizes, ...] | None:
    """The sizes for one microbatch of the job's batch; None where the layers are not known.

    Activations are the outputs of the layers; what autograd keeps besides is not known here.
    """
    if layers is None:
        return None
    entering = layers.input_bytes
    sizes = []
    for part in cut_stages(schedule, asked, len(layers.costs), lambda: layers.costs):
        own = [layers.costs[i] for i in part]
        kept = sum(layer.activation_bytes for layer in own)
        sizes.append(StageSizes(sum(layer.parameter_bytes for layer in own), entering, kept))
        entering = own[-1].activation_bytes
    return tuple(sizes)
