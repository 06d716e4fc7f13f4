"""Evaluation of a drained model: loss and accuracy, in evaluation mode, nothing remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.runtime.losses import require_scalar
from asyncpipe.runtime.numerics import Numerics
from asyncpipe.runtime.spread import called_where_it_lies, moved_to
from asyncpipe.runtime.stage import Loss

__all__ = ["Evaluation", "evaluate"]


class Evaluation(TypedDict):
    """Means over all samples."""

    loss: float
    accuracy: float | None


def evaluate(
    model: nn.Module, loss: Loss, batches: Iterable[tuple[Any, Any]], numerics: Numerics | None = None
) -> Evaluation:
    """Mean loss and, where the targets are class numbers, accuracy. UsageError without batches.

    A class has its logits in the last dimension of the output. Of a sequence each step counts; negative targets,
    which torch's cross entropy ignores, do not.
    """
    total, correct, samples, classified = 0.0, 0, 0, 0
    numerics = numerics or Numerics()
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), _evaluating(model), called_where_it_lies(model), numerics.computing(device):
        for inputs, targets in batches:
            inputs, targets = tree_map_only(Tensor, _to(device), (inputs, targets))
            try:
                outputs = model(numerics.inputs(inputs))
                targets = moved_to(outputs, targets)
                value = float(require_scalar(loss(outputs, targets)))
            except UsageError:
                raise
            except Exception as error:
                raise UserCodeError(f"evaluation: {type(error).__name__}: {error}") from error
            size = len(targets) if isinstance(targets, Tensor) and targets.dim() else 1
            total += value * size
            samples += size
            if _are_classes(outputs, targets):
                correct += int((outputs.argmax(-1) == targets).sum())
                classified += int((targets >= 0).sum())
    if not samples:
        raise UsageError("there are no batches to evaluate on")
    return {"loss": total / samples, "accuracy": correct / classified if classified else None}


def _to(device: torch.device) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(device)


def _are_classes(outputs: Any, targets: Any) -> bool:
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return False
    return targets.dim() > 0 and outputs.shape[:-1] == targets.shape and not targets.is_floating_point()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards every submodule is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
