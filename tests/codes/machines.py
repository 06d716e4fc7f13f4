"""The machines on which the examples of AP7xx are run: stand-ins for GPUs, drivers and their lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

__all__ = ["EXIT_CODES", "machine"]

EXIT_CODES = {
    **dict.fromkeys(("AP701", "AP702", "AP703", "AP704", "AP705"), 4),
    **dict.fromkeys(("AP706", "AP707"), 8),
    **dict.fromkeys(("AP710", "AP711"), 5),
    **dict.fromkeys(("AP712", "AP713", "AP714", "AP716"), 2),
}
"""Of the examples; those of all other codes end with 3."""

NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from"
    " http://www.nvidia.com/Download/index.aspx"
)


@contextmanager
def machine(code: str) -> Iterator[None]:
    """Where the example of a page runs; anything that needs no GPU runs as ever."""
    with _MACHINES.get(code, nullcontext)():
        yield


@contextmanager
def _torch(version: str, cuda: str | None, said: str = "") -> Iterator[None]:
    """A torch that finds no GPU, and what it says about it."""
    import torch

    failing = patch.object(torch.cuda, "init", side_effect=RuntimeError(said) if said else None)
    with patch.object(torch.version, "cuda", cuda), patch.object(torch, "__version__", version), failing:
        yield


@contextmanager
def _gpu(**options: Any) -> Iterator[None]:
    """A machine with one GPU, which is a recording of CUDA."""
    from asyncpipe.runtime.cuda import device, static
    from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda

    kind = options.pop("kind", lambda: RecordingCuda)()
    with ExitStack() as patches:
        patches.enter_context(patch.object(device, "DeviceCuda", partial(kind, seed=None, **options)))
        # The CPU's optimizers, which run instead of the fused kernels, take numbers.
        patches.enter_context(patch.object(static.StaticRates, "at", lambda self, update: 0.03))
        yield


def _crowded() -> type:
    from asyncpipe.runtime.cuda.api import DeviceMemory
    from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda

    class Crowded(RecordingCuda):
        """Says that it has more than it gives."""

        def memory(self, device: int) -> DeviceMemory:
            left = super().memory(device)
            return DeviceMemory(left.free + (1 << 30), left.total + (1 << 30))

    return Crowded


def _strict() -> type:
    from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
    from asyncpipe.runtime.cuda.recording.operations import Operation

    class Strict(RecordingCuda):
        """Refuses operations of the user's own in a capture, as CUDA does where one waits for the host."""

        def _operation(self, operation: Operation) -> Any:
            if operation.name.startswith("mine.") and self._capture is not None:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            return super()._operation(operation)

    return Strict


_MACHINES: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "AP701": partial(_torch, "2.13.0+cpu", None),
    "AP702": partial(_torch, "2.13.0", "13.0", NO_DRIVER),
    "AP703": partial(_torch, "2.13.0", "13.0", "No CUDA GPUs are available"),
    **dict.fromkeys(("AP704", "AP705", "AP710", "AP712", "AP713", "AP714"), _gpu),
    "AP706": partial(_gpu, bytes_total=1536 * 1024),
    "AP707": partial(_gpu, kind=_crowded, bytes_total=1536 * 1024),
    "AP711": partial(_gpu, kind=_strict),
    "AP716": partial(_gpu, devices=3),
}
