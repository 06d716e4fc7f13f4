"""What each layer of any module costs, from one forward pass: counts, not times, so it never varies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from asyncpipe.errors import UsageError, UserCodeError
from asyncpipe.models.describe import LayerCost

__all__ = ["measure_layers"]


def measure_layers(
    layers: Sequence[nn.Module], sample: Any, names: Sequence[str] | None = None
) -> tuple[LayerCost, ...]:
    """Costs of layers that follow each other, for the microbatch `sample`; `names` default to layer0, ...

    FLOPs are those of torch's counter plus the products inside fused kernels that it misses: LSTM, GRU, and the
    CPU's attention.
    Parameters, buffers, train flags and the random state of the sample's device stay as they are.
    UserCodeError, with the cause, where a layer raises.
    """
    names = [f"layer{index}" for index in range(len(layers))] if names is None else names
    if len(names) != len(layers):
        raise UsageError(f"expected one name for each of the {len(layers)} layers, found {len(names)}")
    costs, value = [], tree_map_only(Tensor, Tensor.clone, sample)  # a layer may write into what it is given
    devices = list(dict.fromkeys(tensor.device for tensor in _tensors(sample) if tensor.device.type == "cuda"))
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        for name, layer in zip(names, layers, strict=True):
            cost, value = _measure(name, layer, value)
            costs.append(cost)
    return tuple(costs)


def _measure(name: str, layer: nn.Module, value: Any) -> tuple[LayerCost, Any]:
    flops, work = FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION), WorkCounter()
    # Clones stand in for the buffers, so that a layer which updates its own leaves no trace.
    buffers = {key: buffer.clone() for key, buffer in layer.named_buffers()}
    with _evaluation(layer), flops, work:
        output = _forward(name, layer, buffers, value)
    parameters = list(layer.parameters())
    cost = LayerCost(
        name=name,
        forward_flops=flops.get_total_flops() + work.recurrent_flops,
        parameters=sum(parameter.numel() for parameter in parameters),
        parameter_bytes=sum(parameter.nbytes for parameter in parameters),
        activation_bytes=sum(tensor.nbytes for tensor in _tensors(output)),
        operations=work.operations,
    )
    return cost, output


def _forward(name: str, layer: nn.Module, buffers: dict[str, Tensor], value: Any) -> Any:
    try:
        return functional_call(layer, buffers, (value,))
    except Exception as error:
        raise UserCodeError(
            f"layer {name} raised {type(error).__name__} on an input of {_shapes(value)}: {error}",
            "check that the sample fits the model and that the layers follow each other in data order",
        ) from error


@contextmanager
def _evaluation(layer: nn.Module) -> Iterator[None]:
    """Evaluation mode: dropout and running statistics would make the count depend on chance and history."""
    before = [(module, module.training, dict(module._buffers)) for module in layer.modules()]
    layer.eval()
    try:
        yield
    finally:
        for module, training, buffers in before:
            module.training = training
            module._buffers.update(buffers)


class WorkCounter(TorchDispatchMode):
    """Counts operations that do work (no views, no allocations), and the FLOPs of fused recurrent ones."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.recurrent_flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket in _FUSED_RECURRENT:
            self._count_recurrent(args[0], *_FUSED_RECURRENT[func.overloadpacket](args))
        elif func.overloadpacket not in _NO_WORK and not _is_view(func):
            self.operations += 1
        return func(*args, **(kwargs or {}))

    def _count_recurrent(self, sequence: Tensor, weights: Sequence[Tensor], state: Tensor) -> None:
        # Per layer and direction: one product for all inputs, then a product and a pointwise kernel per step.
        samples_and_steps = sequence.numel() // sequence.shape[-1]
        steps = samples_and_steps // state.shape[-2]
        self.operations += len(weights) // 2 * (1 + 2 * steps)
        self.recurrent_flops += 2 * samples_and_steps * sum(weight.numel() for weight in weights)


def _is_view(func: Any) -> bool:
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _matrices(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight for weight in weights if weight.dim() == 2]


# `_unsafe_view` is a view that autograd does not know as one.
_NO_WORK = {
    torch.ops.aten.empty,
    torch.ops.aten.empty_like,
    torch.ops.aten.new_empty,
    torch.ops.aten._unsafe_view,
}


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Two products for (batch, heads, steps, features)."""
    batch, heads, steps, features = query
    return 2 * batch * heads * steps * key[2] * (features + value[3])


_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}

# From the arguments of a fused recurrent operation: its matrices, two per layer and direction, and its state.
_FUSED_RECURRENT: dict[Any, Callable[[tuple[Any, ...]], tuple[Sequence[Tensor], Tensor]]] = {
    torch.ops.aten.mkldnn_rnn_layer: lambda args: (args[1:3], args[5]),
    torch.ops.aten._cudnn_rnn: lambda args: (_matrices(args[1]), args[4]),
}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _shapes(value: Any) -> str:
    return ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in _tensors(value))
