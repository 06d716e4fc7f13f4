"""The built-in optimizers: sgd, adam, adamw and nadam, with their state in arenas like the parameters'."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from asyncpipe.errors import CheckpointError, UsageError
from asyncpipe.kernels.adam import adam, adam_fused
from asyncpipe.kernels.nadam import nadam
from asyncpipe.kernels.sgd import sgd, sgd_fused
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizer_options import read_options
from asyncpipe.runtime.update_rule import Arithmetic, ParameterState

__all__ = ["BuiltinRule"]

KERNELS: Mapping[tuple[str, Arithmetic], Callable[..., None]] = {
    ("sgd", "default"): sgd,
    ("sgd", "fused"): sgd_fused,
    ("adam", "default"): adam,
    ("adam", "fused"): adam_fused,
    ("adamw", "default"): functools.partial(adam, decoupled_weight_decay=True),
    ("adamw", "fused"): functools.partial(adam_fused, decoupled_weight_decay=True),
    ("nadam", "default"): nadam,
}


class BuiltinRule:
    """One kernel, its options, and one state; `use` is a name in `optimizer_options.OPTIONS`."""

    concurrent = True

    def __init__(self, arena: Arena, use: str, options: Mapping[str, object], arithmetic: Arithmetic) -> None:
        values = read_options(use, options)
        self._kernel = functools.partial(_choose_kernel(arena, use, arithmetic), **values)
        self._arena = arena
        self._groups = _indices_by_dtype(arena)
        self._steps = [0] * len(arena.views)
        self._states = _new_states(arena, use, values)

    @property
    def state_bytes(self) -> int:
        storages = (tensor.untyped_storage() for tensors in self._states.values() for tensor in tensors)
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        for group in self._groups:
            present = [(i, gradient) for i in group if (gradient := gradients[i]) is not None]
            chosen = [i for i, _ in present]
            for i in chosen:
                self._steps[i] += 1
            self._kernel(
                [self._arena.views[i] for i in chosen],
                [gradient for _, gradient in present],
                *([tensors[i] for i in chosen] if tensors else [] for tensors in self._states.values()),
                [self._steps[i] for i in chosen],
                lr=lr,
            )

    def parameter_states(self) -> list[ParameterState]:
        return [self._parameter_state(i) if step else {} for i, step in enumerate(self._steps)]

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        kept = {key: tensors for key, tensors in self._states.items() if tensors}
        for i, state in enumerate(states):
            expected = {key: tuple(tensors[i].shape) for key, tensors in kept.items()} | {"step": ()}
            _require_fit(self._arena.names[i], state, expected)
        for i, state in enumerate(states):
            self._steps[i] = int(state.get("step", 0))
            for key, tensors in kept.items():
                tensors[i].copy_(torch.as_tensor(state.get(key, _initial(key))))

    def _parameter_state(self, i: int) -> ParameterState:
        tensors = {key: tensors[i].clone() for key, tensors in self._states.items() if tensors}
        return {"step": self._steps[i], **tensors}


def _choose_kernel(arena: Arena, use: str, arithmetic: Arithmetic) -> Callable[..., None]:
    if (use, arithmetic) not in KERNELS:
        raise UsageError(f"optimizer {use} has no fused arithmetic", "leave out `arithmetic: fused`")
    complex_names = [place.name for place in arena.layout.places if place.dtype.is_complex]
    if arithmetic == "fused" and complex_names:
        raise UsageError(
            f"fused arithmetic needs real parameters, found complex {', '.join(complex_names)}",
            "leave out `arithmetic: fused`",
        )
    return KERNELS[use, arithmetic]


def _indices_by_dtype(arena: Arena) -> list[list[int]]:
    """Kernels take tensors of one dtype at a time; parameters that are not trainable belong to no group."""
    places = [(i, place) for i, place in enumerate(arena.layout.places) if place.trainable]
    return [[i for i, place in places if place.dtype == dtype] for dtype in arena.layout.lengths]


def _new_states(arena: Arena, use: str, options: Mapping[str, object]) -> dict[str, list[Tensor]]:
    """The state lists in the order in which the kernel takes them; an unused one is empty."""
    if use == "sgd":
        return {"momentum_buffer": arena.like().views if options["momentum"] else []}
    moments = {"exp_avg": arena.like().views, "exp_avg_sq": arena.like().views}
    if use == "nadam":
        return moments | {"mu_product": [_new_product() for _ in arena.views]}
    return moments | {"max_exp_avg_sq": arena.like().views if options["amsgrad"] else []}


def _new_product() -> Tensor:
    # torch.optim keeps this scalar in double precision only where that is the default dtype.
    double = torch.get_default_dtype() == torch.float64
    return torch.ones((), dtype=torch.float64 if double else torch.float32)


def _initial(key: str) -> float:
    return 1.0 if key == "mu_product" else 0.0


def _require_fit(name: str, state: ParameterState, expected: Mapping[str, tuple[int, ...]]) -> None:
    """A state is empty, or has exactly the expected entries with their shapes."""
    found = {key: tuple(torch.as_tensor(value).shape) for key, value in state.items()}
    if found and found != expected:
        raise CheckpointError(
            f"optimizer state of {name}: expected entries of shapes {dict(expected)}, found {found}",
            "resume with the optimizer and the options that wrote the checkpoint",
        )
