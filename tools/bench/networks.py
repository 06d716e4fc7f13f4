"""Networks that asyncpipe.models does not have: cells unrolled in plain operations, and three convolutions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe import models
from asyncpipe.tools.bench.workloads import Workload

__all__ = ["build"]


class _Cell(nn.Module):
    """A recurrent cell over all steps, one after another: (batch, steps, inputs) -> (batch, hidden), the last state."""

    def __init__(self, cell: nn.LSTMCell | nn.GRUCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, sequence: Tensor) -> Tensor:
        state: Any = None
        for step in sequence.unbind(1):
            state = self._next(step, state)
        found: Tensor = state[0] if isinstance(state, tuple) else state
        return found

    def _next(self, step: Tensor, state: Any) -> Any:
        raise NotImplementedError


class LstmCell(_Cell):
    """Hochreiter and Schmidhuber 1997 with forget gates, gates in torch's order."""

    def _next(self, step: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        own = self.cell
        gates = nn.functional.linear(step, own.weight_ih, own.bias_ih)
        if state is not None:
            gates = gates + nn.functional.linear(state[0], own.weight_hh, own.bias_hh)
        write, keep, value, read = gates.chunk(4, 1)
        new = write.sigmoid() * value.tanh()
        memory = new if state is None else keep.sigmoid() * state[1] + new
        return read.sigmoid() * memory.tanh(), memory


class GruCell(_Cell):
    """Cho et al. 2014 (arXiv 1406.1078), as in torch.nn.GRUCell."""

    def _next(self, step: Tensor, state: Tensor | None) -> Tensor:
        own = self.cell
        before = step.new_zeros(step.shape[0], own.hidden_size) if state is None else state
        reset, update, value = nn.functional.linear(step, own.weight_ih, own.bias_ih).chunk(3, 1)
        old_reset, old_update, old_value = nn.functional.linear(before, own.weight_hh, own.bias_hh).chunk(3, 1)
        share = (update + old_update).sigmoid()
        new = (value + (reset + old_reset).sigmoid() * old_value).tanh()
        return new + share * (before - new)


def _lstm_cell(workload: Workload) -> nn.Sequential:
    hidden = workload.options["hidden"]
    cell = LstmCell(nn.LSTMCell(workload.sample[-1], hidden))
    return nn.Sequential(OrderedDict(cell=cell, output=nn.Linear(hidden, workload.classes)))


def _gru_cell(workload: Workload) -> nn.Sequential:
    hidden = workload.options["hidden"]
    cell = GruCell(nn.GRUCell(workload.sample[-1], hidden))
    return nn.Sequential(OrderedDict(cell=cell, output=nn.Linear(hidden, workload.classes)))


def _three_convolutions(workload: Workload) -> nn.Sequential:
    """The second and the third halve the image."""
    parts: list[tuple[str, nn.Module]] = []
    for i, (inputs, outputs, stride) in enumerate([(3, 32, 1), (32, 64, 2), (64, 64, 2)]):
        parts += [(f"conv{i}", nn.Conv2d(inputs, outputs, 3, stride, 1)), (f"relu{i}", nn.ReLU())]
    pixels = workload.sample[1] * workload.sample[2] // 16
    head = nn.Linear(64 * pixels, workload.classes)
    return nn.Sequential(OrderedDict([*parts, ("flatten", nn.Flatten()), ("head", head)]))


_OWN: Mapping[str, Callable[[Workload], nn.Sequential]] = {
    "lstm-cell": _lstm_cell,
    "gru-cell": _gru_cell,
    "three-convolutions": _three_convolutions,
}


def build(workload: Workload, seed: int = 0) -> nn.Sequential:
    """The network on the CPU; the same seed gives the same weights. Leaves torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if make := _OWN.get(workload.model):
            return make(workload)
        target = (workload.sample[0],) if workload.every_step else None
        classes, vocabulary = workload.classes, workload.vocabulary
        return models.build(workload.model, workload.options, workload.sample, classes, vocabulary, target)
