"""J: the whole step as one function by jax.jit, for networks whose modules have a translation here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from asyncpipe.models import layers
from asyncpipe.tools.bench.contender import Losses
from asyncpipe.tools.bench.networks import GruCell, LstmCell
from asyncpipe.tools.bench.problem import Problem

__all__ = ["jax_step", "refusal_of"]

Weights = dict[str, Any]
"""JAX arrays by the parameter's name in the torch model."""
Apply = Callable[[Any, Any], Any]


def refusal_of(problem: Problem) -> str:
    if importlib.util.find_spec("jax") is None:
        return "jax is not installed"
    if problem.workload.precision != "float32":
        return "autocast has no counterpart in jax"
    missing = {type(module).__name__ for module in problem.model().modules() if type(module) not in _TRANSLATIONS}
    if missing:
        return f"no translation to jax: {', '.join(sorted(missing))}"
    jax: Any = importlib.import_module("jax")
    if problem.on_cuda and not any(device.platform in ("gpu", "cuda") for device in jax.devices()):
        return "this jax has no CUDA"
    return ""


class JaxStep:
    """Parameters and states stay on the device, and are given away to each step."""

    def __init__(self, problem: Problem) -> None:
        self._jax: Any = importlib.import_module("jax")
        model = problem.model()
        self._weights = {name: self._array(parameter) for name, parameter in model.named_parameters()}
        self._state = _first_state(self._jax, self._weights, problem.workload.optimizer["use"])
        self._batches = [(self._array(x), self._array(y)) for x, y in problem.batches]
        self._at = 0
        self._step = _compiled_step(self._jax, model, problem)

    def _array(self, tensor: torch.Tensor) -> Any:
        return self._jax.numpy.asarray(tensor.detach().cpu().numpy())

    def train(self, updates: int, keep: Losses | None = None) -> None:
        loss = None
        losses = []
        for _ in range(updates):
            x, y = self._batches[self._at % len(self._batches)]
            self._at += 1
            self._weights, self._state, loss = self._step(self._weights, self._state, x, y)
            losses.append(loss)
        self._jax.block_until_ready((loss, self._weights))
        if keep is not None:
            keep.extend(float(value) for value in losses)


def jax_step(problem: Problem) -> JaxStep:
    return JaxStep(problem)


def _first_state(jax: Any, weights: Weights, use: str) -> Any:
    zeros = jax.tree.map(jax.numpy.zeros_like, weights)
    return zeros if use == "sgd" else (zeros, jax.tree.map(jax.numpy.zeros_like, weights), jax.numpy.zeros(()))


def _compiled_step(jax: Any, model: nn.Module, problem: Problem) -> Any:
    """(weights, state, x, y) -> (weights, state, loss)."""
    lr, use = problem.workload.lr, problem.workload.optimizer["use"]
    update = {"sgd": _sgd, "adamw": _adamw}[use]

    def loss_of(weights: Weights, x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(_apply(jax, model, "", weights, x))
        return -jax.numpy.take_along_axis(scores, y[..., None], -1).mean()

    def step(weights: Weights, state: Any, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        weights, state = update(jax, weights, gradients, state, lr)
        return weights, state, loss

    return jax.jit(step, donate_argnums=(0, 1))


def _sgd(jax: Any, weights: Weights, gradients: Weights, state: Any, lr: float) -> Any:
    momenta = jax.tree.map(lambda m, g: 0.9 * m + g, state, gradients)
    return jax.tree.map(lambda w, m: w - lr * m, weights, momenta), momenta


def _adamw(jax: Any, weights: Weights, gradients: Weights, state: Any, lr: float) -> Any:
    """Loshchilov and Hutter 2019 (arXiv 1711.05101) with torch's defaults."""
    first, second, step = state
    step = step + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def moved(w: Any, m: Any, v: Any) -> Any:
        root = jax.numpy.sqrt(v / (1 - 0.999**step)) + 1e-8
        return w * (1 - lr * 1e-2) - lr / (1 - 0.9**step) * m / root

    return jax.tree.map(moved, weights, first, second), (first, second, step)


def _apply(jax: Any, module: nn.Module, path: str, weights: Weights, x: Any) -> Any:
    """A module and those in it, whose parameters are called `path.NAME`."""
    return _TRANSLATIONS[type(module)](jax, module, path, weights, x)


def _inner(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _sequence(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    for name, child in module._modules.items():
        x = _apply(jax, child, _inner(path, name), weights, x)
    return x


def _residual(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    y = _apply(jax, module.body, _inner(path, "body"), weights, x)
    shortcut = module.shortcut
    return y + (x if shortcut is None else _apply(jax, shortcut, _inner(path, "shortcut"), weights, x))


def _linear(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    y = x @ weights[_inner(path, "weight")].T
    return y if module.bias is None else y + weights[_inner(path, "bias")]


def _layer_norm(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + module.eps)
    return scaled * weights[_inner(path, "weight")] + weights[_inner(path, "bias")]


def _convolution(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    padding = [(size, size) for size in module.padding]
    options = {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}
    y = jax.lax.conv_general_dilated(x, weights[_inner(path, "weight")], module.stride, padding, **options)
    return y if module.bias is None else y + weights[_inner(path, "bias")][:, None, None]


def _gelu(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    return jax.nn.gelu(x, approximate=module.approximate == "tanh")


def _transposed(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    y = _apply(jax, module.body, _inner(path, "body"), weights, x.swapaxes(1, 2))
    return y.swapaxes(1, 2)


def _patches(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)


def _cell_products(jax: Any, path: str, weights: Weights, step: Any, state: Any) -> Sequence[Any]:
    """What comes from the input, and what from the state."""
    names = [_inner(path, f"cell.{name}") for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
    input_weight, input_bias, state_weight, state_bias = (weights[name] for name in names)
    return step @ input_weight.T + input_bias, state @ state_weight.T + state_bias


def _lstm_cell(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    hidden = jax.numpy.zeros((x.shape[0], module.cell.hidden_size))
    memory = None
    for step in range(x.shape[1]):
        new, old = _cell_products(jax, path, weights, x[:, step], hidden)
        gates = new if memory is None else new + old
        write, keep, value, read = jax.numpy.split(gates, 4, 1)
        added = jax.nn.sigmoid(write) * jax.numpy.tanh(value)
        memory = added if memory is None else jax.nn.sigmoid(keep) * memory + added
        hidden = jax.nn.sigmoid(read) * jax.numpy.tanh(memory)
    return hidden


def _gru_cell(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    hidden = jax.numpy.zeros((x.shape[0], module.cell.hidden_size))
    for step in range(x.shape[1]):
        new, old = _cell_products(jax, path, weights, x[:, step], hidden)
        (reset, update, value), (was_reset, was_update, was_value) = (
            jax.numpy.split(part, 3, 1) for part in (new, old)
        )
        share = jax.nn.sigmoid(update + was_update)
        proposed = jax.numpy.tanh(value + jax.nn.sigmoid(reset + was_reset) * was_value)
        hidden = proposed + share * (hidden - proposed)
    return hidden


def _identity(jax: Any, module: Any, path: str, weights: Weights, x: Any) -> Any:
    return x


_TRANSLATIONS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Sequential: _sequence,
    layers.Residual: _residual,
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Conv2d: _convolution,
    nn.ReLU: lambda jax, module, path, weights, x: jax.nn.relu(x),
    nn.GELU: _gelu,
    nn.Flatten: lambda jax, module, path, weights, x: x.reshape(x.shape[0], -1),
    layers.Transposed: _transposed,
    layers.PatchTokens: _patches,
    layers.MeanStep: lambda jax, module, path, weights, x: x.mean(1),
    LstmCell: _lstm_cell,
    GruCell: _gru_cell,
    nn.LSTMCell: _identity,
    nn.GRUCell: _identity,
}
"""(jax, module, its path, weights, x) -> y. The cells themselves are never applied, only what unrolls them."""
