"""Streams with SMs of their own: green contexts of the CUDA driver (12.4 and newer), by NVIDIA's cuda-bindings.

torch.cuda.GreenContext splits the device anew at each call, so that two of them overlap (pytorch#195378): here one
split serves all streams of a device. A node of a captured graph keeps the context of its stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch

from asyncpipe.errors import Diagnostic, MachineError
from asyncpipe.runtime.cuda.shares import Granularity, Share, require_shares, smallest_groups

__all__ = ["shared_out"]

_STEPS = {7: (2, 2), 8: (4, 2)}
"""(least, step) by the major compute capability where the driver does not tell; 8 and 8 for newer ones."""


def shared_out(device: int, shares: Sequence[Share]) -> list[torch.cuda.ExternalStream]:
    """One stream for each share. MachineError where the device, the driver or Python's bindings cannot."""
    driver = _bindings()
    torch.zeros(1, device=torch.device("cuda", device))  # the primary context comes first
    (handle,) = _checked(driver, driver.cuDeviceGet(device))
    kind = driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
    (whole,) = _checked(driver, driver.cuDeviceGetDevResource(handle, kind))
    of = _granularity(device, whole.sm)
    require_shares(device, shares, of)
    groups, _, rest = _checked(driver, driver.cuDevSmResourceSplitByCount(of.total // of.step, whole, 0, of.step))
    found: dict[tuple[int, ...], Any] = {}
    streams = []
    for share, chosen in zip(shares, smallest_groups(shares, of), strict=True):
        key = tuple(chosen)
        if key not in found:
            parts = [groups[i] for i in chosen] + ([] if share.sms else _same_kind(rest, groups))
            found[key] = _context(driver, handle, parts)
        streams.append(_stream(driver, found[key], share.priority, device))
    return streams


def _bindings() -> Any:
    try:
        driver = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise _unavailable(f"the package cuda-bindings is missing ({error})", "pip install cuda-bindings") from error
    if not hasattr(driver, "cuDevSmResourceSplitByCount"):
        raise _unavailable("this cuda-bindings is older than CUDA 12.4", "pip install --upgrade cuda-bindings")
    return driver


def _unavailable(reason: str, hint: str) -> MachineError:
    hint = f"{hint}, or leave `sms` out: streams then share all SMs"
    return MachineError.of(Diagnostic("AP705", f"streams with `sms` need green contexts: {reason}", hint=hint))


def _checked(driver: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call of the driver gave besides its status."""
    status, *results = answer
    if status != driver.CUresult.CUDA_SUCCESS:
        raise _unavailable(f"the driver says {status.name}", "update the driver (580 or newer)")
    return tuple(results)


def _granularity(device: int, sm: Any) -> Granularity:
    least, step = _STEPS.get(torch.cuda.get_device_capability(device)[0], (8, 8))
    told = getattr(sm, "minSmPartitionSize", 0), getattr(sm, "smCoscheduledAlignment", 0)
    return Granularity(sm.smCount, told[0] or least, told[1] or step)


def _same_kind(rest: Any, groups: Sequence[Any]) -> list[Any]:
    """What the split left over, if it may be joined with groups."""
    alike = getattr(rest.sm, "smCoscheduledAlignment", 0) == getattr(groups[0].sm, "smCoscheduledAlignment", 0)
    return [rest] if rest.sm.smCount and alike else []


def _context(driver: Any, device: Any, parts: list[Any]) -> Any:
    (description,) = _checked(driver, driver.cuDevResourceGenerateDesc(parts, len(parts)))
    flags = driver.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM.value
    (context,) = _checked(driver, driver.cuGreenCtxCreate(description, device, flags))
    return context


def _stream(driver: Any, context: Any, priority: int, device: int) -> torch.cuda.ExternalStream:
    """Neither is ever destroyed: like torch's own streams they live as long as the process."""
    flags = driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value
    (made,) = _checked(driver, driver.cuGreenCtxStreamCreate(context, flags, priority))
    stream = torch.cuda.ExternalStream(int(made), device=torch.device("cuda", device))
    _KEPT.append((context, made))
    return stream


_KEPT: list[Any] = []
"""Handles that torch's streams stand for."""
