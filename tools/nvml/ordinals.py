"""Which GPU is cuda:0: CUDA numbers devices by its own variables, NVML by PCI bus; only the UUID is the same."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asyncpipe.tools.nvml.readings import Reading, Unavailable

__all__ = ["ListedGpu", "uuids_from_cuda", "uuids_from_environment"]

_UNKNOWN_ORDER = Unavailable(
    "CUDA orders GPUs of different kinds by speed: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or ask after CUDA has started"
)


@dataclass(frozen=True)
class ListedGpu:
    """A GPU as NVML lists it, in the order of PCI bus numbers; `instances` are the UUIDs of its MIG instances."""

    uuid: str
    name: str
    instances: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """What CUDA makes of it: the GPU, or the first of its instances (it uses one in a process)."""
        return self.instances[0] if self.instances else self.uuid


def uuids_from_cuda() -> list[str] | None:
    """The UUIDs of torch's devices in its order; None where CUDA has not started in this process, or does not answer.

    CUDA is not started here: that takes seconds and hundreds of megabytes on each GPU.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    try:
        return [str(torch.cuda.get_device_properties(ordinal).uuid) for ordinal in range(torch.cuda.device_count())]
    except RuntimeError:  # an error that CUDA keeps: every call fails from then on
        return None


def uuids_from_environment(
    listed: Sequence[ListedGpu], environment: Mapping[str, str] = os.environ
) -> list[Reading[str]]:
    """The UUIDs of CUDA's devices as its two variables say.

    CUDA_VISIBLE_DEVICES: numbers, or beginnings of UUIDs; the first that names no GPU ends the list, a repeated one
    empties it. CUDA_DEVICE_ORDER says what the numbers mean: PCI_BUS_ID, or, by default, the fastest first.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    numbered = _numbered(listed, environment.get("CUDA_DEVICE_ORDER", "FASTEST_FIRST"))
    if visible is None:
        return numbered
    found: list[Reading[str]] = []
    named: list[str | int] = []
    for entry in visible.split(","):
        key = _key(entry.strip(), listed)
        if key is None or (isinstance(key, int) and key >= len(numbered)):
            break
        if key in named:
            return []
        named.append(key)
        found.append(numbered[key] if isinstance(key, int) else key)
    return found


def _numbered(listed: Sequence[ListedGpu], order: str) -> list[Reading[str]]:
    """Device n of CUDA, were all visible."""
    if order == "PCI_BUS_ID" or len({gpu.name for gpu in listed}) < 2:
        return [gpu.device for gpu in listed]
    return [_UNKNOWN_ORDER] * len(listed)


def _key(entry: str, listed: Sequence[ListedGpu]) -> str | int | None:
    """A number, the UUID that begins so, or None where the entry names nothing, or more than one."""
    if number := re.match(r"\+?\d+", entry):
        return int(number[0])
    uuids = [gpu.device for gpu in listed if gpu.uuid.startswith(entry)]
    uuids += [uuid for gpu in listed for uuid in gpu.instances if uuid.startswith(entry)]
    return uuids[0] if len(uuids) == 1 and entry.startswith(("GPU-", "MIG-")) else None
