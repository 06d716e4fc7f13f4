"""The built-in optimizers: sgd, adam, adamw, nadam, lion and muon, with their state in arenas like the parameters'."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asyncpipe.errors import UsageError
from asyncpipe.kernels.adam import adam, adam_fused
from asyncpipe.kernels.lion import lion
from asyncpipe.kernels.muon import is_matrix, muon
from asyncpipe.kernels.nadam import nadam
from asyncpipe.kernels.sgd import sgd, sgd_fused
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizer_options import read_non_negative, read_options
from asyncpipe.runtime.update_rule import Arithmetic, ParameterState, require_fit

__all__ = ["BuiltinRule", "split_muon_options"]

KERNELS: Mapping[tuple[str, Arithmetic], Callable[..., None]] = {
    ("sgd", "default"): sgd,
    ("sgd", "fused"): sgd_fused,
    ("adam", "default"): adam,
    ("adam", "fused"): adam_fused,
    ("adamw", "default"): functools.partial(adam, decoupled_weight_decay=True),
    ("adamw", "fused"): functools.partial(adam_fused, decoupled_weight_decay=True),
    ("nadam", "default"): nadam,
    ("lion", "default"): lion,
    ("muon", "default"): muon,
    ("muon", "fused"): functools.partial(muon, batched=True),
}
STATES: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "nadam": ("exp_avg", "exp_avg_sq", "mu_product"),
    "lion": ("exp_avg",),
    "muon": ("momentum_buffer",),
}
"""What each kernel takes, in its order, under torch.optim's names."""
NEEDED_BY: Mapping[tuple[str, str], str] = {
    ("sgd", "momentum_buffer"): "momentum",
    ("adam", "max_exp_avg_sq"): "amsgrad",
    ("adamw", "max_exp_avg_sq"): "amsgrad",
}
"""The option without which a state is not kept; the kernel then takes an empty list."""
ADAMW = "adamw_"
COUNTING = ("adam", "adamw", "nadam")
"""Those whose factors follow from the number of the step."""


@dataclass(frozen=True)
class Part:
    """The views of an arena that one kernel updates, its options, and its rate as a multiple of the stage's."""

    use: str
    options: Mapping[str, object]
    indices: list[int]
    rate: float = 1.0

    @property
    def kept(self) -> list[str]:
        needed_by = ((key, NEEDED_BY.get((self.use, key))) for key in STATES[self.use])
        return [key for key, option in needed_by if option is None or self.options[option]]


@dataclass(frozen=True)
class Group:
    """The trainable views of one part and one dtype: what one call of `kernel` takes."""

    kernel: Callable[..., None]
    states: tuple[str, ...]
    indices: list[int]
    rate: float


class BuiltinRule:
    """Kernels, their options, and one state; `use` is a name in `optimizer_options.OPTIONS`."""

    concurrent = True
    generators: Sequence[torch.Generator] = ()

    def __init__(self, arena: Arena, use: str, options: Mapping[str, object], arithmetic: Arithmetic) -> None:
        parts = _divide(arena, use, read_options(use, options))
        self._arena = arena
        self._groups = [group for part in parts for group in _groups(arena, part, arithmetic)]
        self.repeats = not any(part.use in COUNTING and any(arena.trainable[i] for i in part.indices) for part in parts)
        self._steps = [0] * len(arena.views)
        self._states = _new_states(arena, parts)

    @property
    def state_bytes(self) -> int:
        storages = (tensor.untyped_storage() for state in self._states for tensor in state.values())
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def apply(self, gradients: Sequence[Tensor | None], lr: float, views: Sequence[Tensor] | None = None) -> None:
        """`views`: to change instead of the arena's."""
        views = self._arena.views if views is None else views
        for group in self._groups:
            present = [(i, gradient) for i in group.indices if (gradient := gradients[i]) is not None]
            chosen = [i for i, _ in present]
            for i in chosen:
                self._steps[i] += 1
            group.kernel(
                [views[i] for i in chosen],
                [gradient for _, gradient in present],
                *([state[key] for i in chosen if key in (state := self._states[i])] for key in group.states),
                [self._steps[i] for i in chosen],
                lr=lr * group.rate,
            )

    def parameter_states(self) -> list[ParameterState]:
        return [self._parameter_state(i) if step else {} for i, step in enumerate(self._steps)]

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        for name, kept, state in zip(self._arena.names, self._states, states, strict=True):
            expected = {key: tuple(tensor.shape) for key, tensor in kept.items()} | {"step": ()}
            require_fit(name, state, expected)
        for i, (kept, state) in enumerate(zip(self._states, states, strict=True)):
            self._steps[i] = int(state.get("step", 0))
            for key, tensor in kept.items():
                tensor.copy_(torch.as_tensor(state.get(key, _initial(key))))

    def _parameter_state(self, i: int) -> ParameterState:
        return {"step": self._steps[i], **{key: tensor.clone() for key, tensor in self._states[i].items()}}


def _divide(arena: Arena, use: str, values: Mapping[str, object]) -> list[Part]:
    """One part, except for muon: it updates matrices and leaves the other parameters to AdamW."""
    everything = list(range(len(arena.views)))
    if use != "muon":
        return [Part(use, values, everything)]
    matrices = [i for i in everything if is_matrix(arena.views[i])]
    _require_real("optimizer muon", arena, [i for i in matrices if arena.trainable[i]], "choose adamw")
    for_matrices, for_adamw, ratio = split_muon_options(values)
    return [
        Part("muon", for_matrices, matrices),
        Part("adamw", read_options("adamw", for_adamw), [i for i in everything if i not in set(matrices)], ratio),
    ]


def split_muon_options(values: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object], float]:
    """Those for matrices, those of AdamW for the rest, and its rate as a multiple of the matrices'."""
    for_adamw = {name.removeprefix(ADAMW): value for name, value in values.items() if name.startswith(ADAMW)}
    ratio = read_non_negative(for_adamw.pop("lr_ratio"))
    return {name: value for name, value in values.items() if not name.startswith(ADAMW)}, for_adamw, ratio


def _groups(arena: Arena, part: Part, arithmetic: Arithmetic) -> list[Group]:
    """Kernels take tensors of one dtype at a time; parameters that are not trainable belong to no group."""
    kernel = functools.partial(_choose_kernel(arena, part.use, arithmetic), **part.options)
    places = [(i, arena.layout.places[i]) for i in part.indices]
    by_dtype = ([i for i, at in places if at.trainable and at.dtype == dtype] for dtype in arena.layout.lengths)
    return [Group(kernel, STATES[part.use], indices, part.rate) for indices in by_dtype]


def _choose_kernel(arena: Arena, use: str, arithmetic: Arithmetic) -> Callable[..., None]:
    if (use, arithmetic) not in KERNELS:
        raise UsageError(f"optimizer {use} has no fused arithmetic", "leave out `arithmetic: fused`")
    if arithmetic == "fused":
        _require_real("fused arithmetic", arena, range(len(arena.views)), "leave out `arithmetic: fused`")
    return KERNELS[use, arithmetic]


def _require_real(what: str, arena: Arena, indices: Iterable[int], hint: str) -> None:
    names = [arena.names[i] for i in indices if arena.views[i].is_complex()]
    if names:
        raise UsageError(f"{what} needs real parameters, found complex {', '.join(names)}", hint)


def _new_states(arena: Arena, parts: Sequence[Part]) -> list[dict[str, Tensor]]:
    """For each view what is kept of it, by name."""
    states: list[dict[str, Tensor]] = [{} for _ in arena.views]
    for part in parts:
        for key in part.kept:
            for i, tensor in zip(part.indices, _new_state(arena, part.indices, key), strict=True):
                states[i][key] = tensor
    return states


def _new_state(arena: Arena, indices: Sequence[int], key: str) -> list[Tensor]:
    if key == "mu_product":
        return [_new_product() for _ in indices]
    if len(indices) == len(arena.views):
        return arena.like().views
    # The offsets of a whole arena, but not its size.
    return Arena.of((arena.names[i], arena.views[i]) for i in indices).like().views


def _new_product() -> Tensor:
    # torch.optim keeps this scalar in double precision only where that is the default dtype.
    double = torch.get_default_dtype() == torch.float64
    return torch.ones((), dtype=torch.float64 if double else torch.float32)


def _initial(key: str) -> float:
    return 1.0 if key == "mu_product" else 0.0
