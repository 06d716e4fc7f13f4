"""What torch says of itself and of the GPUs."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from importlib import metadata
from itertools import combinations
from typing import Any

from asyncpipe.tools.doctor.environment import CudaDevice, Torch
from asyncpipe.tools.nvml import Unavailable

__all__ = ["gather_torch", "triton_needed_by"]


def gather_torch() -> Torch | Unavailable:
    """Import torch and ask it; the reason where that fails, in whatever way."""
    try:
        import torch
    except Exception as error:  # a missing library is an OSError, a wrong build may raise anything
        return Unavailable(f"{type(error).__name__}: {error}")
    problem = _cuda_problem(torch)
    base = Torch(
        version=str(torch.__version__),
        cuda=torch.version.cuda,
        intra_op_threads=torch.get_num_threads(),
        cuda_problem=problem,
        triton_needed=triton_needed_by(_requirements("torch")),
    )
    return base if problem else _with_devices(base, torch)


def _cuda_problem(torch: Any) -> str:
    """Why torch finds no GPU: it only warns of a driver that is too old."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                torch.cuda.init()
                return ""
        except RuntimeError as error:
            return _first_line(error)
    return _first_line(caught[0].message) if caught else "it finds none"


def _with_devices(base: Torch, torch: Any) -> Torch:
    count = torch.cuda.device_count()
    properties = [torch.cuda.get_device_properties(ordinal) for ordinal in range(count)]
    pairs = [pair for pair in combinations(range(count), 2) if not torch.cuda.can_device_access_peer(*pair)]
    return replace(
        base,
        devices=tuple(CudaDevice(each.name, (each.major, each.minor), each.total_memory) for each in properties),
        architectures=tuple(torch.cuda.get_arch_list()),
        without_peer_access=tuple(pairs),
    )


def _requirements(distribution: str) -> list[str]:
    """None of a torch that was built in place, without metadata."""
    try:
        return metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []


def triton_needed_by(requirements: list[str]) -> str | None:
    """3.9.0 of `triton==3.9.0; platform_system == "Linux"`; builds for the CPU ask for none."""
    found = (re.match(r"triton\s*==\s*([\w.]+)", requirement) for requirement in requirements)
    return next((match[1] for match in found if match), None)


def _first_line(message: object) -> str:
    return str(message).partition("\n")[0].rstrip(".")
