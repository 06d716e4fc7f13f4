"""Gradients that a stage has of its own: a head with a loss (DGL, arXiv 1901.08164), a predictor (DNI, 1608.05343).

Both belong to the trainer, not to the model: they take no part in evaluation. They begin with numbers from torch's
global generator.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizers import OptimizerSpec, make_optimizer

__all__ = ["GradientPredictor", "Head", "WithHead", "make_head", "make_predictor", "prediction_error", "sample_outputs"]


class WithHead(nn.Module):
    """A stage's module and its head: (what the next stage reads, what the stage's own loss reads)."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, value: Any) -> tuple[Tensor, Tensor]:
        output = self.body(value)
        return output, self.head(output)


class Head(nn.Module):
    """The mean over space or time, unless each step has an output of its own, and one linear layer.

    (batch, channels, height, width), (batch, steps, features) or (batch, features) -> (batch, *shape), or
    (batch, steps, *shape) where `each_step`.
    """

    def __init__(self, like: Tensor, shape: Sequence[int], each_step: bool) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.each_step = each_step
        self.linear = nn.Linear(_features(like), math.prod(self.shape), device=like.device, dtype=like.dtype)

    def forward(self, output: Tensor) -> Tensor:
        if output.dim() > 3:
            output = output.flatten(2).mean(2)
        elif output.dim() == 3 and not self.each_step:
            output = output.mean(1)
        result: Tensor = self.linear(output)
        return result.unflatten(-1, self.shape) if self.shape else result.squeeze(-1)


class GradientPredictor:
    """Predicts dL/dy of a stage's output y, and learns from what the stage above finds it to be.

    The module gives n dL/dy, n the places of y that share a loss (samples, times steps or pixels): a mean over n makes
    dL/dy so small that squared errors of it would teach nothing. Predictions and lessons may come from different
    threads: one lesson at a time, while predictions read the weights of now. The first prediction is zero. It computes
    in its own type: under autocast y may have another one.
    """

    def __init__(self, module: nn.Module, spec: OptimizerSpec) -> None:
        self.module = module
        self.arena = Arena.of(module.named_parameters())
        self.arena.alias(module.named_parameters())
        self.optimizer = make_optimizer(spec, self.arena)
        self._lock = threading.Lock()

    def predict(self, output: Tensor) -> Tensor:
        with torch.no_grad():
            gradient: Tensor = self.module(self.taken(output)) / _places(output)
        return gradient.to(output.dtype)

    def taken(self, tensor: Tensor) -> Tensor:
        """As the module takes it."""
        return tensor.detach().to(self.arena.views[0].dtype)

    def learn(self, output: Tensor, gradient: Tensor, lr: float) -> None:
        """One step along the prediction error."""
        with self._lock, torch.enable_grad():
            loss = prediction_error(self.module(self.taken(output)), self.taken(gradient))
            self.optimizer.step(torch.autograd.grad(loss, list(self.module.parameters())), lr)


def prediction_error(scaled: Tensor, gradient: Tensor) -> Tensor:
    """||predicted - found||^2, summed over features, in the mean over the places; `scaled`: what a predictor gives."""
    places = _places(gradient)
    return mse_loss(scaled, gradient * places, reduction="sum") / places


def make_head(stage: int, output: Any, prediction: Any) -> Head:
    """A head for a stage with this sample output in a model with this sample prediction; UsageError if none fits."""
    last = _tensor_of("the last stage", prediction, 1)
    output = _tensor_of(f"stage {stage}", output, 2)
    if len(output) != len(last):
        raise UsageError(
            f"aux: local: stage {stage} gives {len(output)} rows where the last stage gives {len(last)}",
            "keep samples in the first dimension, or limit `aux: {stages: ...}` to other stages",
        )
    each_step = output.dim() == last.dim() == 3 and output.shape[1] == last.shape[1]
    return Head(output, last.shape[2 if each_step else 1 :], each_step)


def make_predictor(stage: int, output: Any) -> nn.Sequential:
    """Two layers with a ReLU between: 3x3 convolutions for images, else linear ones over the features of each step."""
    like = _tensor_of(f"stage {stage}", output, 2)
    features = _features(like)
    last = _layer_like(like, features)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(_layer_like(like, features), nn.ReLU(), last)


def _layer_like(like: Tensor, features: int) -> nn.Module:
    place: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    match like.dim():
        case 4:
            return nn.Conv2d(features, features, 3, padding=1, **place)
        case 5:
            return nn.Conv3d(features, features, 3, padding=1, **place)
        case _:
            return nn.Linear(features, features, **place)


def _places(output: Tensor) -> int:
    """Vectors of features in a batch of outputs."""
    return output.numel() // _features(output)


def _features(like: Tensor) -> int:
    """The channels of images and volumes, else the last dimension."""
    return like.shape[1] if like.dim() > 3 else like.shape[-1]


def _tensor_of(who: str, output: Any, dimensions: int) -> Tensor:
    if isinstance(output, Tensor) and output.is_floating_point() and dimensions <= output.dim() <= 5:
        return output
    found = f"{output.dtype} of {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    raise UsageError(
        f"aux: {who} must give one floating-point tensor of {dimensions} to 5 dimensions, found {found}",
        "cut the model elsewhere, or limit `aux: {stages: ...}` to other stages",
    )


def sample_outputs(modules: Sequence[nn.Module], sample: Any) -> list[Any]:
    """The output of each module for a sample microbatch, in evaluation mode; the modules stay as they are."""
    value, outputs = copy.deepcopy(sample), []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for number, module in enumerate(modules):
            try:
                value = copy.deepcopy(module).eval()(copy.deepcopy(value))
            except Exception as error:
                raise UserCodeError(f"stage {number} raised {type(error).__name__}: {error}") from error
            outputs.append(value)
    return outputs
