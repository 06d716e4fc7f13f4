"""Orders in which device d holds the stages d, d + D, d + 2D, ...: one forward, one backward and its relatives.

Sources: GPipe (arXiv 1811.06965); PipeDream-Flush, here `1f1b`, and its interleaved form (arXiv 2104.04473,
section 2.2); ZB-H1 (arXiv 2401.10241, section 3.1); breadth-first pipelines (arXiv 2211.05953).
"""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.ir import Action, Op

__all__ = ["gpipe", "interleaved", "looped_bfs", "one_forward_one_backward", "zb_h1"]


def gpipe(device: int, devices: int, stages: int, microbatches: int) -> Iterator[Action]:
    """All forwards, then all backwards, both in ascending order."""
    for op in (Op.F, Op.B):
        yield from (Action(device, op, m) for m in range(microbatches))


def looped_bfs(device: int, devices: int, stages: int, microbatches: int) -> Iterator[Action]:
    """Stage by stage all forwards; then from the last stage down all backwards, in descending order."""
    mine = range(device, stages, devices)
    yield from (Action(stage, Op.F, m) for stage in mine for m in range(microbatches))
    yield from (Action(stage, Op.B, m) for stage in reversed(mine) for m in reversed(range(microbatches)))


def one_forward_one_backward(device: int, devices: int, stages: int, microbatches: int) -> Iterator[Action]:
    """As many forwards ahead as there are devices behind, then in turns."""
    forwards = [Action(device, Op.F, m) for m in range(microbatches)]
    backwards = [Action(device, Op.B, m) for m in range(microbatches)]
    return _in_turns(forwards, backwards, devices - 1 - device)


def interleaved(device: int, devices: int, stages: int, microbatches: int) -> Iterator[Action]:
    """1F1B over several stages of a device; microbatches go in rounds, and each round through all stages.

    Two forwards more ahead for each device behind, since a backward takes two hops' time to come back.
    """
    if stages == devices:
        return one_forward_one_backward(device, devices, stages, microbatches)
    size = round_size(devices, microbatches)
    ahead = (stages // devices - 1) * size + 2 * (devices - 1 - device)
    forwards = list(_in_rounds(Op.F, range(device, stages, devices), size, microbatches))
    backwards = list(_in_rounds(Op.B, range(device, stages, devices)[::-1], size, microbatches))
    return _in_turns(forwards, backwards, ahead)


def zb_h1(device: int, devices: int, stages: int, microbatches: int) -> Iterator[Action]:
    """1F1B with the backward in halves: device d keeps d weight gradients back for the end, where it would idle."""
    size = round_size(devices, microbatches)
    ahead = (stages // devices - 1) * size + devices - 1 - device
    mine = range(device, stages, devices)
    forwards = list(_in_rounds(Op.F, mine, size, microbatches))
    inputs = list(_in_rounds(Op.I, mine[::-1], size, microbatches))
    weights = _in_rounds(Op.W, mine[::-1], size, microbatches)
    seen = 0
    for action in _in_turns(forwards, inputs, ahead):
        yield action
        if action.op is Op.I:
            seen += 1
            if seen > device:
                yield next(weights)
    yield from weights


def round_size(devices: int, microbatches: int) -> int:
    """How many microbatches go through a device's stages together: `devices` of them, or a few more."""
    return microbatches // max(1, microbatches // devices)


def _in_rounds(op: Op, stages: range, size: int, microbatches: int) -> Iterator[Action]:
    for first in range(0, microbatches, size):
        yield from (Action(stage, op, first + i) for stage in stages for i in range(size))


def _in_turns(forwards: list[Action], backwards: list[Action], ahead: int) -> Iterator[Action]:
    """`ahead` forwards, then a forward and a backward in turns, then the backwards that are left."""
    ahead = min(ahead, len(forwards))
    yield from forwards[:ahead]
    for forward, backward in zip(forwards[ahead:], backwards, strict=False):
        yield forward
        yield backward
    yield from backwards[len(forwards) - ahead :]
