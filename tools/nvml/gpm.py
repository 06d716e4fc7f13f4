"""GPM: what the SMs did between two samples of the GPU's own counters (Hopper and later)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from asyncpipe.tools.nvml.calls import Calls, reason_of_number
from asyncpipe.tools.nvml.readings import Reading, Unavailable

__all__ = ["GPM_FIELDS", "GpmMeter"]

_METRICS = {
    "sm_activity": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_activity": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "half_tensor_activity": "NVML_GPM_METRIC_HMMA_TENSOR_UTIL",
    "dram_activity": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}
GPM_FIELDS = tuple(_METRICS)
_SHORTEST = 0.1
"""Seconds between two samples: NVML refreshes the counters no faster (its reference, nvmlGpmMetricsGet)."""
_FIRST = Unavailable("GPM measures between two looks, and this was the first", "later")
_TOO_SOON = Unavailable(f"GPM needs {_SHORTEST:.1f} s between two looks", "later")
_NOT_HERE = Unavailable("GPM is not supported by this GPU (it begins with Hopper)")


class GpmMeter:
    """Two buffers of counters, filled in turns; `close` frees them.

    `sample` fills a buffer: nvmlGpmSampleGet for a GPU, nvmlGpmMigSampleGet for a MIG instance.
    """

    def __init__(
        self,
        calls: Calls,
        whole_gpu: Any,
        sample: Callable[[Any, Any], Any],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._calls, self._whole_gpu, self._sample, self._clock = calls, whole_gpu, sample, clock
        self._supported: Reading[bool] | None = None
        self._buffers: list[Any] = []
        self._filled_at: float | None = None

    def read(self) -> dict[str, Any]:
        """The share (0 to 1) of each metric since the last look."""
        found = self._look()
        return dict.fromkeys(GPM_FIELDS, found) if isinstance(found, Unavailable) else found

    def close(self) -> None:
        for buffer in self._buffers:
            self._calls.attempt(partial(_free, buffer=buffer))
        self._buffers = []

    @property
    def supported(self) -> Reading[bool]:
        """Whether this GPU has GPM; a GPU says so once."""
        if self._supported is None or isinstance(self._supported, Unavailable):
            query = [lambda nvml: nvml.nvmlGpmQueryDeviceSupport(self._whole_gpu).isSupportedDevice]
            answer = self._calls.ask("gpm", query)
            self._supported = answer if isinstance(answer, Unavailable) else bool(answer)
        return self._supported

    def _look(self) -> Unavailable | dict[str, Any]:
        supported = self.supported
        if supported is not True:
            return supported or _NOT_HERE
        now = self._clock()
        if self._filled_at is not None and now - self._filled_at < _SHORTEST:
            return _TOO_SOON
        failure = self._allocate() or self._fill()
        if failure is not None:
            self._filled_at = None
            return failure
        first, self._filled_at = self._filled_at, now
        return _FIRST if first is None else self._compare()

    def _allocate(self) -> Unavailable | None:
        while len(self._buffers) < 2:
            buffer = self._calls.ask("buffer", [lambda nvml: nvml.nvmlGpmSampleAlloc()])
            if isinstance(buffer, Unavailable):
                return buffer
            self._buffers.append(buffer)
        return None

    def _fill(self) -> Unavailable | None:
        """Fill the older buffer, which becomes the newer one."""
        self._buffers.reverse()
        done = self._calls.ask("sample", [lambda nvml: self._sample(nvml, self._buffers[1])])
        return done if isinstance(done, Unavailable) else None

    def _compare(self) -> Unavailable | dict[str, Any]:
        filled = self._calls.ask("metrics", [self._metrics])
        if isinstance(filled, Unavailable):
            return filled
        return {name: _share(filled.metrics[i]) for i, name in enumerate(_METRICS)}

    def _metrics(self, nvml: Any) -> Any:
        request = nvml.c_nvmlGpmMetricsGet_t()
        request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(_METRICS)
        request.sample1, request.sample2 = self._buffers
        for position, name in enumerate(_METRICS.values()):
            request.metrics[position].metricId = getattr(nvml, name)
        return nvml.nvmlGpmMetricsGet(request)


def _free(nvml: Any, buffer: Any) -> None:
    nvml.nvmlGpmSampleFree(buffer)


def _share(metric: Any) -> Reading[float]:
    """NVML's per cent, with its own error, as a share."""
    if metric.nvmlReturn:
        return reason_of_number(metric.nvmlReturn)
    return metric.value / 100 if math.isfinite(metric.value) else Unavailable("GPM gave no number", "failed")
