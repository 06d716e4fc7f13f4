"""muon as a CUDA graph repeats it, with the kernels in Triton's interpreter: against muon on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import CheckpointError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.builtin_rule import BuiltinRule
from asyncpipe.runtime.muon_rule import MuonRule
from asyncpipe.runtime.update_rule import UpdateRule

OPTIONS = {"weight_decay": 0.1, "adamw_lr_ratio": 0.5, "adamw_weight_decay": 0.2}


def arena() -> Arena:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Conv2d(2, 3, 2))
    module[0].bias.requires_grad_(False)
    return Arena.of(module.named_parameters())


def gradients(of: Arena, seed: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(of.views, of.trainable, strict=True)
    return [torch.randn(view.shape, generator=generator) if trainable else None for view, trainable in pairs]


def rules() -> tuple[Arena, UpdateRule, Arena, UpdateRule]:
    one, other = arena(), arena()
    return one, MuonRule(one, OPTIONS, "default"), other, BuiltinRule(other, "muon", OPTIONS, "default")


def assert_same(one: Arena, other: Arena) -> None:
    for a, b in zip(one.views, other.views, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("on_device", [False, True], ids=["a number", "a tensor"])
def test_the_updates_are_those_of_muon(on_device: bool) -> None:
    one, device, other, host = rules()
    for step in range(3):
        rate = 0.02 * (step + 1)
        device.apply(gradients(one, step), torch.tensor(rate, dtype=torch.float64) if on_device else rate)  # type: ignore[arg-type]
        host.apply(gradients(other, step), rate)
    assert_same(one, other)
    assert device.repeats
    assert not host.repeats


def test_the_state_of_one_is_the_state_of_the_other() -> None:
    one, device, other, host = rules()
    device.apply(gradients(one, 0), 0.02)
    host.apply(gradients(other, 0), 0.02)
    states = device.parameter_states()
    assert [sorted(state) for state in states] == [sorted(state) for state in host.parameter_states()]
    again, loaded, _, _ = rules()
    again.copy_from(one)
    loaded.load_parameter_states(host.parameter_states())
    loaded.apply(gradients(again, 1), 0.02)
    host.apply(gradients(other, 1), 0.02)
    assert_same(again, other)
    assert loaded.state_bytes > 0


def test_a_state_of_other_parameters_is_refused() -> None:
    one, device, _, _ = rules()
    device.apply(gradients(one, 0), 0.02)
    states = device.parameter_states()
    with pytest.raises(CheckpointError, match="expected entries of shapes"):
        device.load_parameter_states([*states[1:], states[0]])
