"""4. Memory that crosses streams: freed early (the negative control), kept in an arena, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from measuring import Values, capture, forked, streams
from torch import Tensor

Store: TypeAlias = Callable[[int], Tensor]
EXPECTED = "freed early: wrong rows, or results that depend on timing; arena: none"
ROWS, ELEMENTS = 16, 2**20
DELAY = 400_000
"""Cycles, some 200 us: the reader is late, and the producer has gone on."""


def run() -> Values:
    """Rows of the output that are not what was sent, of 16: eager, and over ten replays of one graph."""
    stores = {"freed early": _fresh, "freed early, record_stream": _fresh, "arena": _arena()}
    return {name: _count(store, recorded="record_stream" in name) for name, store in stores.items()}


def _count(store: Store, recorded: bool) -> Values:
    lanes = streams(2)
    received = torch.zeros(ROWS, ELEMENTS, device="cuda")

    def work() -> None:
        with forked(lanes):
            _pass(store, received, lanes, recorded)

    received.fill_(-1)
    torch.cuda.synchronize()
    work()
    eager = _wrong(received)
    graph = capture(work)
    replays = []
    for _ in range(10):
        received.fill_(-1)
        graph.replay()
        replays.append(_wrong(received))
    return {"wrong_rows_eager": eager, "wrong_rows_in_replays": replays}


def _pass(store: Store, received: Tensor, lanes: Sequence[torch.cuda.Stream], recorded: bool) -> None:
    producer, reader = lanes
    for row in range(ROWS):
        with torch.cuda.stream(producer):
            sent = store(row).fill_(row)
        reader.wait_event(producer.record_event())
        with torch.cuda.stream(reader):
            torch.cuda._sleep(DELAY)
            received[row].copy_(sent)
        if recorded:
            sent.record_stream(reader)
        del sent


def _wrong(received: Tensor) -> int:
    torch.cuda.synchronize()
    expected = torch.arange(ROWS, device="cuda", dtype=received.dtype)
    return int((received != expected[:, None]).any(dim=1).sum())


def _fresh(row: int) -> Tensor:
    """From the allocator, which gives the block again to the stream that made it as soon as nobody refers to it."""
    return torch.empty(ELEMENTS, device="cuda")


def _arena() -> Store:
    slots = torch.empty(ROWS, ELEMENTS, device="cuda")
    return lambda row: slots[row]
