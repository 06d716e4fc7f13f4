"""The streams of a program, with SMs of their own where it asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpipe.ir import TRANSFERS, Program
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.shares import Share

__all__ = ["streams_with_shares"]


def streams_with_shares(cuda: Cuda, program: Program, real: Sequence[int]) -> list[Stream]:
    """Those of replica 0, then 1, ...; `real`: the device of each logical one. MachineError for shares that cannot be.

    Where one stream of a device has SMs of its own, all come from one split; copies need none.
    """
    wanted = [(real[stream.device], stream) for _ in range(program.replicas) for stream in program.streams]
    found: dict[int, Stream] = {}
    for device in dict.fromkeys(device for device, _ in wanted):
        here = [i for i, (on, stream) in enumerate(wanted) if on == device and stream.runs != TRANSFERS]
        shares = [Share(wanted[i][1].name, wanted[i][1].sms, -wanted[i][1].priority) for i in here]
        if any(share.sms for share in shares):
            found |= zip(here, cuda.shared_out(device, shares), strict=True)
    return [
        found[i] if i in found else cuda.stream(device, -stream.priority) for i, (device, stream) in enumerate(wanted)
    ]
