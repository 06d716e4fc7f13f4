"""Bytes of each stage, from the job's static description."""

from __future__ import annotations

from math import prod

from asyncpipe.analysis.memory import StageSizes
from asyncpipe.cli.instance import check_job
from asyncpipe.data.catalog import data_shape
from asyncpipe.errors import Report
from asyncpipe.models.describe import FLOAT_BYTES
from asyncpipe.schedule import Schedule
from asyncpipe.schedule.job import JobSpec
from asyncpipe.staging import cut_stages

__all__ = ["stage_sizes"]

_ID_BYTES = 8


def stage_sizes(job: JobSpec | None, schedule: Schedule, asked: int | None) -> tuple[StageSizes, ...] | None:
    """The sizes for one microbatch of the job's batch; None without a job, or where its model is the author's code.

    Activations are the outputs of the layers; what autograd keeps besides is not known here.
    """
    layers = check_job(job, Report()) if job else None
    if job is None or layers is None:
        return None
    data = data_shape(job.data.use, job.data.options)
    entering = (FLOAT_BYTES if data.vocabulary is None else _ID_BYTES) * job.train.batch * prod(data.sample_shape)
    sizes = []
    for part in cut_stages(schedule, asked, len(layers), lambda: layers):
        own = [layers[i] for i in part]
        kept = sum(layer.activation_bytes for layer in own)
        sizes.append(StageSizes(sum(layer.parameter_bytes for layer in own), entering, kept))
        entering = own[-1].activation_bytes
    return tuple(sizes)
