"""A rule of one's own is two functions of Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.device.memory import load, store
from asyncpipe.kernels.fused.device.rules import Rule
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.scalars import BETA2, EPS
from tests.kernels.fused.memory import Memory, relative_error


@triton.jit
def rmsprop_coefficients(  # type: ignore[no-untyped-def]
    scalars, step, product, OPTIONS: tl.constexpr, COMPUTE: tl.constexpr
):
    beta = tl.load(scalars + BETA2)
    return beta.to(COMPUTE), (1.0 - beta).to(COMPUTE), tl.load(scalars + EPS).to(COMPUTE)


@triton.jit
def rmsprop(  # type: ignore[no-untyped-def]
    states, at, mask, g, w, coefficients, OPTIONS: tl.constexpr, MASKED: tl.constexpr
):
    beta, rest, eps = coefficients
    v = beta * load(states.first, at, mask, MASKED).to(g.dtype) + rest * g * g
    store(states.first, at, v, mask, MASKED)
    direction = g / (tl.sqrt(v) + eps)
    return direction, direction


RMSPROP = Rule(rmsprop_coefficients, rmsprop, {"square_avg": None})


def test_a_rule_of_ones_own_is_run_with_every_option(memory: Memory) -> None:
    parameter = torch.nn.Parameter(torch.randn(100))
    weights, peer = memory.place(parameter.detach()), memory.poison(100)
    optimizer = torch.optim.RMSprop([parameter], lr=0.1, alpha=0.9, eps=1e-3, weight_decay=0.1)
    options = Options(decay="coupled", transforms=("clip_norm",))
    numbers = {"lr": 0.1, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "clip_norm": 1.0}
    update = memory.update(RMSPROP, options, numbers, Buffers(weights, peer=peer))
    for _ in range(5):
        parameter.grad = torch.randn(100)
        update.flat(memory.place(parameter.grad))
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        optimizer.step()
    assert relative_error(weights, parameter.detach()) <= 1e-6
    assert torch.equal(peer, weights)
