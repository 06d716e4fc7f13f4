"""What a log says of a training besides its actions: fingerprints of schedule, model, parameters and random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import nn

from asyncpipe.ir import Program
from asyncpipe.runtime.optimizers import OptimizerSpec

__all__ = ["Header", "fingerprint", "log_header", "random_state"]

Header = Callable[[], Mapping[str, str]]
"""Gives the header of a log, once the model has been cut into stages."""


def log_header(
    program: Program, modules: Sequence[nn.Module], optimizer: OptimizerSpec, backend: str, threads: int
) -> dict[str, str]:
    """What a log says of a training; `program` is the endless one."""
    return {
        "schedule": program.schedule,
        "program": _digest(str(program).encode()),
        "model": _digest(*(_shapes(module) for module in modules)),
        "optimizer": _optimizer_words(optimizer),
        "stages": str(program.stages),
        "replicas": str(program.replicas),
        "backend": backend,
        "seed": str(torch.initial_seed()),
        "intra_op_threads": str(threads),
        "torch": torch.__version__,
    }


def _optimizer_words(spec: OptimizerSpec) -> str:
    name = spec.use if isinstance(spec.use, str) else spec.use.__qualname__
    return " ".join([name, f"lr={spec.lr}", *(f"{option}={value}" for option, value in spec.options.items())])


def fingerprint(model: nn.Module) -> str:
    """Of all parameters and buffers, names and bits: running statistics race too, and evaluation reads them."""
    return _digest(*(_bits(name, each) for name, each in chain(model.named_parameters(), model.named_buffers())))


def _bits(name: str, tensor: torch.Tensor) -> bytes:
    return name.encode() + tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _shapes(module: nn.Module) -> bytes:
    return "".join(f"{name} {tuple(p.shape)} {p.dtype}\n" for name, p in module.named_parameters()).encode()


def random_state() -> str:
    """Of torch's global generator."""
    return _digest(torch.get_rng_state().numpy().tobytes())


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]
