"""Whether each stage can be traced into graphs, which is what the CUDA back ends run and capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UserError
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.divide import Division

__all__ = ["StageTrace", "trace_stages"]


@dataclass(frozen=True)
class StageTrace:
    """Of one stage: its functions, or the error with the module and the line. skipped: why it was not tried."""

    stage: int
    division: Division | None = field(default=None, repr=False)
    error: UserError | None = None
    skipped: str = ""

    @property
    def saved_bytes(self) -> int:
        """What a forward keeps for its backward, of one microbatch."""
        return 0 if self.division is None else sum(node.meta["val"].nbytes for node in self.division.saved)

    @property
    def computed_twice(self) -> int:
        """Operations that both halves of a split backward run."""
        return 0 if self.division is None else self.division.computed_twice


def trace_stages(
    modules: Sequence[nn.Module], inputs: Sequence[Any], loss: Loss, target: Any, autocast: torch.dtype | None
) -> list[StageTrace]:
    """Traces for inputs like these, which need no GPU and run no operation on data."""
    last, options = len(modules) - 1, StageOptions(autocast=autocast)
    return [
        _trace(number, module, value, loss if number == last else None, target if number == last else None, options)
        for number, (module, value) in enumerate(zip(modules, inputs, strict=True))
    ]


def _trace(
    number: int, module: nn.Module, value: Any, loss: Loss | None, target: Any, options: StageOptions
) -> StageTrace:
    if unrolled := _unrolled(module):
        return StageTrace(number, skipped=unrolled)
    try:
        stage = TracedStage(number, module, 1, False, loss, options)
        division = stage.traces.of(Call.of(_cut_off(value), target))
        division.forward.graph.graph.lint()
        return StageTrace(number, division)
    except UserError as error:
        return StageTrace(number, error=error)


def _unrolled(module: nn.Module) -> str:
    """The first recurrent layer that is one operation on CUDA, and thousands here."""
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNBase) and (not isinstance(part, nn.LSTM) or part.proj_size):
            return f"{name} ({type(part).__name__}): on the CPU torch has no single operation for it, on CUDA cuDNN has"
    return ""


def _cut_off(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else tuple(part.detach() for part in value)
