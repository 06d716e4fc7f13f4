"""Streams that fork from the current one and join it again; on the CPU their work runs in the order of its issue."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

__all__ = ["Lanes"]


class Lanes:
    """`count` streams. Inside a capture, and outside, `fork` comes first and `join` last."""

    def __init__(self, device: torch.device, count: int) -> None:
        self._streams = [torch.cuda.Stream(device) for _ in range(count)] if device.type == "cuda" else []

    def fork(self) -> None:
        for stream in self._streams:
            stream.wait_stream(torch.cuda.current_stream())

    def join(self) -> None:
        for stream in self._streams:
            torch.cuda.current_stream().wait_stream(stream)

    def on(self, lane: int) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._streams[lane]) if self._streams else contextlib.nullcontext()

    def edge(self, source: int, target: int) -> None:
        """What `target` issues next waits for what `source` has issued."""
        if self._streams:
            self._streams[target].wait_event(self._streams[source].record_event())
