"""The built-in models as torch modules: each spec's module, with the weights that it begins with."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from asyncpipe.models import initial, layers, reversible, reversible_networks, sequence_specs, specs
from asyncpipe.models.describe import group_layers

__all__ = ["module_of", "sequential", "split_layers"]


def module_of(spec: specs.ModuleSpec) -> nn.Module:
    """The torch module of a spec; its random numbers come from torch's global generator."""
    module = _MODULES[type(spec)](spec)
    if isinstance(spec, specs.WeightedSpec) and spec.initial is not None:
        _begin(module, spec.initial)
    return module


def sequential(children: tuple[tuple[str, specs.ModuleSpec], ...]) -> nn.Sequential:
    """Children in order, under their names."""
    return nn.Sequential(OrderedDict((name, module_of(child)) for name, child in children))


def split_layers(model: nn.Sequential) -> tuple[tuple[str, nn.Sequential], ...]:
    """The layers of a model, named; they share the model's modules and together compute what it computes."""
    groups = group_layers(tuple(model._modules.items()), _has_parameters)  # named_children() skips repeats
    return tuple((name, nn.Sequential(OrderedDict(parts))) for name, parts in groups)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _residual(spec: specs.Residual) -> nn.Module:
    return layers.Residual(module_of(spec.body), None if spec.shortcut is None else module_of(spec.shortcut))


def _tied(spec: specs.Tied) -> nn.Module:
    body = module_of(spec.body)
    body.get_submodule(spec.user).weight = body.get_submodule(spec.owner).weight
    return body


def _convolution(spec: specs.Convolution) -> nn.Module:
    return nn.Conv2d(spec.inputs, spec.outputs, spec.kernel, spec.stride, spec.padding, bias=spec.bias)


def _batch_norm(spec: specs.BatchNorm) -> nn.Module:
    norm = nn.BatchNorm2d(spec.channels)
    if spec.zero:
        nn.init.zeros_(norm.weight)
    return norm


_MODULES: dict[type[specs.ModuleSpec], Callable[[Any], nn.Module]] = {
    specs.Block: lambda spec: sequential(spec.children),
    specs.Residual: _residual,
    specs.Tied: _tied,
    specs.Linear: lambda spec: nn.Linear(spec.inputs, spec.outputs, bias=spec.bias),
    specs.Convolution: _convolution,
    specs.BatchNorm: _batch_norm,
    specs.LayerNorm: lambda spec: nn.LayerNorm(spec.features, eps=spec.eps),
    specs.Relu: lambda spec: nn.ReLU(),
    specs.Gelu: lambda spec: nn.GELU(approximate="tanh" if spec.tanh else "none"),
    specs.Dropout: lambda spec: nn.Dropout(spec.probability),
    specs.MaxPool: lambda spec: nn.MaxPool2d(spec.kernel, spec.stride, spec.padding),
    specs.GlobalAveragePool: lambda spec: layers.GlobalAveragePool(),
    specs.Subsample: lambda spec: layers.Subsample(spec.outputs - spec.inputs),
    specs.Flatten: lambda spec: nn.Flatten(),
    reversible_networks.Coupling: lambda spec: reversible.Coupling(module_of(spec.f), module_of(spec.g)),
    reversible_networks.SpaceToDepth: lambda spec: reversible.SpaceToDepth(2),
    reversible_networks.RepeatedChannels: lambda spec: reversible.RepeatedChannels(spec.inputs, spec.outputs),
    sequence_specs.Rows: lambda spec: layers.Rows(),
    sequence_specs.Embedding: lambda spec: nn.Embedding(spec.vocabulary, spec.features),
    sequence_specs.Recurrent: lambda spec: layers.Recurrent(spec.inputs, spec.hidden),
    sequence_specs.FirstStep: lambda spec: layers.OneStep(0),
    sequence_specs.LastStep: lambda spec: layers.OneStep(-1),
    sequence_specs.MeanStep: lambda spec: layers.MeanStep(),
    sequence_specs.Positions: lambda spec: layers.Positions(spec.context, spec.features),
    sequence_specs.ClassToken: lambda spec: layers.ClassToken(spec.features),
    sequence_specs.PatchTokens: lambda spec: layers.PatchTokens(),
    sequence_specs.Transposed: lambda spec: layers.Transposed(module_of(spec.body)),
    sequence_specs.Attention: lambda spec: layers.Attention(spec.heads, spec.causal, spec.dropout),
}


def _begin(module: nn.Module, law: initial.Initial) -> None:
    """Draws the weight; a bias begins at zero."""
    for name, parameter in module.named_parameters(recurse=False):
        if name == "bias":
            nn.init.zeros_(parameter)
        else:
            _draw(parameter, law)


def _draw(weight: Tensor, law: initial.Initial) -> None:
    match law:
        case initial.Normal(std):
            nn.init.normal_(weight, std=std)
        case initial.TruncatedNormal(std):
            nn.init.trunc_normal_(weight, std=std)
        case initial.HeNormal():
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        case initial.LecunNormal():
            std = 1 / math.sqrt(weight[0].numel()) / _STD_OF_TRUNCATED
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
        case initial.FanInUniform():
            bound = 1 / math.sqrt(weight[0].numel())
            nn.init.uniform_(weight, -bound, bound)
        case initial.Zeros():
            nn.init.zeros_(weight)


_STD_OF_TRUNCATED = 0.87962566103423978
"""The standard deviation of a unit normal cut off at -2 and 2."""
