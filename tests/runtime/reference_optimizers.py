"""The built-in optimizers that torch.optim lacks, written plainly as classes of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of arXiv 2302.06675, one parameter at a time."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.betas, self.weight_decay, self.maximize = betas, weight_decay, maximize

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        for parameter in group["params"]:
            if parameter.grad is not None:
                g = -parameter.grad if self.maximize else parameter.grad
                m = self.state[parameter].setdefault("exp_avg", torch.zeros_like(parameter))
                parameter.mul_(1 - group["lr"] * self.weight_decay)
                parameter.add_((m * self.betas[0]).add_(g, alpha=1 - self.betas[0]).sign(), alpha=-group["lr"])
                m.mul_(self.betas[1]).add_(g, alpha=1 - self.betas[1])


class MuonAndAdamW(torch.optim.Optimizer):
    """torch.optim.Muon on matrices and flattened weights of convolutions, torch.optim.AdamW on all else."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, **options: Any) -> None:
        super().__init__(params, {"lr": lr})
        adamw = {name.removeprefix("adamw_"): value for name, value in options.items() if name.startswith("adamw_")}
        self.ratio = adamw.pop("lr_ratio", 1.0)
        (group,) = self.param_groups
        # Parameters of their own over the same memory: a matrix for each weight of a convolution.
        self.twins = [nn.Parameter(p.detach().flatten(1) if p.ndim == 4 else p.detach()) for p in group["params"]]
        matrices = [twin for twin in self.twins if twin.ndim == 2]
        others = [twin for twin in self.twins if twin.ndim != 2]
        own = {name: value for name, value in options.items() if not name.startswith("adamw_")}
        self.inner: list[tuple[torch.optim.Optimizer, float]] = []
        if matrices:
            self.inner.append((torch.optim.Muon(matrices, lr=lr, **own), 1.0))
        if others:
            self.inner.append((torch.optim.AdamW(others, lr=lr, **adamw), self.ratio))

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        for parameter, twin in zip(group["params"], self.twins, strict=True):
            twin.grad = None if parameter.grad is None else parameter.grad.reshape(twin.shape)
        for optimizer, ratio in self.inner:
            optimizer.param_groups[0]["lr"] = group["lr"] * ratio
            optimizer.step()
