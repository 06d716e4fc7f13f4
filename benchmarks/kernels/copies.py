"""The measured copy bandwidth, against which everything is held: bytes read plus bytes written."""

from __future__ import annotations

import torch
from clock import Work

__all__ = ["COPY_WAYS", "Copies"]

COPY_WAYS = ("memcpy", "kernel")
"""`copy_`, and an elementwise kernel of torch; the faster one of a round counts."""
ALIGNED = 16


class Copies:
    """From one large buffer to another: of all of it, and of pieces in turns."""

    def __init__(self, device: torch.device, elements: int) -> None:
        self._from = torch.randn(elements, device=device)
        self._to = torch.empty_like(self._from)
        self.bytes = 8 * elements

    def large(self) -> dict[str, Work]:
        return self.equal(self.bytes, 1)

    def equal(self, moved: int, sets: int) -> dict[str, Work]:
        """Copies that move about `moved` bytes each, from `sets` places, or as many as there are."""
        length = min(max(ALIGNED, moved // 8 // ALIGNED * ALIGNED), self._from.numel())
        places = max(1, min(sets, self._from.numel() // length))
        pieces = [
            (self._from[i * length : (i + 1) * length], self._to[i * length : (i + 1) * length]) for i in range(places)
        ]

        def memcpy(step: int) -> None:
            source, target = pieces[step % places]
            target.copy_(source)

        def kernel(step: int) -> None:
            source, target = pieces[step % places]
            torch.mul(source, 1.0, out=target)

        return dict(zip(COPY_WAYS, (memcpy, kernel), strict=True))
