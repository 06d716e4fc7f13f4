"""The calls of the CUDA runtime on a real GPU, by torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from asyncpipe.errors import InternalError, MachineError
from asyncpipe.runtime.cuda.api import DeviceMemory, Event, Graph, Stream

__all__ = ["DeviceCuda", "DeviceGraph"]


class DeviceGraph:
    """A captured graph of torch."""

    def __init__(self) -> None:
        self.graph = torch.cuda.CUDAGraph()

    @property
    def nodes(self) -> int | None:
        """Torch does not count them."""
        return None


class DeviceCuda:
    """MachineError where there is no GPU that torch can use."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise MachineError(why_no_cuda(), "use --backend threads or serial, or a machine with an NVIDIA GPU")
        self.devices = torch.cuda.device_count()
        self._handles: set[tuple[int, int]] = set()

    def stream(self, device: int, priority: int = 0, sms: int = 0) -> Stream:
        if sms:
            raise MachineError("shares of SMs (`sms`) are not built in this version", "remove `sms` from the streams")
        made = torch.cuda.Stream(device=device, priority=priority)
        handle = (device, made.cuda_stream)
        if handle in self._handles:
            raise InternalError(f"torch gave stream {handle} out twice: its pool has 32 of each priority")
        self._handles.add(handle)
        return made

    def event(self, external: bool = False, timing: bool = False) -> Event:
        # Only 2.11 and later know external events; asked for by name alone where one is needed.
        options = {"external": True} if external else {}
        return torch.cuda.Event(enable_timing=timing, **options)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        with torch.cuda.stream(stream):
            yield

    def unordered(self, label: str) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, event: Event, stream: Stream) -> None:
        # An external event asks the current stream whether it captures, not the one that it is recorded on.
        with self.on(stream):
            event.record()

    def wait(self, stream: Stream, event: Event) -> None:
        with self.on(stream):
            event.wait()

    @contextmanager
    def capture(self, stream: Stream) -> Iterator[Graph]:
        captured = DeviceGraph()
        # Other threads, such as a sampler of NVML, may go on making calls.
        with torch.cuda.graph(captured.graph, stream=stream, capture_error_mode="thread_local"):
            yield captured

    def launch(self, graph: Graph, stream: Stream) -> None:
        with self.on(stream):
            graph.graph.replay()

    def kernel(self, name: str, run: Callable[[], None], reads: Sequence[Tensor], writes: Sequence[Tensor]) -> None:
        run()

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """Nothing to do: the hardware shares everything."""

    def host(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if tensor.device.type == "cpu" and not tensor.is_pinned() else tensor

    def current(self) -> int:
        return torch.cuda.current_stream().cuda_stream

    def pinned(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def on_host(self, pinned: Tensor) -> list[float]:
        return [float(value) for value in pinned.tolist()]

    def synchronize(self, event: Event) -> None:
        event.synchronize()

    def memory(self, device: int) -> DeviceMemory:
        return DeviceMemory(*torch.cuda.mem_get_info(device))


def why_no_cuda() -> str:
    """What torch says about it, in one line."""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    if torch.cuda.device_count() == 0:
        return "torch finds no CUDA device: no GPU, no driver, or CUDA_VISIBLE_DEVICES is empty"
    return "torch cannot use the CUDA device"
