"""1. Do two streams of kernels overlap: large products, small products, a chain bound by memory."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from measuring import Values, Work, capture, forked, seconds, spread, streams

EXPECTED = "big+big 0-5 % gain or a loss; small+small 1.3-1.9 times; big+norm 1.1-1.4 times"
PAIRS = (("big", "big"), ("small", "small"), ("big", "norm"), ("small", "norm"))


def run() -> Values:
    """One stream's time over two streams', eager, in a graph, and in a graph where the second has priority."""
    return {f"{first} + {second}": _pair(first, second) for first, second in PAIRS}


def _pair(first: str, second: str) -> Values:
    a, b = KINDS[first](), KINDS[second]()

    def serial() -> None:
        a()
        b()

    equal, urgent = streams(2), streams(2, (0, -1))
    both = functools.partial(_both, a, b, equal)
    prioritised = functools.partial(_both, a, b, urgent)
    # Graphs on both sides, or the launches of many small kernels would be what is compared.
    works: dict[str, Work] = {
        "one stream": capture(serial).replay,
        "two streams, eager": both,
        "two streams, graph": capture(both).replay,
        "two streams, graph, priority": capture(prioritised).replay,
    }
    taken = seconds(works)
    base = taken["one stream"]
    speedups = {
        name: spread([one / two for one, two in zip(base, taken[name], strict=True)]) for name in list(works)[1:]
    }
    return {"milliseconds": {name: spread([1e3 * t for t in values]) for name, values in taken.items()}} | {
        "one_over_two_streams": speedups
    }


def _both(a: Work, b: Work, lanes: list[torch.cuda.Stream]) -> None:
    with forked(lanes):
        # The second is the more urgent, and is issued first.
        with torch.cuda.stream(lanes[1]):
            b()
        with torch.cuda.stream(lanes[0]):
            a()


def products(rows: int, times: int) -> Work:
    """(rows, 4096) @ (4096, 4096) in bf16, into one output."""
    left = torch.randn(rows, 4096, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    out = torch.empty_like(left)

    def work() -> None:
        for _ in range(times):
            torch.mm(left, right, out=out)

    return work


def norms(times: int) -> Work:
    """Layer norms of 128 MB, bound by memory."""
    x = torch.randn(16384, 4096, device="cuda", dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(times):
            torch.nn.functional.layer_norm(x, (4096,))

    return work


KINDS: dict[str, Callable[[], Work]] = {
    "big": lambda: products(4096, 8),
    "small": lambda: products(512, 40),
    "norm": lambda: norms(16),
}
"""Each a millisecond or two on a Hopper GPU."""
