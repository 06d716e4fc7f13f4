"""8. The device's clock: how fine it is, what a stamp costs in a graph, and whether GPM metrics can be read."""

from __future__ import annotations

import ctypes
import importlib
import itertools
import math
import statistics
import time
from typing import Any

import torch
from device_code import stamp
from measuring import Values, attempt, capture, seconds, spread

EXPECTED = "steps of 1 us or finer (32 ns?); about 2 us for a stamp in a chain; GPM works, or says that it does not"
STAMPS = 1000
GPM_SECONDS = 0.25
"""Between two samples: longer than the shortest that the metrics allow."""
METRICS = {"sm_util": 2, "sm_occupancy": 3, "any_tensor_util": 5, "dram_bandwidth_util": 10}
"""NVML_GPM_METRIC_*, percent."""


def run() -> Values:
    return {"stamps": attempt(_stamps), "events": attempt(_events), "gpm": attempt(_gpm)}


def _stamps() -> Values:
    """A chain of stamps in one graph."""
    times = torch.zeros(STAMPS, dtype=torch.int64, device="cuda")

    def chain() -> None:
        for at in range(STAMPS):
            stamp[(1,)](times, at, num_warps=1, enable_fp_fusion=False)

    graph = capture(chain)
    graph.replay()
    torch.cuda.synchronize()
    values = times.tolist()
    steps = [after - before for before, after in itertools.pairwise(values)]
    moved = [step for step in steps if step > 0]
    taken = seconds({"chain": graph.replay}, rounds=9)["chain"]
    return {
        "backwards": sum(step < 0 for step in steps),
        "equal_neighbours": sum(step == 0 for step in steps),
        "smallest_step_ns": min(moved, default=None),
        "greatest_common_divisor_ns": math.gcd(*moved) if moved else None,
        "median_step_ns": statistics.median(steps),
        "microseconds_per_stamp": spread([1e6 * t / STAMPS for t in taken]),
    }


def _events() -> Values:
    """The same by external events with times: microseconds between two neighbours in a graph."""
    count = 100
    events = [torch.cuda.Event(enable_timing=True, external=True) for _ in range(count)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for event in events:
            event.record()
    graph.replay()
    torch.cuda.synchronize()
    gaps = [1e3 * a.elapsed_time(b) for a, b in itertools.pairwise(events)]
    return {"microseconds_between": spread(gaps), "smallest": min(gaps)}


def _gpm() -> Values:
    """Metrics over a quarter of a second of matrix products; and what a sample costs the host."""
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
    if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
        raise RuntimeError("NVML says that this device has no GPM metrics")
    x = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    samples = [nvml.nvmlGpmSampleAlloc() for _ in range(2)]
    costs = [_sample(nvml, handle, samples[0])]
    start = time.monotonic()
    while time.monotonic() - start < GPM_SECONDS:
        x @ x
        torch.cuda.synchronize()
    costs.append(_sample(nvml, handle, samples[1]))
    found = _metrics(nvml, samples)
    for sample in samples:
        nvml.nvmlGpmSampleFree(sample)
    return {"metrics": found, "microseconds_per_sample": [1e6 * cost for cost in costs]}


def _sample(nvml: Any, handle: Any, sample: Any) -> float:
    start = time.perf_counter()
    nvml.nvmlGpmSampleGet(handle, sample)
    return time.perf_counter() - start


def _metrics(nvml: Any, samples: list[Any]) -> Values:
    query = nvml.c_nvmlGpmMetricsGet_t()
    query.version = nvml.NVML_GPM_METRICS_GET_VERSION
    query.numMetrics = len(METRICS)
    query.sample1, query.sample2 = samples
    for at, metric in enumerate(METRICS.values()):
        query.metrics[at].metricId = metric
    answer = nvml.nvmlGpmMetricsGet(query)
    filled = answer if isinstance(answer, ctypes.Structure) else query
    rows = [filled.metrics[at] for at in range(len(METRICS))]
    return {name: row.value if row.nvmlReturn == 0 else None for name, row in zip(METRICS, rows, strict=True)}
