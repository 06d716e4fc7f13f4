"""The one profile that all settings are planned from: what each layer costs, alone, by intra-op threads.

The model is trained synchronously twice for each number of threads: cut at every layer, and as one stage. What the
layers take more than the whole is what a cut costs, so that any cut can be planned. How much slower actions are beside
others is seen in one run of the file's own setting.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import torch

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.ir import Op, Program, TimedRun
from asyncpipe.models.measure import measure_layers
from asyncpipe.runtime.backends import CUDA_BACKENDS, default_threads
from asyncpipe.runtime.threads import usable_cores, worker_count
from asyncpipe.tools.tune.bench import Bench, prepare
from asyncpipe.tools.tune.candidate import SYNCHRONOUS
from asyncpipe.tools.tune.inputs import job_overrides
from asyncpipe.tools.tune.neighbours import Neighbours
from asyncpipe.tools.tune.request import Request

__all__ = ["measure_costs", "op_seconds"]

Seconds = dict[str, list[float]]
"""By op, one time for each stage."""


def measure_costs(request: Request) -> dict[str, Any]:
    """`layers` with their counts, `alone`: their times by threads, and what was seen of the file's own setting."""
    most = torch.get_num_threads()
    with Neighbours() as neighbours:
        found = _timed_layers(request)
    machine = {"cores": usable_cores(), "most_threads": most, "multiprocessors": _multiprocessors(request)}
    return {**found, **machine, "others": neighbours.others}


def _timed_layers(request: Request) -> dict[str, Any]:
    own = _own(request)
    counts = set(request.thread_counts)
    if counts and request.backend not in CUDA_BACKENDS:
        counts.add(own["threads"])
    alone = {str(threads): _alone(request, threads, own["splits"]) for threads in sorted(counts)}
    return {**own, "alone": alone}


def _multiprocessors(request: Request) -> int:
    if request.backend not in CUDA_BACKENDS:
        return 0
    return torch.cuda.get_device_properties(0).multi_processor_count


def _own(request: Request) -> dict[str, Any]:
    """The file's setting as it is: its layers, its cut, its times beside each other."""
    bench = prepare(request, request.schedule, request.overrides, request.threads)
    sample, _ = next(bench.supply())
    trainer = bench.trainer
    program = trainer.prepare(sample).program()
    layers = [layer for part in trainer.cut for layer in part]
    counts = measure_layers([module for _, module in layers], sample, [name for name, _ in layers])
    threads = trainer.intra_op_threads or default_threads(request.backend, program)
    streams = len(program.streams) * program.replicas
    return {
        "layers": [asdict(cost) for cost in counts],
        "input_bytes": sample.nbytes,
        "batch": bench.batches.batch,
        "cut": [len(part) for part in trainer.cut],
        "threads": threads,
        "workers": worker_count(streams, threads),
        "splits": _splits(program),
        "together": None if request.backend in CUDA_BACKENDS else op_seconds(_timed(request, bench)),
    }


def _splits(program: Program) -> bool:
    """Whether backwards are split into input and weight gradients."""
    return any(Op.I in stream.runs for stream in program.streams)


def _alone(request: Request, threads: int, splits: bool) -> dict[str, Any]:
    """Times of a synchronous training on one stream: of each layer, and of the whole as one stage."""
    plain = replace(request, stages=None)
    overrides = (*job_overrides(request.overrides), *(_SPLIT if splits else ()))
    whole = prepare(plain, SYNCHRONOUS, (*overrides, "stages=1"), threads)
    if request.backend in CUDA_BACKENDS:
        return {"whole_s": whole.warm_up(request.warm_up), "layers": None, "whole": None, "hand_over": 0.0}
    found = op_seconds(_timed(request, whole))
    try:
        run = _timed(request, prepare(plain, SYNCHRONOUS, (*overrides, "stages=layers"), threads))
    except (UsageError, UserCodeError):
        # Weights that several layers share, or what they hand to each other, keep them in one stage.
        return {"layers": None, "whole": found, "hand_over": 0.0}
    return {"layers": op_seconds(run), "whole": found, "hand_over": _hand_over(run)}


_SPLIT = ("streams.main.runs=[F, I, W, U]",)


def _timed(request: Request, bench: Bench) -> TimedRun:
    return bench.timed(bench.enough(request.seconds, request.warm_up))


def op_seconds(run: TimedRun) -> Seconds:
    """The median time of each op at each stage; 0 where a stage does not run it."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in run.actions:
        found[row.action.op.value][row.action.stage].append(row.seconds)
    stages = range(run.program.stages)
    return {op: [median(by_stage[s]) if s in by_stage else 0.0 for s in stages] for op, by_stage in found.items()}


def _hand_over(run: TimedRun) -> float:
    """The median seconds from the end of an action to the next one on the same worker."""
    last: dict[int, float] = {}
    gaps = []
    for row in run.actions:
        if row.worker in last:
            gaps.append(row.begin - last[row.worker])
        last[row.worker] = row.end
    return median(gaps) if gaps else 0.0
