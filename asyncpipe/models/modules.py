"""The built-in models as torch modules."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from asyncpipe.errors import InternalError
from asyncpipe.models import specs
from asyncpipe.models.describe import group_layers

__all__ = ["LastStep", "Recurrent", "Residual", "Rows", "module_of", "split_layers"]


class Rows(nn.Module):
    """Images as sequences of rows: (batch, channels, height, width) -> (batch, height, channels * width)."""

    def forward(self, images: Tensor) -> Tensor:
        return images.transpose(1, 2).flatten(2)


class Recurrent(nn.Module):
    """One LSTM layer from zero state: (batch, steps, inputs) -> (batch, steps, hidden), the outputs only."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)

    def forward(self, sequence: Tensor) -> Tensor:
        outputs: Tensor = self.lstm(sequence)[0]
        return outputs


class LastStep(nn.Module):
    """(batch, steps, features) -> (batch, features)."""

    def forward(self, sequence: Tensor) -> Tensor:
        return sequence[:, -1]


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


def module_of(spec: specs.ModuleSpec) -> nn.Module:
    """The torch module of a spec, initialised by torch's defaults from the global generator."""
    match spec:
        case specs.Block(children):
            return sequential(children)
        case specs.Residual(body):
            return Residual(module_of(body))
        case specs.Linear(inputs, outputs):
            return nn.Linear(inputs, outputs)
        case specs.Convolution(inputs, outputs, bias):
            return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=bias)
        case specs.BatchNorm(channels):
            return nn.BatchNorm2d(channels)
        case specs.LayerNorm(features):
            return nn.LayerNorm(features)
        case specs.Recurrent(inputs, hidden):
            return Recurrent(inputs, hidden)
        case specs.Embedding(vocabulary, features):
            return nn.Embedding(vocabulary, features)
    return _module_without_parameters(spec)


def sequential(children: tuple[tuple[str, specs.ModuleSpec], ...]) -> nn.Sequential:
    """Children in order, under their names."""
    return nn.Sequential(OrderedDict((name, module_of(child)) for name, child in children))


def split_layers(model: nn.Sequential) -> tuple[tuple[str, nn.Sequential], ...]:
    """The layers of a model, named; they share the model's modules and together compute what it computes."""
    layers = group_layers(tuple(model._modules.items()), _has_parameters)  # named_children() skips repeats
    return tuple((name, nn.Sequential(OrderedDict(parts))) for name, parts in layers)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _module_without_parameters(spec: specs.ModuleSpec) -> nn.Module:
    match spec:
        case specs.Relu():
            return nn.ReLU()
        case specs.MaxPool():
            return nn.MaxPool2d(2)
        case specs.Flatten():
            return nn.Flatten()
        case specs.Rows():
            return Rows()
        case specs.LastStep():
            return LastStep()
    raise InternalError(f"no torch module for {spec}")
