"""Who takes part in which row, under which letter, and what each needs."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.tools.bench.contender import Contender
from asyncpipe.tools.bench.eager import all_cores, compiled, compiled_loss, eager
from asyncpipe.tools.bench.jax_step import jax_step, refusal_of
from asyncpipe.tools.bench.ours import scheduled
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.threaded import HalfBatches, NaiveThreads

__all__ = ["CONTENDERS", "LARGER", "OTHER", "OURS", "PEER", "Kind", "contenders"]

PEER, OURS, OTHER = "peer", "ours", "other"
LARGER = 3
"""X trains on so many batches at once: as many as async-lu has in flight."""


@dataclass(frozen=True)
class Kind:
    """`role`: a peer counts for the best one; another one is shown beside them. sync: its losses are E's.

    letter: as in docs/tools.md. compile_seconds: about so long it compiles on a GPU. times: of the batch.
    """

    letter: str
    name: str
    make: Callable[[Problem], Contender]
    refusal: Callable[[Problem], str] = lambda problem: ""
    role: str = PEER
    sync: bool = True
    compile_seconds: int = 0
    times: int = 1


def needs_cuda(problem: Problem) -> str:
    return "" if problem.on_cuda else "needs CUDA"


def needs_cpu(problem: Problem) -> str:
    return "is for the CPU" if problem.on_cuda else ""


def needs_cores(problem: Problem) -> str:
    return needs_cpu(problem) or ("" if all_cores() > 1 else "needs two cores")


def needs_compiler(problem: Problem) -> str:
    """Inductor writes C++ for a CPU, and Triton for a GPU, whose launcher is C."""
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "needs a C++ compiler, none is on the PATH"
    if problem.on_cuda and importlib.util.find_spec("triton") is None:
        return "needs triton"
    return ""


def on_cuda_compiled(problem: Problem) -> str:
    return needs_cuda(problem) or needs_compiler(problem)


def on_cpu_compiled(problem: Problem) -> str:
    return needs_cpu(problem) or needs_compiler(problem)


def needs_halves(problem: Problem) -> str:
    """Two halves have two means and variances."""
    from torch import nn

    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in problem.model().modules()):
        return "would compute other batch norms"
    return needs_cores(problem)


def _compiled_on_all(problem: Problem) -> Contender:
    return compiled(problem, all_cores())


def _mode(mode: str) -> Callable[[Problem], Contender]:
    return lambda problem: compiled(problem, mode=mode)


def _graph(problem: Problem) -> Contender:
    from asyncpipe.tools.bench.captured import whole_step

    return whole_step(problem, device(), problem.loss)


def _inductor_graph(problem: Problem) -> Contender:
    from asyncpipe.tools.bench.captured import whole_step

    return whole_step(problem, device(), compiled_loss(problem, None))


def _sides(problem: Problem) -> Contender:
    from asyncpipe.tools.bench.side_streams import side_streams

    return side_streams(problem, device())


def device() -> Cuda:
    from asyncpipe.runtime.cuda.device import DeviceCuda

    return DeviceCuda()


def _larger(problem: Problem) -> Contender:
    larger = problem.enlarged(LARGER)
    return _graph(larger) if problem.on_cuda else eager(larger, all_cores())


def _ours(schedule: str, inductor: bool = False) -> Callable[[Problem], Contender]:
    return lambda p: scheduled(p, schedule, "graph" if p.on_cuda else "threads", inductor=inductor)


CONTENDERS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("E", "eager", eager, needs_cuda),
        Kind("E", "eager, 1 thread", partial(eager, threads=1), needs_cpu),
        Kind("E", "eager, all threads", lambda p: eager(p, all_cores()), needs_cores),
        Kind("C", "torch.compile, 1 thread", partial(compiled, threads=1), on_cpu_compiled, compile_seconds=20),
        Kind("C", "torch.compile, all threads", _compiled_on_all, on_cpu_compiled, compile_seconds=20),
        Kind("C", "torch.compile reduce-overhead", _mode("reduce-overhead"), on_cuda_compiled, compile_seconds=20),
        Kind("C", "torch.compile max-autotune", _mode("max-autotune"), on_cuda_compiled, compile_seconds=60),
        Kind("G", "CUDA graph", _graph, needs_cuda),
        Kind("CG", "CUDA graph of Inductor's kernels", _inductor_graph, on_cuda_compiled, compile_seconds=20),
        Kind("S", "CUDA graph, side streams", _sides, needs_cuda),
        Kind("H", "2 threads, half a batch each", HalfBatches, needs_halves),
        Kind("J", "jax.jit", jax_step, refusal_of, compile_seconds=15),
        Kind("T", "naive threads, 1 to 2", NaiveThreads, role=OTHER, sync=False),
        Kind("X", f"batch x {LARGER}", _larger, role=OTHER, sync=False, times=LARGER),
        Kind("", "asyncpipe sgd", _ours("sgd"), role=OURS),
        Kind("", "asyncpipe sgd-overlap", _ours("sgd-overlap"), needs_cuda, OURS),
        Kind("", "asyncpipe sgd, Inductor", _ours("sgd", True), on_cuda_compiled, OURS, compile_seconds=20),
        Kind("", "asyncpipe async-lu", _ours("async-lu"), role=OURS, sync=False),
        Kind("", "asyncpipe async-lu, Inductor", _ours("async-lu", True), on_cuda_compiled, OURS, False, 20),
    )
}  # fmt: skip
"""By name, in the order of the tables. Where a kind is refused without a word to say, it is for the other device."""


def contenders(names: tuple[str, ...] = ()) -> list[Kind]:
    """All, or those with these letters or names (or parts of names)."""
    return [
        kind
        for kind in CONTENDERS.values()
        if not names or any(name == kind.letter or (len(name) > 2 and name in kind.name) for name in names)
    ]
