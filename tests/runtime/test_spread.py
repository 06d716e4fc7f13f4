"""A model on several devices is called as one: here the second one is `meta`, which computes shapes only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from asyncpipe.runtime.spread import called_where_it_lies, moved_to


def network() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2, device="meta"))


def test_inputs_follow_the_parameters() -> None:
    model = network()
    with called_where_it_lies(model):
        found = model(torch.ones(5, 3))
    assert (found.device.type, found.shape) == ("meta", (5, 2))
    with pytest.raises(RuntimeError):
        model(torch.ones(5, 3))


def test_a_model_on_one_device_is_left_alone() -> None:
    model = nn.Linear(3, 4)
    with called_where_it_lies(model):
        assert not model._forward_pre_hooks


def test_targets_go_where_the_outputs_are() -> None:
    outputs = torch.empty(2, device="meta")
    targets = {"class": torch.ones(2), "name": "x"}
    assert moved_to(outputs, targets)["class"].device.type == "meta"
    assert moved_to("no tensor", targets) is targets
