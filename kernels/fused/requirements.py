"""Which tensors an update needs, and of which kind: everything that is wrong, in one error."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers, Counters, States
from asyncpipe.kernels.fused.checks import FLOATS, problem_of
from asyncpipe.kernels.fused.device.rules import Rule
from asyncpipe.kernels.fused.options import FLAGS, Options
from asyncpipe.kernels.fused.scalars import SCALARS, Scalars

__all__ = ["compute_dtype", "require_tensors"]

COUNTERS = {
    "step": (torch.int64, 1),
    "ticket": (torch.int32, 1),
    "product": (torch.float64, 1),
    "version": (torch.int64, 1),
    "reads": (torch.int64, None),
    "histogram": (torch.int64, None),
    "norm": (torch.float64, 1),
    "seed": (torch.int64, 1),
}
"""dtype and length of each."""


def compute_dtype(weights: Tensor) -> torch.dtype:
    """Double precision for double weights, else single."""
    return torch.float64 if weights.dtype == torch.float64 else torch.float32


def require_tensors(
    rule: Rule, options: Options, buffers: Buffers, states: States, counters: Counters, scalars: Scalars
) -> None:
    """ValueError that lists every tensor that is missing, misplaced or of the wrong kind."""
    problems = [
        *_buffer_problems(buffers),
        *_state_problems(rule, options, states, buffers),
        *_counter_problems(counters, buffers.weights.device),
        *problem_of("scalars", scalars.tensor, len(SCALARS), buffers.weights.device, (torch.float64,)),
        *(text for wrong, text in _missing(rule, options, buffers, counters) if wrong),
    ]
    if problems:
        raise ValueError("; ".join(problems))


def _buffer_problems(buffers: Buffers) -> Iterator[str]:
    weights = buffers.weights
    dtypes = dict.fromkeys(Buffers._fields, FLOATS) | {
        "master": (torch.float32,),
        "drift": (compute_dtype(weights),),
    }
    for name, tensor in buffers._asdict().items():
        if tensor is not None:
            yield from problem_of(name, tensor, weights.numel(), weights.device, dtypes[name])
    if buffers.master is not None and weights.element_size() != 2:
        yield f"master: only weights of two bytes have one, found {weights.dtype}"


def _state_problems(rule: Rule, options: Options, states: States, buffers: Buffers) -> Iterator[str]:
    weights = buffers.weights
    needed = {name: flag is None or getattr(options, flag) for name, flag in rule.states.items()}
    for (name, is_needed), tensor in zip(needed.items(), states, strict=False):
        if is_needed and tensor is None:
            yield f"{name}: this rule needs it"
        elif tensor is not None:
            yield from problem_of(name, tensor, weights.numel(), weights.device, FLOATS)


def _counter_problems(counters: Counters, device: torch.device) -> Iterator[str]:
    for name, tensor in counters._asdict().items():
        dtype, length = COUNTERS[name]
        if tensor is not None:
            yield from problem_of(name, tensor, length or max(1, tensor.numel()), device, (dtype,), alignment=1)


def _missing(rule: Rule, options: Options, buffers: Buffers, counters: Counters) -> Iterator[tuple[bool, str]]:
    stochastic = options.rounding == "stochastic"
    added = buffers.weights if buffers.master is None else buffers.master
    for flag in FLAGS:
        yield getattr(options, flag) and flag not in rule.flags, f"{flag}: this rule has no such option"
    yield rule.product and counters.product is None, "product: this rule needs it, float64 that starts at 1"
    yield "delay_compensation" in options.transforms and buffers.read is None, "read: delay compensation needs it"
    yield stochastic and counters.seed is None, "seed: stochastic rounding needs it"
    yield (
        stochastic and (buffers.weights.dtype != torch.bfloat16 or buffers.master is not None or options.atomic),
        "stochastic rounding is for bfloat16 weights that are stored, without a master copy",
    )
    yield (
        options.atomic and added.element_size() < 4,
        f"atomic: expected weights or a master copy in float32 or float64, found {added.dtype}",
    )
    yield (
        buffers.private is not None and buffers.master is not None,
        "master: nothing reads it beside private weights; make these float32 instead",
    )
    yield counters.reads is not None and counters.version is None, "version: staleness is measured against it"
    yield counters.histogram is not None and counters.reads is None, "reads: the histogram counts what they say"
    yield buffers.corrected is not None and buffers.drift is None, "drift: the corrected weights need it"
