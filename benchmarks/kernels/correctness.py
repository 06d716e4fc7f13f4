"""What must hold before anything is timed: one step agrees with float64, for us and for every peer."""

from __future__ import annotations

import torch
from arena import Arena
from cases import Optimizer, Storage
from clock import Work
from contenders import Peer
from reference import reference_step
from torch import Tensor

__all__ = ["check_ours", "check_peer"]

STEPS = 3
TOLERANCE = 3e-3
"""Of the change of the weights, by norms: what float32 rounds off weights of size 1 that move by 1e-3, and lion's signs
of a few blends near zero."""
STATE_TOLERANCE = 1e-6


def check_ours(name: str, work: Work, arena: Arena, optimizer: Optimizer, storage: Storage, before: int) -> None:
    """Make some steps on the first set and compare the last one; `before`: steps made so far. ArithmeticError."""
    for _ in range(STEPS - 1):
        work(0)
    old = arena.precise.double()
    states = [state.double() for state in arena.states if state is not None]
    work(0)
    expected = reference_step(optimizer, old, arena.gradient.double(), states, before + STEPS)
    for index, state in enumerate(states):
        kept = arena.states[index]
        _require(f"{name}, state {index}", (kept.double() - state).norm() / state.norm(), STATE_TOLERANCE)
    if storage.stochastic:
        _check_rounding(name, arena.weights.double(), expected)
        return
    _check_change(name, arena.precise.double(), old, expected)
    if storage.master:
        _check_copy(name, arena.weights, arena.precise)


def check_peer(name: str, peer: Peer, arena: Arena, optimizer: Optimizer, storage: Storage) -> None:
    """The first steps from states of zero. Rounded to bfloat16 each time, a peer follows no reference: not checked."""
    if storage.stochastic:
        return
    old = weights = peer.values().double()
    gradient = torch.cat(arena.separate).double()
    states = [torch.zeros_like(weights) for _ in range(optimizer.states)]
    for step in range(1, STEPS + 1):
        peer.work(0)
        weights = reference_step(optimizer, weights, gradient, states, step)
    _check_change(name, peer.values().double(), old, weights)


def _check_change(name: str, found: Tensor, old: Tensor, expected: Tensor) -> None:
    _require(f"{name}, change of the weights", (found - expected).norm() / (expected - old).norm(), TOLERANCE)


def _check_copy(name: str, weights: Tensor, master: Tensor) -> None:
    """Rounded to nearest on a GPU; Triton's interpreter rounds bfloat16 towards zero."""
    if weights.is_cuda:
        same = torch.equal(weights, master.to(weights.dtype))
    else:
        same = bool(((weights.float() - master).abs() <= master.abs() / 128).all())
    if not same:
        raise ArithmeticError(f"{name}: the weights are not their master copy, rounded")


def _check_rounding(name: str, found: Tensor, expected: Tensor) -> None:
    """One of the two neighbours in bfloat16, and unbiased within six standard errors."""
    exponent = torch.frexp(expected).exponent
    error = torch.where(expected == 0, found, (found - expected) / torch.ldexp(torch.ones_like(expected), exponent - 8))
    _require(f"{name}, units in the last place", error.abs().max(), 1.001)
    _require(f"{name}, mean error in such units", error.mean().abs(), 3.0 / error.numel() ** 0.5)


def _require(what: str, error: Tensor, limit: float) -> None:
    # NaN is not within a limit either.
    if not float(error) <= limit:
        raise ArithmeticError(f"{what}: expected an error of at most {limit:.1e}, found {float(error):.3e}")
