"""What a user can get wrong about an optimizer, and the defaults."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizer_options import OPTIONS
from asyncpipe.runtime.optimizers import OptimizerSpec, make_optimizer

CLASSES = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "muon": torch.optim.Muon,
}


class WithoutRate(torch.optim.Optimizer):
    """A class that no learning rate reaches."""

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {})


def new_arena() -> Arena:
    return Arena.of(nn.Linear(3, 2).named_parameters())


@pytest.mark.parametrize("use", CLASSES)
def test_options_and_defaults_are_those_of_torch(use: str) -> None:
    arguments = inspect.signature(CLASSES[use]).parameters
    ours = {name: option.default for name, option in OPTIONS[use].items() if not name.startswith("adamw_")}
    left_out = {"params", "lr", "foreach", "fused", "capturable", "differentiable"}
    assert ours == {name: argument.default for name, argument in arguments.items() if name not in left_out}


def test_lion_has_the_defaults_of_its_paper() -> None:
    defaults = {name: option.default for name, option in OPTIONS["lion"].items()}
    assert defaults == {"betas": (0.9, 0.99), "weight_decay": 0.0, "maximize": False}
    assert OPTIONS.keys() == CLASSES.keys() | {"lion"}


def test_muon_gives_adamw_the_defaults_of_torch() -> None:
    prefix = "adamw_"
    ours = {name.removeprefix(prefix): o.default for name, o in OPTIONS["muon"].items() if name.startswith(prefix)}
    assert ours.pop("lr_ratio") == 1
    assert ours == {name: OPTIONS["adamw"][name].default for name in ("betas", "eps", "weight_decay")}


@pytest.mark.parametrize(
    ("use", "options", "message"),
    [
        ("sgd", {"momentun": 0.9}, r"has no option 'momentun' \(did you mean 'momentum'\?\)"),
        ("sgd", {"betas": [0.9, 0.99]}, "optimizer sgd has no option 'betas'"),
        ("sgd", {"lr": 0.1}, "optimizer sgd has no option 'lr'"),
        ("sgd", {"momentum": "0.9"}, "momentum must be a finite number of at least 0, found '0.9'"),
        ("sgd", {"momentum": True}, "momentum must be a finite number"),
        ("sgd", {"momentum": -0.1}, "momentum must be a finite number of at least 0, found -0.1"),
        ("sgd", {"dampening": math.inf}, "dampening must be a finite number, found inf"),
        ("sgd", {"nesterov": True}, "nesterov needs a momentum above 0 and a dampening of 0"),
        ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "a dampening of 0"),
        ("sgd", {"nesterov": 1}, "nesterov must be true or false, found 1"),
        ("adam", {"betas": [0.9]}, "betas must be two numbers"),
        ("adam", {"betas": [0.9, 1.0]}, "betas must be two numbers from 0 up to, but not including, 1"),
        ("adam", {"betas": "0.9"}, "betas must be two numbers"),
        ("adam", {"eps": None}, "eps must be a finite number"),
        ("adamw", {"decoupled_weight_decay": True}, "adamw has no option 'decoupled_weight_decay'"),
        ("nadam", {"amsgrad": True}, "nadam has no option 'amsgrad'"),
        ("lion", {"eps": 1e-8}, "lion has no option 'eps'"),
        ("lion", {"betas": [0.9]}, "lion: betas must be two numbers"),
        ("muon", {"adamw_beta": [0.9, 0.9]}, r"no option 'adamw_beta' \(did you mean 'adamw_betas'\?\)"),
        ("muon", {"adamw_betas": [1.0, 0.9]}, "adamw_betas must be two numbers from 0 up to"),
        ("muon", {"adamw_lr_ratio": -1}, "adamw_lr_ratio must be a finite number of at least 0, found -1"),
        ("muon", {"ns_coefficients": [1, 2]}, "ns_coefficients must be three finite numbers"),
        ("muon", {"ns_coefficients": [1, 2, math.nan]}, "ns_coefficients must be three finite numbers"),
        ("muon", {"ns_coefficients": "123"}, "ns_coefficients must be three finite numbers"),
        ("muon", {"ns_steps": 100}, "ns_steps must be a whole number from 0 to 99, found 100"),
        ("muon", {"ns_steps": 5.0}, "ns_steps must be a whole number from 0 to 99, found 5.0"),
        ("muon", {"ns_steps": True}, "ns_steps must be a whole number"),
        ("muon", {"adjust_lr_fn": "match"}, "must be null, original or match_rms_adamw, found 'match'"),
        ("muon", {"adjust_lr_fn": ["original"]}, "adjust_lr_fn must be null, original or"),
        ("torch.optim.Adagrad", {"lr_deca": 1}, r"Adagrad has no option 'lr_deca' \(did you mean 'lr_decay'"),
        ("torch.optim.Adagrad", {"foreach": True}, "torch.optim.Adagrad has no option 'foreach'"),
        ("torch.optim.Adagrad", {"lr_decay": -1.0}, "refuses its arguments: Invalid lr_decay value: -1.0"),
        ("torch.optim.Adagrad", {"lr_decay": "much"}, "torch.optim.Adagrad refuses its arguments"),
        ("torch.optim.Adagradd", {}, r"no optimizer 'Adagradd' \(did you mean 'Adagrad'\?\)"),
        ("torch.optim.Optimizer", {}, "torch.optim has no optimizer 'Optimizer'"),
        ("torch.optim.lr_scheduler", {}, "torch.optim has no optimizer 'lr_scheduler'"),
        ("torch.optim.LBFGS", {}, "LBFGS evaluates the loss again inside its step"),
        ("torch.optim.SparseAdam", {}, "SparseAdam takes sparse gradients"),
        ("SGD", {}, r"no optimizer is called 'SGD' \(did you mean 'sgd'\?\)"),
        ("package.Optimizer", {}, "no optimizer is called 'package.Optimizer'"),
        (torch.optim.LBFGS, {}, "LBFGS evaluates the loss again"),
        (torch.optim.Optimizer, {}, "expected a subclass of torch.optim.Optimizer"),
        (nn.Linear, {}, "expected a subclass of torch.optim.Optimizer"),
        (WithoutRate, {}, "WithoutRate takes no lr"),
    ],
)
def test_wrong_options_are_named(use: Any, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer(OptimizerSpec(use, 0.1, options), new_arena())


def test_every_wrong_option_is_named_at_once_with_those_allowed() -> None:
    with pytest.raises(UsageError) as caught:
        make_optimizer(OptimizerSpec("sgd", 0.1, {"momentum": -1, "nesterow": True}), new_arena())
    assert "momentum must be" in caught.value.message
    assert "did you mean 'nesterov'?" in caught.value.message
    assert all(name in caught.value.hint for name in OPTIONS["sgd"])


@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "1e-3", True, None])
@pytest.mark.parametrize("use", ["sgd", "torch.optim.Adagrad"])
def test_wrong_learning_rates_are_named(use: str, lr: Any) -> None:
    with pytest.raises(UsageError, match="lr must be a finite number of at least 0, found"):
        make_optimizer(OptimizerSpec(use, lr), new_arena())


@pytest.mark.parametrize("use", ["nadam", "lion", "torch.optim.RMSprop"])
def test_fused_arithmetic_is_refused_where_torch_has_none(use: str) -> None:
    with pytest.raises(UsageError, match=f"{use} has no fused arithmetic"):
        make_optimizer(OptimizerSpec(use, 0.1, arithmetic="fused"), new_arena())


def test_fused_arithmetic_is_refused_for_complex_parameters() -> None:
    arena = Arena.of([("phase", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))])
    with pytest.raises(UsageError, match="needs real parameters, found complex phase"):
        make_optimizer(OptimizerSpec("adam", 0.1, arithmetic="fused"), arena)


def test_muon_is_refused_for_complex_matrices_that_it_would_update() -> None:
    phase = nn.Parameter(torch.zeros(3, 2, dtype=torch.complex64))
    with pytest.raises(UsageError, match="optimizer muon needs real parameters, found complex phase"):
        make_optimizer(OptimizerSpec("muon", 0.1), Arena.of([("phase", phase)]))
    row = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    make_optimizer(OptimizerSpec("muon", 0.1), Arena.of([("phase", phase.requires_grad_(False)), ("row", row)]))


def test_unknown_arithmetic_is_refused() -> None:
    arithmetic: Any = "foreach"
    with pytest.raises(UsageError, match="must be default or fused, found 'foreach'"):
        make_optimizer(OptimizerSpec("sgd", 0.1, arithmetic=arithmetic), new_arena())
