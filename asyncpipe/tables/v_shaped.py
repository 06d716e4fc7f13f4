"""Orders in which device d holds the stages d and S - 1 - d: the first device has both ends of the network.

Sources: ZB-V (arXiv 2401.10241, section 6); DualPipeV, the half of DualPipe (arXiv 2412.19437, section 3.2.1) that
github.com/deepseek-ai/DualPipe describes in eight steps.
"""

from __future__ import annotations

from collections import defaultdict, deque

from asyncpipe.ir import Action, Op

__all__ = ["dualpipev", "zbv"]


class _Device:
    """The actions of one device. Each op of a stage counts its microbatches from 0; a B counts as I and W."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.counts: defaultdict[tuple[int, Op], int] = defaultdict(int)
        self.waiting: deque[Action] = deque()

    def run(self, stage: int, *ops: Op) -> None:
        for op in ops:
            counter = (stage, Op.I if op is Op.B else op)
            microbatch = self.counts[counter]
            self.counts[counter] += 1
            self.actions.append(Action(stage, op, microbatch))
            if op is Op.I:
                self.waiting.append(Action(stage, Op.W, microbatch))

    def run_oldest_weight_gradient(self) -> None:
        if self.waiting:
            self.actions.append(self.waiting.popleft())


def zbv(device: int, devices: int, stages: int, microbatches: int) -> list[Action]:
    """Forwards down and up the V, then both directions in turns, weight gradients last where the device would idle."""
    row, down, up = _Device(), device, stages - 1 - device
    planned = max(2 * devices - 1, microbatches)
    row.run(down, *[Op.F] * (2 * (devices - device) - 1))
    for _ in range(device):
        row.run(up, Op.F)
        row.run(down, Op.F)
    for _ in range(devices - device):
        row.run(up, Op.F, Op.I, Op.W)
    while row.counts[up, Op.F] < planned:
        if row.counts[down, Op.F] < planned:
            row.run(down, Op.F)
        row.run(down, Op.I, Op.W)
        row.run(up, Op.F, Op.I, Op.W)
    for _ in range(device):
        row.run(down, Op.I)
        row.run(up, Op.I)
    for _ in range(devices - device):
        row.run(down, Op.I, Op.W)
    for stage in (up, down):
        row.run(stage, *[Op.W] * (row.counts[stage, Op.I] - row.counts[stage, Op.W]))
    return [action for action in row.actions if action.index < microbatches]


def dualpipev(device: int, devices: int, stages: int, microbatches: int) -> list[Action]:
    """The eight steps; what the authors overlap, a forward and a backward, are two cells in that order here."""
    row, down, up = _Device(), device, stages - 1 - device
    behind = devices - 1 - device
    row.run(down, *[Op.F] * (2 * behind))
    for _ in range(device + 1):
        row.run(down, Op.F)
        row.run(up, Op.F)
    for _ in range(behind):
        row.run(up, Op.I)
        row.run_oldest_weight_gradient()
        row.run(up, Op.F)
    for _ in range(microbatches - 2 * devices + device + 1):
        row.run(down, Op.F)
        row.run(up, Op.B, Op.F)
        row.run(down, Op.B)
    for _ in range(behind):
        row.run(up, Op.B, Op.F)
        row.run(down, Op.B)
    _end_of_dualpipev(row, down, up, behind)
    return row.actions


def _end_of_dualpipev(row: _Device, down: int, up: int, behind: int) -> None:
    """The backwards that are left: the second half of them, from an `up` or a `down` in turns, in halves."""
    left = [stage for _ in range(down + 1) for stage in (up, down)]
    whole = 2 * ((down + 1) // 2) + (1 if down % 2 == 0 else 0)
    for number, stage in enumerate(left):
        row.run(stage, Op.B if number < whole else Op.I)
    for _ in range(behind):
        row.run_oldest_weight_gradient()
        row.run(down, Op.I)
    while row.waiting:
        row.run_oldest_weight_gradient()
