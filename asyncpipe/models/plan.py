"""The built-in models as specs, from their options: what `build` makes real and `describe` prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asyncpipe.errors import UsageError
from asyncpipe.models import networks, residual_networks, reversible_networks, transformers
from asyncpipe.models.specs import Block, Shape
from asyncpipe.models.task import Task
from asyncpipe.options import read_options, suggestion

__all__ = ["NAMES", "plan"]


def plan(
    name: str,
    options: Mapping[str, object],
    sample_shape: Shape,
    classes: int,
    vocabulary: int | None = None,
    target_shape: Shape | None = None,
) -> Block:
    """The model `name` for samples of `sample_shape`; UsageError for what it cannot take.

    With a `vocabulary`, samples are token ids below it. `target_shape` is () for one class a sample, (steps,) for
    one a step, None where it is not known.
    """
    if name not in _MODELS:
        known = ", ".join(NAMES)
        raise UsageError(f"no built-in model is called {name!r}{suggestion(name, NAMES)}", f"models: {known}")
    if not sample_shape or min(sample_shape) < 1 or classes < 1:
        raise UsageError(f"model {name} takes positive sizes, found samples {sample_shape}, {classes} classes")
    kind, make = _MODELS[name]
    task = Task(name, tuple(sample_shape), classes, vocabulary, target_shape)
    return make(read_options(kind, f"model {name}", options), task)


_MODELS: dict[str, tuple[type[Any], Callable[[Any, Task], Block]]] = {
    "mlp": (networks.MlpOptions, networks.mlp),
    "convnet": (networks.ConvnetOptions, networks.convnet),
    "lstm": (networks.LstmOptions, networks.lstm),
    "deep-narrow": (networks.DeepNarrowOptions, networks.deep_narrow),
    "resnet18": (residual_networks.ResnetOptions, residual_networks.resnet18),
    "resnet50": (residual_networks.ResnetOptions, residual_networks.resnet50),
    "resnet": (residual_networks.CifarResnetOptions, residual_networks.cifar_resnet),
    "wrn": (residual_networks.WideResnetOptions, residual_networks.wide_resnet),
    "wrn-28-10": (residual_networks.WideResnet2810Options, residual_networks.wide_resnet_28_10),
    "revnet": (reversible_networks.RevnetOptions, reversible_networks.revnet),
    "gpt": (transformers.GptOptions, transformers.gpt),
    "vit-tiny": (transformers.VitOptions, transformers.vit_tiny),
    "mixer": (transformers.MixerOptions, transformers.mixer),
}

NAMES = tuple(_MODELS)
