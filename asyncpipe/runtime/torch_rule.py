"""Any class of torch.optim as the optimizer of a stage."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError, UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizer_options import suggestion
from asyncpipe.runtime.update_rule import Arithmetic, ParameterState

__all__ = ["TorchRule", "find_optimizer_class"]

PREFIX = "torch.optim."
OWN = {"params", "lr", "foreach", "fused", "capturable", "differentiable"}
"""Arguments that are not the user's: given otherwise, or without a meaning here."""


class TorchRule:
    """One instance of `optimizer_class` on shadow parameters: they share storage, not version counters."""

    concurrent = False
    repeats = False
    """What a class keeps on the host is its own affair."""
    generators: Sequence[torch.Generator] = ()

    def __init__(
        self,
        arena: Arena,
        optimizer_class: type[torch.optim.Optimizer],
        lr: float,
        options: Mapping[str, object],
        arithmetic: Arithmetic,
    ) -> None:
        _refuse_unusable(optimizer_class)
        extra = _require_options(optimizer_class, options, arithmetic)
        self._shadows = {
            i: nn.Parameter(view) for i, view in enumerate(arena.views) if arena.layout.places[i].trainable
        }
        self._places = len(arena.views)
        # torch.optim refuses an empty list, but a stage may well have nothing to train.
        self._optimizer = (
            _construct(optimizer_class, list(self._shadows.values()), {"lr": lr, **options, **extra})
            if self._shadows
            else None
        )

    @property
    def state_bytes(self) -> int:
        states = self._optimizer.state.values() if self._optimizer else ()
        values = (value for state in states for value in state.values())
        return sum(value.nbytes for value in values if isinstance(value, Tensor))

    def apply(self, gradients: Sequence[Tensor | None], lr: float) -> None:
        if self._optimizer is None:
            return
        for i, shadow in self._shadows.items():
            shadow.grad = gradients[i]
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        for shadow in self._shadows.values():
            shadow.grad = None

    def parameter_states(self) -> list[ParameterState]:
        states: list[ParameterState] = [{} for _ in range(self._places)]
        for i, shadow in self._shadows.items():
            # `get`: the state is a defaultdict, and a look-up would make an entry.
            kept = self._optimizer.state.get(shadow, {}) if self._optimizer else {}
            states[i] = {key: _copy(value) for key, value in kept.items()}
        return states

    def load_parameter_states(self, states: Sequence[ParameterState]) -> None:
        if self._optimizer is None:
            return
        kept = [states[i] for i in self._shadows]
        loaded = {
            position: {key: _copy(value) for key, value in state.items()}
            for position, state in enumerate(kept)
            if state
        }
        groups = self._optimizer.state_dict()["param_groups"]
        try:
            self._optimizer.load_state_dict({"state": loaded, "param_groups": groups})
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            title = _title(type(self._optimizer))
            raise CheckpointError(f"{title} refuses the saved state: {error}") from error


def find_optimizer_class(use: str) -> type[torch.optim.Optimizer]:
    """The class that "torch.optim.NAME" names; UsageError where there is none."""
    known = [name for name in dir(torch.optim) if _is_optimizer(getattr(torch.optim, name))]
    name = use.removeprefix(PREFIX)
    if name not in known:
        raise UsageError(
            f"torch.optim has no optimizer {name!r}{suggestion(name, known)}", f"there are {', '.join(known)}"
        )
    found: type[torch.optim.Optimizer] = getattr(torch.optim, name)
    return found


def _is_optimizer(candidate: object) -> bool:
    is_class = isinstance(candidate, type) and issubclass(candidate, torch.optim.Optimizer)
    return is_class and candidate is not torch.optim.Optimizer


def _title(optimizer_class: type[torch.optim.Optimizer]) -> str:
    name = optimizer_class.__name__
    return PREFIX + name if getattr(torch.optim, name, None) is optimizer_class else name


def _refuse_unusable(optimizer_class: type[torch.optim.Optimizer]) -> None:
    title = _title(optimizer_class)
    if not _is_optimizer(optimizer_class):
        raise UsageError(f"expected a subclass of torch.optim.Optimizer, found {optimizer_class!r}")
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise UsageError(
            f"{title} evaluates the loss again inside its step, but a stage sees only gradients",
            "choose an optimizer whose step needs no closure",
        )
    if issubclass(optimizer_class, torch.optim.SparseAdam):
        raise UsageError(f"{title} takes sparse gradients, but stages deliver dense ones", "choose adam")


def _require_options(
    optimizer_class: type[torch.optim.Optimizer], options: Mapping[str, object], arithmetic: Arithmetic
) -> dict[str, object]:
    """UsageError for options that the constructor lacks; returns the arguments that choose the arithmetic."""
    title = _title(optimizer_class)
    arguments = inspect.signature(optimizer_class).parameters
    if arithmetic == "fused" and "fused" not in arguments:
        raise UsageError(f"{title} has no fused arithmetic", "leave out `arithmetic: fused`")
    if "lr" not in arguments:
        raise UsageError(f"{title} takes no lr", "give its constructor an argument `lr`, as torch.optim does")
    allowed = [name for name in arguments if name not in OWN]
    open_ended = any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values())
    problems = [
        f"{title} has no option {name!r}{suggestion(name, allowed)}"
        for name in options
        if name in OWN or not (open_ended or name in allowed)
    ]
    if problems:
        raise UsageError("; ".join(problems), f"options of {title}: {', '.join(allowed)}")
    return {"fused": True} if arithmetic == "fused" else {}


def _construct(
    optimizer_class: type[torch.optim.Optimizer], parameters: list[nn.Parameter], arguments: dict[str, object]
) -> torch.optim.Optimizer:
    try:
        return optimizer_class(parameters, **arguments)  # type: ignore[arg-type]
    except Exception as error:
        # Whatever the constructor raises, it is about the arguments: there is nothing else it could see.
        raise UsageError(f"{_title(optimizer_class)} refuses its arguments: {error}") from error


def _copy(value: Tensor | float) -> Tensor | float:
    return value.clone() if isinstance(value, Tensor) else value
