"""cuDNN's recurrent layers as operations of a traced graph, with all their steps in one kernel launch or few.

asyncpipe::cudnn_weights puts a layer's weights together in cuDNN's own order; a backward does so again from the
weights that it is to read. The operations exist on CUDA only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asyncpipe.runtime.traced.torch_tracing import pack_for_cudnn

__all__ = ["KINDS", "cudnn_recurrent"]

KINDS = {"rnn_relu": 0, "rnn_tanh": 1, "lstm": 2, "gru": 3}
"""torch's functions by cudnnRNNMode_t."""

_SHAPE = "int mode, int hidden, int projection, int layers, bool batch_first, bool bidirectional"
_ops = torch.ops.asyncpipe


def cudnn_recurrent(
    name: str,
    value: Tensor,
    state: Any,
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """(outputs, hidden) or, of an LSTM, (outputs, hidden, cell), as torch's functions give them without dropout."""
    hidden, cell = state if isinstance(state, tuple) else (state, None)
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        value, hidden, cell = value.to(dtype), hidden.to(dtype), None if cell is None else cell.to(dtype)
        weights = [weight.to(dtype) for weight in weights]
    units = (hidden if cell is None else cell).shape[2]
    projection = 0 if hidden.shape[2] == units else hidden.shape[2]
    shape = (KINDS[name], units, projection, layers, batch_first, bidirectional)
    packed = _ops.cudnn_weights([weight.detach() for weight in weights], value.shape[2], *shape)
    value, hidden, cell = value.contiguous(), hidden.contiguous(), None if cell is None else cell.contiguous()
    *found, _ = _ops.cudnn_recurrent(value, list(weights), packed, hidden, cell, *shape)
    return tuple(found if cell is not None else found[:2])


torch.library.define("asyncpipe::cudnn_weights", f"(Tensor[] weights, int inputs, {_SHAPE}) -> Tensor")
torch.library.define(
    "asyncpipe::cudnn_recurrent",
    f"(Tensor input, Tensor[] weights, Tensor packed, Tensor hidden_state, Tensor? cell, {_SHAPE})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "asyncpipe::cudnn_recurrent_backward",
    "(Tensor input, Tensor[] weights, Tensor packed, Tensor hidden_state, Tensor? cell, Tensor output, Tensor reserve,"
    f" Tensor? d_output, Tensor? d_hidden, Tensor? d_cell, {_SHAPE}) -> (Tensor, Tensor, Tensor, Tensor[])",
)


@torch.library.impl("asyncpipe::cudnn_weights", "CUDA")
def _pack(weights: list[Tensor], inputs: int, *shape: Any) -> Tensor:
    # These become views of the result, not the parameters.
    views = [weight.view(weight.shape) for weight in weights]
    return pack_for_cudnn(views, _per_layer(weights, shape), inputs, *shape)


def _fake_weights(weights: list[Tensor], inputs: int, *shape: Any) -> Tensor:
    return weights[0].new_empty(sum(weight.numel() for weight in weights))


@torch.library.impl("asyncpipe::cudnn_recurrent", "CUDA")
def _forward(
    value: Tensor, weights: list[Tensor], packed: Tensor, hidden: Tensor, cell: Tensor | None, *shape: Any
) -> tuple[Tensor, ...]:
    outputs, hidden_after, cell_after, reserve, _ = torch.ops.aten._cudnn_rnn(
        value, weights, _per_layer(weights, shape), packed, hidden, cell, *_arguments(shape)
    )
    return outputs, hidden_after, hidden.new_empty(0) if cell is None else cell_after, reserve


def _fake_forward(
    value: Tensor, weights: list[Tensor], packed: Tensor, hidden: Tensor, cell: Tensor | None, *shape: Any
) -> tuple[Tensor, ...]:
    width = hidden.shape[2] * (1 + shape[-1])
    after = value.new_empty(0) if cell is None else torch.empty_like(cell)
    # The size of the reserve is cuDNN's secret, and nothing here asks for it.
    reserve = value.new_empty(0, dtype=torch.uint8)
    return value.new_empty((*value.shape[:2], width)), torch.empty_like(hidden), after, reserve


@torch.library.impl("asyncpipe::cudnn_recurrent_backward", "CUDA")
def _backward(
    value: Tensor,
    weights: list[Tensor],
    packed: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    output: Tensor,
    reserve: Tensor,
    d_output: Tensor | None,
    d_hidden: Tensor | None,
    d_cell: Tensor | None,
    *shape: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    mask = [True, True, cell is not None, True]
    d_value, d_h, d_c, d_weights = torch.ops.aten._cudnn_rnn_backward(
        value, weights, _per_layer(weights, shape), packed, hidden, cell, output, d_output, d_hidden, d_cell,
        *_arguments(shape), reserve, mask,
    )  # fmt: skip
    return d_value, d_h, hidden.new_empty(0) if cell is None else d_c, d_weights


def _fake_backward(
    value: Tensor, weights: list[Tensor], packed: Tensor, hidden: Tensor, cell: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    d_cell = value.new_empty(0) if cell is None else torch.empty_like(cell)
    return torch.empty_like(value), torch.empty_like(hidden), d_cell, [torch.empty_like(w) for w in weights]


def _per_layer(weights: list[Tensor], shape: Sequence[Any]) -> int:
    """Weights of one layer in one direction."""
    layers: int = shape[3]
    directions = 2 if shape[-1] else 1
    return len(weights) // (layers * directions)


def _arguments(shape: Sequence[Any]) -> tuple[Any, ...]:
    """As cuDNN's functions want them: no dropout, training, sequences of one length."""
    mode, hidden, projection, layers, batch_first, bidirectional = shape
    return mode, hidden, projection, layers, batch_first, 0.0, True, bidirectional, [], None


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    value, weights, packed, hidden, cell, *ctx.shape = inputs
    outputs, _, _, reserve = output
    ctx.has_cell = cell is not None
    ctx.save_for_backward(value, packed, hidden, outputs, reserve, *([cell] if ctx.has_cell else []), *weights)


def _gradients(ctx: Any, d_output: Any, d_hidden: Any, d_cell: Any, _: Any) -> tuple[Any, ...]:
    value, packed, hidden, outputs, reserve, *rest = ctx.saved_tensors
    cell, weights = (rest[0], rest[1:]) if ctx.has_cell else (None, rest)
    d_value, d_h, d_c, d_weights = _ops.cudnn_recurrent_backward(
        value, weights, packed, hidden, cell, outputs, reserve,
        d_output, d_hidden, d_cell if ctx.has_cell else None, *ctx.shape,
    )  # fmt: skip
    return d_value, d_weights, None, d_h, d_c if ctx.has_cell else None, *([None] * len(ctx.shape))


for _name, _fake in (
    ("cudnn_weights", _fake_weights),
    ("cudnn_recurrent", _fake_forward),
    ("cudnn_recurrent_backward", _fake_backward),
):
    torch.library.register_fake(f"asyncpipe::{_name}", _fake)
torch.library.register_autograd("asyncpipe::cudnn_recurrent", _gradients, setup_context=_save)
