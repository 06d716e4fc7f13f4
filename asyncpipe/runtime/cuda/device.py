"""The calls of the CUDA runtime on a real GPU, by torch."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from asyncpipe.errors import InternalError
from asyncpipe.runtime.cuda.api import DeviceMemory, Event, Graph, Stream
from asyncpipe.runtime.cuda.driver import count_nodes
from asyncpipe.runtime.cuda.green import shared_out
from asyncpipe.runtime.cuda.machine import require_cuda
from asyncpipe.runtime.cuda.shares import Share

__all__ = ["DeviceCuda", "DeviceGraph"]


class DeviceGraph:
    """A captured graph of torch. `nodes`: how many it has, if the driver says so."""

    def __init__(self) -> None:
        # Kept beside its executable form: only so can the nodes be counted.
        self.graph = torch.cuda.CUDAGraph(keep_graph=True)
        self.nodes: int | None = None

    def make_executable(self) -> None:
        self.nodes = count_nodes(self.graph.raw_cuda_graph())
        self.graph.instantiate()


class DeviceCuda:
    """MachineError where there is no GPU that torch can use."""

    def __init__(self) -> None:
        require_cuda()
        self.devices = torch.cuda.device_count()
        self._handles: set[tuple[int, int]] = set()
        self._generators: dict[int, torch.Generator] = {}

    def stream(self, device: int, priority: int = 0) -> Stream:
        made = torch.cuda.Stream(device=device, priority=priority)
        handle = (device, made.cuda_stream)
        if handle in self._handles:
            raise InternalError(f"torch gave stream {handle} out twice: its pool has 32 of each priority")
        self._handles.add(handle)
        return made

    def shared_out(self, device: int, shares: Sequence[Share]) -> list[Stream]:
        return shared_out(device, shares)

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
    def capture(self, stream: Stream, after: Graph | None = None) -> Iterator[Graph]:
        captured = DeviceGraph()
        before = torch.cuda.current_stream(stream.device), torch.cuda.current_stream()
        for generator in self._generators.values():
            # One that was made for "cuda" has no index.
            if generator.device.index in (None, stream.device.index):
                captured.graph.register_generator_state(generator)
        failures: list[BaseException] = []
        pool = None if after is None else after.graph.pool()
        # Other threads, such as a sampler of NVML, may go on making calls.
        capturing = torch.cuda.graph(captured.graph, pool, stream, capture_error_mode="thread_local")
        try:
            with _letting_graphs_be_empty(), capturing, _noting(failures):
                yield captured
        except BaseException:
            # What goes wrong in a capture breaks its end too, whose error says nothing; and its stream stays current.
            for one in before:
                torch.cuda.set_stream(one)
            if failures:
                raise failures[0] from failures[0].__cause__
            raise
        with self.on(stream):
            captured.make_executable()

    def launch(self, graph: Graph, stream: Stream) -> None:
        with self.on(stream):
            graph.graph.replay()

    def transfer(self, target: Tensor, source: Tensor, stream: Stream, landing: Stream) -> None:
        # Torch copies on the current stream of the source's device, and lets it and the current one of the target's
        # device wait for each other before and after. By default streams there, all transfers would form one chain.
        with self.on(landing), self.on(stream):
            target.copy_(source, non_blocking=True)

    def torch_device(self, device: int) -> torch.device:
        return torch.device("cuda", device)

    def here(self) -> int:
        return torch.cuda.current_device()

    def device_of(self, tensor: Tensor) -> int:
        return tensor.device.index

    def require_on(self, device: int, tensors: Sequence[Tensor]) -> None:
        found = {str(tensor.device) for tensor in tensors} - {f"cuda:{device}"}
        if found:
            raise InternalError(f"expected tensors on cuda:{device}, found some on {found.pop()}")

    def register_generator(self, generator: torch.Generator) -> None:
        self._generators[id(generator)] = generator

    def kernel(
        self,
        name: str,
        run: Callable[..., None],
        reads: Sequence[Tensor],
        writes: Sequence[Tensor],
        arguments: Sequence[Any] = (),
    ) -> None:
        run(*arguments)

    def share(self, tensors: Sequence[Tensor], name: str) -> None:
        """Nothing to do: the hardware shares everything."""

    def host(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if tensor.device.type == "cpu" and not tensor.is_pinned() else tensor

    def current(self) -> int:
        return torch.cuda.current_stream().cuda_stream

    def pinned(self, like: Tensor) -> Tensor:
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def on_host(self, pinned: Tensor) -> list[float]:
        return list(pinned.tolist())

    def settle(self, devices: Sequence[int]) -> None:
        for device in devices:
            torch.cuda.synchronize(device)

    def synchronize(self, event: Event) -> None:
        event.synchronize()

    def memory(self, device: int) -> DeviceMemory:
        free, total = torch.cuda.mem_get_info(device)
        return DeviceMemory(free, total, _cached(device), _workspace(device))


@contextmanager
def _letting_graphs_be_empty() -> Iterator[None]:
    """Torch warns of them; here a device may have nothing in flight between two periods."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The CUDA Graph is empty")
        yield


@contextmanager
def _noting(failures: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        failures.append(error)
        raise


def _cached(device: int) -> int:
    """What is idle in the pool that everybody allocates from; in that of a graph it serves the graph alone."""
    if torch.cuda.get_allocator_backend() != "native":  # others have no snapshots
        return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    segments = torch.cuda.memory_snapshot(include_traces=False)
    common = [one for one in segments if one["device"] == device and tuple(one["segment_pool_id"]) == (0, 0)]
    idle: int = sum(one["total_size"] - one["allocated_size"] for one in common)
    return idle


def _workspace(device: int) -> int:
    """Of cuBLAS, as torch chooses it (CublasHandlePool.cpp): by CUBLAS_WORKSPACE_CONFIG, else by generation."""
    pairs = re.findall(r":(\d+):(\d+)", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    if not pairs:
        pairs = [(4096, 8)] if torch.cuda.get_device_capability(device)[0] >= 9 else [(4096, 2), (16, 8)]
    return sum(int(kib) * 1024 * int(count) for kib, count in pairs)
