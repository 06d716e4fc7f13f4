"""10. What the host pays for a kernel: eager, replayed, from two threads; and a push to a peer's buffer in a graph."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable

import torch
from measuring import Values, attempt, capture, spread, streams

EXPECTED = "replay 10-50 times cheaper for each kernel; two threads gain nothing; a push is captured"
KERNELS = 500
"""Fewer than the launches that a stream queues, so that the host never waits for the device."""
ROUNDS = 15


def run() -> Values:
    return {"issue": attempt(_issue), "push": attempt(_push)}


def _issue() -> Values:
    """Host microseconds of a kernel, until the calls return."""
    x = torch.zeros(1024, device="cuda")

    def eager() -> None:
        for _ in range(KERNELS):
            x.add_(1)

    graph = capture(eager)
    works: dict[str, Callable[[], object]] = {"eager": eager, "replay": graph.replay}
    found = {name: spread([_host_seconds(work) for _ in range(ROUNDS)]) for name, work in works.items()}
    found["eager, two threads, both's kernels"] = spread([_threads(2) for _ in range(ROUNDS)])
    return {name: {key: 1e6 * t / KERNELS for key, t in values.items()} for name, values in found.items()}


def _host_seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken


def _threads(count: int) -> float:
    """Seconds for as many kernels in all, shared by threads with a stream each."""
    lanes = streams(count)
    ready = threading.Barrier(count + 1, timeout=10)

    def issue(lane: torch.cuda.Stream) -> None:
        torch.cuda.set_device(lane.device)
        with torch.cuda.stream(lane):
            x = torch.zeros(1024, device="cuda")
            ready.wait()
            for _ in range(KERNELS // count):
                x.add_(1)

    threads = [threading.Thread(target=issue, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    torch.cuda.synchronize()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - start
    torch.cuda.synchronize()
    return taken


def _push() -> Values:
    """World of one: the peer is this process. The copy into the symmetric buffer is captured and replayed."""
    import torch.distributed as dist
    import torch.distributed._symmetric_memory as symmetric

    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "nccl", init_method=f"file://{os.path.join(folder, 'store')}", rank=0, world_size=1,
            device_id=torch.device("cuda", torch.cuda.current_device()),
        )  # fmt: skip
        try:
            return _pushed(symmetric, dist.group.WORLD)
        finally:
            dist.destroy_process_group()


def _pushed(symmetric: object, group: object) -> Values:
    elements = 2**20
    buffer = symmetric.empty(elements, dtype=torch.float32, device="cuda")  # type: ignore[attr-defined]
    handle = symmetric.rendezvous(buffer, group)  # type: ignore[attr-defined]
    peer = handle.get_buffer(0, (elements,), torch.float32)
    source = torch.zeros(elements, device="cuda")
    graph = capture(lambda: peer.copy_(source))
    source.fill_(7)
    graph.replay()
    torch.cuda.synchronize()
    arrived = bool((buffer == 7).all())
    del graph
    return {"captured": True, "arrived": arrived}
