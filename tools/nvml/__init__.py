"""NVML behind one small interface: what GPUs do while a program runs.

    with open_nvml() as nvml, Sampler(nvml.gpu(0)) as sampler:
        train()
    sampler.window().document(samples=12_800)   # means, quantiles, energy per sample, throttling
    sampler.cost.document()                     # what the looks cost

Without NVML, or without a GPU, the same lines run: every reading is `Unavailable` with its reason, and one warning
says so.
"""

from __future__ import annotations

from asyncpipe.tools.nvml.driver import open_nvml
from asyncpipe.tools.nvml.interface import Gpu, MissingGpu, MissingNvml, Nvml
from asyncpipe.tools.nvml.readings import (
    GpuDescription,
    GpuProcess,
    GpuSnapshot,
    Reading,
    Unavailable,
    available,
)
from asyncpipe.tools.nvml.sampler import Polling, Sampler, SamplerCost, warn_on_stderr
from asyncpipe.tools.nvml.statistics import GpuWindow, Quantiles, summarize

__all__ = [
    "Gpu",
    "GpuDescription",
    "GpuProcess",
    "GpuSnapshot",
    "GpuWindow",
    "MissingGpu",
    "MissingNvml",
    "Nvml",
    "Polling",
    "Quantiles",
    "Reading",
    "Sampler",
    "SamplerCost",
    "Unavailable",
    "available",
    "open_nvml",
    "summarize",
    "warn_on_stderr",
]
