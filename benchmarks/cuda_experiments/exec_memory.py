"""5. What a captured graph costs in device memory, per node, and what `record_stream` costs in a capture."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import torch
from measuring import Values, attempt, forked, streams

EXPECTED = "tens of kilobytes per node or less; the allocator option makes recorded blocks reusable within a capture"
NODES = (100, 1_000, 10_000)
BLOCKS, BYTES = 32, 16 * 2**20


def run() -> Values:
    return {
        "nodes": {str(count): attempt(functools.partial(_nodes, count)) for count in NODES},
        "recorded blocks": {option: attempt(functools.partial(_in_process, option)) for option in ("False", "True")},
    }


def _nodes(count: int) -> Values:
    """Bytes that the device has less after each stage, for a chain of small kernels on tensors that exist."""
    x = torch.zeros(1024, device="cuda")
    x.add_(1)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    free = [_free()]
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(count):
            x.add_(1)
    free.append(_free())
    graph.instantiate()
    free.append(_free())
    graph.replay()
    torch.cuda.synchronize()
    free.append(_free())
    stages = ("capture", "instantiate", "first replay")
    used = {stage: before - after for stage, before, after in zip(stages, free, free[1:], strict=False)}
    return {"bytes": used, "bytes_per_node": (free[0] - free[-1]) / count}


def _free() -> int:
    return int(torch.cuda.mem_get_info()[0])


def _in_process(option: str) -> Values:
    """The allocator reads its options once in a process."""
    environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": f"graph_capture_record_stream_reuse:{option}"}
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: Values = json.loads(done.stdout.splitlines()[-1])
    return found


def _recorded_blocks() -> Values:
    """Bytes that a capture holds, where each block is read on another stream and then dropped."""
    lanes = streams(2)
    total = torch.zeros(BYTES // 4, device="cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_reserved()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"), forked(lanes):
        for _ in range(BLOCKS):
            with torch.cuda.stream(lanes[0]):
                block = torch.ones(BYTES // 4, device="cuda")
            lanes[1].wait_event(lanes[0].record_event())
            with torch.cuda.stream(lanes[1]):
                total.add_(block)
            block.record_stream(lanes[1])
            del block
            lanes[0].wait_event(lanes[1].record_event())
    return {"blocks": BLOCKS, "bytes_each": BYTES, "bytes_held": torch.cuda.memory_reserved() - before}


if __name__ == "__main__":
    print(json.dumps(_recorded_blocks()))
