"""What the kernels rely on: they see addresses only, and would read whatever lies there."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

__all__ = ["ALIGNMENT", "FLOATS", "is_dense", "problem_of"]

ALIGNMENT = 16
"""Bytes of the widest access; a tensor that starts elsewhere would fault, or be read element by element."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def problem_of(
    name: str,
    tensor: Tensor,
    length: int,
    device: torch.device,
    dtypes: Collection[torch.dtype],
    alignment: int = ALIGNMENT,
) -> Iterator[str]:
    """What is wrong with a tensor, if anything: expected, found, and what to do."""
    if tensor.dtype not in dtypes:
        yield f"{name}: expected {' or '.join(map(str, dtypes))}, found {tensor.dtype}"
    if tensor.device != device:
        yield f"{name}: expected a tensor on {device}, found one on {tensor.device}; move it there"
    if tensor.numel() != length:
        yield f"{name}: expected {length} elements, found {tensor.numel()}"
    if not is_dense(tensor):
        shape = f"shape {tuple(tensor.shape)} with strides {tensor.stride()}"
        yield f"{name}: expected memory without gaps, found {shape}; copy it with .contiguous()"
    behind = tensor.data_ptr() % alignment if tensor.numel() else 0
    if behind:
        unit = max(1, alignment // tensor.element_size())
        yield (
            f"{name}: expected memory that starts at a multiple of {alignment} bytes, found it {behind} bytes behind"
            f" one; cut views at multiples of {unit} elements, or copy it with .clone()"
        )


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one piece of memory, in whatever order of the dimensions."""
    order = sorted(range(tensor.dim()), key=lambda axis: (tensor.stride(axis), tensor.size(axis)), reverse=True)
    return tensor.permute(order).is_contiguous()
