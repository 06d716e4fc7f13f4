"""How a training keeps and computes its numbers: their type, autocast, the order in memory, compiled stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from asyncpipe.errors import UsageError, did_you_mean
from asyncpipe.runtime.autocast import autocasting

__all__ = ["NUMERICS", "Numerics", "SinglePrecisionLoss", "read_numerics"]

NUMERICS: Mapping[str, tuple[str, ...]] = {
    "autocast": ("none", "bf16"),
    "dtype": ("preserve", "bf16"),
    "memory_format": ("preserve", "channels_last"),
    "compile": ("none", "inductor"),
}
"""What can be chosen; the first is the default, and changes nothing."""

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Numerics:
    """autocast: forwards compute in bfloat16 where torch.autocast says so. dtype: of parameters, buffers and inputs.
    memory_format: of images and the weights of convolutions. compile: of traced stages.
    """

    autocast: str = "none"
    dtype: str = "preserve"
    memory_format: str = "preserve"
    compile: str = "none"

    def __post_init__(self) -> None:
        for one in fields(self):
            found, known = getattr(self, one.name), NUMERICS[one.name]
            if found not in known:
                raise UsageError(f"{one.name} must be {' or '.join(known)}, found {found!r}")

    @property
    def is_compiled(self) -> bool:
        return self.compile != "none"

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """What forwards compute in; None for the type of what they get."""
        return torch.bfloat16 if self.autocast == "bf16" else None

    @property
    def parameter_dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.dtype == "bf16" else None

    @property
    def words(self) -> dict[str, str]:
        """All four, by name."""
        return asdict(self)

    def convert(self, model: nn.Module) -> None:
        """Its parameters and buffers, in place; they stay the same objects. Integers keep their type."""
        if self.parameter_dtype is not None:
            model.to(dtype=self.parameter_dtype)
        if self.memory_format == "channels_last":
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def inputs(self, value: Any) -> Any:
        """An input as the converted model takes it; what is so already is not copied."""
        return tree_map_only(Tensor, self._input, value)

    def _input(self, tensor: Tensor) -> Tensor:
        if self.parameter_dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(self.parameter_dtype)
        if self.memory_format == "channels_last" and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def loss(self, loss: Loss) -> Loss:
        """In float32, whatever the outputs of the model are: eight bits are too few for a mean over many samples."""
        return loss if self.parameter_dtype is None else SinglePrecisionLoss(loss)

    def computing(self, device: torch.device) -> AbstractContextManager[None]:
        """Forwards within compute as those of a training do."""
        return autocasting(device.type, self.autocast_dtype)


@dataclass(frozen=True)
class SinglePrecisionLoss:
    """`loss` of outputs in float32."""

    of: Loss

    def __call__(self, output: Any, target: Any) -> Tensor:
        return self.of(tree_map_only(Tensor, _single, output), target)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def read_numerics(values: Mapping[str, Any]) -> Numerics:
    """UsageError for an unknown name or value."""
    if not isinstance(values, Mapping):
        raise UsageError(f"numerics: expected a mapping, found {type(values).__name__}", 'as in {"autocast": "bf16"}')
    for name in values:
        if name not in NUMERICS:
            raise UsageError(f"numerics has no key {name!r}", did_you_mean(str(name), list(NUMERICS)))
    return Numerics(**values)
