"""What the GPU did while a run was measured, and that in lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from asyncpipe.tools.nvml import Nvml, Sampler, open_nvml

__all__ = ["gpu_lines", "watched_gpu"]

_SHARES = {
    "utilization": "any kernel",
    "sm_activity": "SMs",
    "sm_occupancy": "occupancy",
    "tensor_activity": "tensor",
    "dram_activity": "DRAM",
}
_VALUES = {
    "memory_used_bytes": (2**30, "GiB"),
    "power_watts": (1.0, "W"),
    "sm_clock_mhz": (1.0, "MHz"),
    "temperature_celsius": (1.0, "C"),
}


@contextmanager
def watched_gpu(ordinal: int, connect: Callable[[], Nvml] = open_nvml) -> Iterator[Callable[[int], dict[str, Any]]]:
    """Looks at cuda:`ordinal` while the block runs; what it yields gives the readings then, for so many samples.

    Every reading is null with its reason where it cannot be had; `sampler` is what looking cost.
    """
    with connect() as nvml, Sampler(nvml.gpu(ordinal)) as sampler:
        yield lambda samples: {**sampler.window().document(samples), "sampler": sampler.cost.document()}


def gpu_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of each line, from such readings: means, and why others are missing."""
    shares = [f"{words} {found[key]['mean']:.0%}" for key, words in _SHARES.items() if found.get(key)]
    if shares:
        yield "gpu busy", ", ".join(shares)
    values = [f"{found[key]['mean'] / scale:.3g} {unit}" for key, (scale, unit) in _VALUES.items() if found.get(key)]
    if found.get("energy_per_sample_joules") is not None:
        values.append(f"{found['energy_per_sample_joules']:.3g} J for each sample")
    if values:
        yield "gpu", ", ".join(values)
    if found.get("throttled"):
        reasons = ", ".join(found.get("throttle_reasons") or {})
        yield "throttled", f"{found['throttled']:.0%} of the looks: {reasons}"
    missing: dict[str, list[str]] = {}
    for name, reason in found.get("unavailable", {}).items():
        missing.setdefault(reason, []).append(name)
    for reason, names in missing.items():
        yield "gpu", f"{', '.join(names)}: not known: {reason}"
    cost = found["sampler"]
    yield "sampler", f"{cost['snapshots']} looks, {cost['share']:.2%} of the time"
