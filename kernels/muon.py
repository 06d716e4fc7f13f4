"""Muon, momentum made orthogonal (Jordan et al., kellerjordan.github.io/posts/muon), as torch.optim.Muon defines it."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asyncpipe.kernels.lists import scale

__all__ = ["is_matrix", "muon", "orthogonalize"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic: steep at 0, at the price that singular values end anywhere from about 0.7 to 1.2."""


def is_matrix(tensor: Tensor) -> bool:
    """Whether `muon` applies: to matrices, and to weights of 2-D convolutions as matrices (out, the rest)."""
    return tensor.ndim in (2, 4)


def muon(
    parameters: list[Tensor],
    gradients: list[Tensor],
    momentum_buffers: list[Tensor],
    steps: Sequence[int],
    *,
    lr: float | Tensor,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
    batched: bool = False,
) -> None:
    """Update `parameters`, each `is_matrix` and real; buffers start at zero, `steps` is not read. `lr` may be a tensor
    (), as a captured one is.

    `batched` makes matrices of one shape orthogonal together: three to five times as fast for many small ones, but
    oneDNN chooses other kernels for batches, and last bits differ at times. Without it the bits are those of
    torch.optim.Muon, except for bfloat16 without `nesterov`: torch 2.13 then divides the buffer by its norm.
    """
    if not parameters:
        return
    torch._foreach_lerp_(momentum_buffers, gradients, 1 - momentum)
    ahead = torch._foreach_lerp(gradients, momentum_buffers, momentum) if nesterov else momentum_buffers
    matrices = [direction.flatten(1).bfloat16() for direction in ahead]
    solve = functools.partial(orthogonalize, coefficients=ns_coefficients, steps=ns_steps, eps=eps)
    updates = _in_stacks(matrices, solve) if batched else [solve(matrix) for matrix in matrices]
    scale(parameters, 1 - lr * weight_decay)
    for parameter, update in zip(parameters, updates, strict=True):
        _move(parameter, update.reshape(parameter.shape), lr * _rate_ratio(update, adjust_lr_fn))


def _move(parameter: Tensor, update: Tensor, rate: float | Tensor) -> None:
    if isinstance(rate, Tensor):
        parameter.addcmul_(update.to(parameter.dtype), rate.to(parameter.dtype), value=-1)
    else:
        parameter.add_(update, alpha=-rate)


def orthogonalize(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """About U V' for U S V' (rows, columns), or for each of a stack (n, rows, columns), by Newton-Schulz steps."""
    a, b, c = coefficients
    multiply_add = torch.addmm if matrices.ndim == 2 else torch.baddbmm
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        # torch 2.13 reads uninitialized memory in a baddbmm of bfloat16 with an alpha of 0 (oneDNN).
        polynomial = multiply_add(gram, gram, gram, beta=b, alpha=c) if c != 0 else b * gram
        x = multiply_add(x, polynomial, x, beta=a)
    return x.mT if tall else x


def _in_stacks(matrices: list[Tensor], solve: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """`solve` called once for all matrices of a shape; the results in the order of `matrices`."""
    positions: defaultdict[torch.Size, list[int]] = defaultdict(list)
    for i, matrix in enumerate(matrices):
        positions[matrix.shape].append(i)
    solved: dict[int, Tensor] = {}
    for chosen in positions.values():
        solved.update(zip(chosen, solve(torch.stack([matrices[i] for i in chosen])), strict=True))
    return [solved[i] for i in range(len(matrices))]


def _rate_ratio(matrix: Tensor, adjust_lr_fn: str | None) -> float:
    """Jordan's factor, or the one of Liu et al. (arXiv 2502.16982, eq. 4), whose updates are as large as AdamW's."""
    rows, columns = matrix.shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / max(1, columns)))
