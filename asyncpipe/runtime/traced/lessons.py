"""Lessons of a predictor of gradients (DNI) as traced graphs: its own loss, without the autograd engine."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from asyncpipe.runtime.auxiliary import GradientPredictor, prediction_error
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.stage_code import stage_code
from asyncpipe.runtime.traced.traces import Traces

__all__ = ["TracedLessons"]


class TracedLessons:
    """Teaches `predictor` as its own `learn` does; one lesson at a time."""

    def __init__(self, stage: int, predictor: GradientPredictor) -> None:
        self._predictor = predictor
        code = stage_code(copy.deepcopy(predictor.module), prediction_error, predictor.arena, [])
        self.traces = Traces(stage, code, predictor.arena, [], wants_input_gradient=False)

    def learn(self, output: Tensor, gradient: Tensor, lr: float) -> None:
        call = Call.of(self._predictor.taken(output), self._predictor.taken(gradient))
        division = self.traces.of(call)
        weights = self._predictor.arena.views
        with torch.no_grad():
            _, _, saved = division.forward.run([*call.inputs, *call.target_tensors, *weights])
            found = division.weight_gradient.run(weights, [], saved, [None])
        self._predictor.optimizer.step(found, lr)
