"""Recurrent layers as single operations: torch's own decompositions unroll them into thousands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from asyncpipe.runtime.traced.cudnn_recurrent import KINDS, cudnn_recurrent
from asyncpipe.runtime.traced.torch_tracing import onednn_is_enabled

__all__ = ["WholeRecurrentLayers", "keep_workspace"]

_onednn_layer = torch.ops.aten.mkldnn_rnn_layer.default
_ONEDNN_LSTM = 2
"""oneDNN's number of that kind of layer."""
_ONEDNN_TYPES = (torch.float32, torch.bfloat16)

Run = Callable[..., tuple[Tensor, ...]]


class WholeRecurrentLayers(TorchFunctionMode):
    """What nn.LSTM, nn.GRU and nn.RNN call becomes operations of cuDNN on CUDA; an LSTM, oneDNN's on the CPU, which
    has none for the others. Packed sequences stay as they are.

    Dropout between layers is applied here: cuDNN's would keep a state that microbatches share, and torch's
    decompositions forget it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name not in KINDS or kwargs or len(args) != 9 or not isinstance(args[3], bool):
            return func(*args, **(kwargs or {}))
        layers, dropout, train = args[4:7]
        run = _function(name, func, args[0], args[1])
        if dropout and train and layers > 1:
            return _layer_by_layer(run, *args)
        return run(*args)


def _function(name: str, func: Run, value: Tensor, state: Any) -> Run:
    """One that does without dropout."""
    if value.is_cuda:
        return partial(cudnn_recurrent, name)
    if name == "lstm" and state[0].shape == state[1].shape:
        return _onednn_lstm if onednn_is_enabled() and state[0].dtype in _ONEDNN_TYPES else func
    return func


def _layer_by_layer(
    run: Run,
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
    value = value.transpose(0, 1) if batch_first else value
    states = state if isinstance(state, tuple) else (state,)
    last = []
    for layer in range(layers):
        own_weights = weights[layer * len(weights) // layers : (layer + 1) * len(weights) // layers]
        own = tuple(part.chunk(layers)[layer] for part in states)
        given = own if isinstance(state, tuple) else own[0]
        value, *after = run(value, given, own_weights, has_biases, 1, 0.0, train, bidirectional, False)
        last.append(after)
        if layer < layers - 1:
            value = torch.dropout(value, dropout, train)
    return value.transpose(0, 1) if batch_first else value, *map(torch.cat, zip(*last, strict=True))


def _onednn_lstm(
    value: Tensor,
    state: tuple[Tensor, Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """(outputs, hidden, cell) as torch's eager LSTM computes them on the CPU, without dropout."""
    directions = 2 if bidirectional else 1
    per_layer = len(weights) // (layers * directions)
    last: list[list[Tensor]] = [[], []]
    value = (value.transpose(0, 1) if batch_first else value).contiguous()
    hidden, cell = (part.contiguous() for part in state)
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            own = list(weights[index * per_layer : (index + 1) * per_layer])
            own = own if has_biases else [*own, *(torch.zeros_like(weight) for weight in own)]
            y, *after, _ = _onednn_layer(
                value, *own, hidden[index], cell[index], direction > 0, [], _ONEDNN_LSTM, hidden.shape[2], layers,
                has_biases, bidirectional, batch_first, train,
            )  # fmt: skip
            outputs.append(y)
            for states, one in zip(last, after, strict=True):
                states.append(one)
        value = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    return value.transpose(0, 1) if batch_first else value, torch.stack(last[0]), torch.stack(last[1])


def keep_workspace(graph: fx.Graph) -> None:
    """oneDNN gives what its backward needs only where gradients are enabled; no tensor here asks for one."""
    for node in graph.find_nodes(op="call_function", target=_onednn_layer):
        node.target = _training_layer


def _training_layer(*arguments: Any) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        result: tuple[Tensor, ...] = _onednn_layer(*arguments)
    return result
