"""2. Disjoint sets of multiprocessors for two streams: green contexts from one split, and torch's carve-out."""

from __future__ import annotations

import functools
from typing import Any

import torch
from device_code import mark_places
from measuring import Values, Work, attempt, capture, forked, seconds, spread
from overlap import norms, products

EXPECTED = (
    "disjoint sets, eager and in replay; a lane of n multiprocessors 132/n times as slow; both together 1.05 or more"
)
UNIT = 8
"""Multiprocessors: on compute capability 9.0 a partition is a multiple of it."""
PROGRAMS = 4096


def run() -> Values:
    return {"green contexts": attempt(_green), "carve-out": attempt(_carve_out)}


def split(want: tuple[int, ...]) -> list[tuple[torch.cuda.Stream, object]]:
    """A stream for each wanted number of multiprocessors, on disjoint sets, with the context to keep alive.

    One split for all: two splits of the device give sets that overlap.
    """
    from cuda.bindings import driver

    def ok(answer: tuple[Any, ...]) -> Any:
        if answer[0] != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"the driver answered {answer[0]!r}")
        return answer[1] if len(answer) == 2 else answer[1:]

    device = torch.cuda.current_device()
    torch.zeros(1, device="cuda")
    handle = ok(driver.cuDeviceGet(device))
    kind = driver.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
    whole = ok(driver.cuDeviceGetDevResource(handle, kind))
    groups, _, _ = ok(driver.cuDevSmResourceSplitByCount(whole.sm.smCount // UNIT, whole, 0, UNIT))
    made: list[tuple[torch.cuda.Stream, object]] = []
    at = 0
    for count in want:
        taken = groups[at : at + count // UNIT]
        at += len(taken)
        description = ok(driver.cuDevResourceGenerateDesc(taken, len(taken)))
        flags = driver.CUgreenCtxCreate_flags.CU_GREEN_CTX_DEFAULT_STREAM.value
        context = ok(driver.cuGreenCtxCreate(description, handle, flags))
        stream = ok(driver.cuGreenCtxStreamCreate(context, driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value, 0))
        made.append((torch.cuda.ExternalStream(int(stream), device=device), context))
    return made


def _green() -> Values:
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
    want = (total * 2 // 3 // UNIT * UNIT, total // UNIT * UNIT - total * 2 // 3 // UNIT * UNIT)
    made = split(want)
    lanes = [stream for stream, _ in made]
    places = [_places(lane) for lane in lanes]
    return {
        "wanted": want,
        "found_eager": [len(found) for found, _ in places],
        "found_in_replay": [len(found) for _, found in places],
        "disjoint_eager": not (places[0][0] & places[1][0]),
        "disjoint_in_replay": not (places[0][1] & places[1][1]),
        "speed": _speed(lanes),
    }


def _places(lane: torch.cuda.Stream) -> tuple[set[int], set[int]]:
    """Multiprocessors that a full launch on this stream used: eager, and replayed on another stream."""
    data = torch.zeros(65 * 1024, device="cuda")
    found = torch.full((PROGRAMS,), -1, dtype=torch.int32, device="cuda")

    def work() -> None:
        with forked([lane]), torch.cuda.stream(lane):
            mark_places[(PROGRAMS,)](found, data, ROUNDS=64, enable_fp_fusion=False)

    work()
    torch.cuda.synchronize()
    eager = set(found.tolist())
    graph = capture(work)
    found.fill_(-1)
    graph.replay()
    torch.cuda.synchronize()
    return eager, set(found.tolist())


def _speed(lanes: list[torch.cuda.Stream]) -> Values:
    """Large products on the first partition, layer norms on the second, alone and together."""
    product, norm = products(4096, 8), norms(16)

    def on(lane: int, work: Work) -> None:
        with forked([lanes[lane]]), torch.cuda.stream(lanes[lane]):
            work()

    def together() -> None:
        with forked(lanes):
            with torch.cuda.stream(lanes[1]):
                norm()
            with torch.cuda.stream(lanes[0]):
                product()

    works: dict[str, Work] = {
        "products, whole device": product,
        "norms, whole device": norm,
        "products, partition": functools.partial(on, 0, product),
        "norms, partition": functools.partial(on, 1, norm),
        "both, partitions": together,
    }
    graphs = {name: capture(work) for name, work in works.items()}
    taken = seconds({name: graph.replay for name, graph in graphs.items()})
    pairs = zip(taken["products, whole device"], taken["norms, whole device"], taken["both, partitions"], strict=True)
    return {
        "milliseconds": {name: spread([1e3 * t for t in values]) for name, values in taken.items()},
        "serial_over_together": spread([(a + b) / c for a, b, c in pairs]),
    }


def _carve_out() -> Values:
    """Products of cuBLASLt that leave multiprocessors to another stream; read when a product is issued."""
    if not hasattr(torch._C, "_set_sm_carveout_experimental"):
        raise RuntimeError(f"torch {torch.__version__} has no carve-out")
    left = torch.randn(4096, 4096, device="cuda").to(torch.float8_e4m3fn)
    right = torch.randn(4096, 4096, device="cuda").to(torch.float8_e4m3fn).t()
    one = torch.ones((), device="cuda")

    def products_of_float8(carved: int | None) -> None:
        torch._C._set_sm_carveout_experimental(carved)
        for _ in range(8):
            torch._scaled_mm(left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
        torch._C._set_sm_carveout_experimental(None)

    graphs = {f"carve-out {n}": capture(functools.partial(products_of_float8, n)) for n in (None, 40, 64)}
    taken = seconds({name: graph.replay for name, graph in graphs.items()})
    return {"milliseconds": {name: spread([1e3 * t for t in values]) for name, values in taken.items()}}
