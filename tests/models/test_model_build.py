"""The torch modules of the built-in models: their children, shapes, seeds and arithmetic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from asyncpipe.models import NAMES, build
from asyncpipe.models.modules import LastStep, Recurrent, Rows, split_layers

IMAGE = (1, 8, 8)


def child_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [IMAGE, (3, 9, 12)])
def test_model_maps_images_to_logits(name: str, shape: tuple[int, ...]) -> None:
    model: Any = build(name, {}, shape, 7)
    assert type(model) is nn.Sequential
    assert model(torch.rand(5, *shape)).shape == (5, 7)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    one = build(name, {}, IMAGE, 10).state_dict()
    torch.manual_seed(3)
    two = build(name, {}, IMAGE, 10).state_dict()
    torch.manual_seed(4)
    other = build(name, {}, IMAGE, 10).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["output.weight"], other["output.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model: Any = build(name, {}, IMAGE, 10)
    nn.functional.cross_entropy(model(torch.rand(6, *IMAGE)), torch.arange(6)).backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    assert [key for key, value in model.named_parameters() if not value.grad.any()] == []


def test_convnet_has_one_block_per_convolution() -> None:
    model: Any = build("convnet", {"channels": [4, 6]}, IMAGE, 10)
    assert child_names(model) == ["block0", "block1", "flatten", "hidden", "output"]
    assert child_names(model.block0) == ["convolution", "norm", "relu"]
    assert child_names(model.block1) == ["convolution", "norm", "relu", "pool"]
    assert isinstance(model.block1.norm, nn.BatchNorm2d)
    assert model.block1.convolution.bias is None
    assert model.hidden.linear.in_features == 6 * 4 * 4


def test_convnet_without_norm_has_biases_and_no_buffers() -> None:
    model: Any = build("convnet", {"norm": "none"}, IMAGE, 10)
    assert child_names(model.block0) == ["convolution", "relu"]
    assert model.block0.convolution.bias is not None
    assert list(model.buffers()) == []


def test_lstm_layers_are_separate_children() -> None:
    model: Any = build("lstm", {}, IMAGE, 10)
    assert [type(child) for child in model] == [Rows, Recurrent, Recurrent, LastStep, nn.Linear]
    assert child_names(model) == ["rows", "recurrent0", "recurrent1", "last", "output"]
    assert model.recurrent1.lstm.hidden_size == 256
    assert model.recurrent1.lstm.num_layers == 1


def test_lstm_children_compute_what_one_stacked_lstm_computes() -> None:
    model: Any = build("lstm", {"layers": 3, "hidden": 5}, (2, 4, 3), 10)
    stacked = nn.LSTM(6, 5, num_layers=3, batch_first=True)
    for layer, child in enumerate((model.recurrent0, model.recurrent1, model.recurrent2)):
        for key, value in child.lstm.named_parameters():
            getattr(stacked, key.replace("_l0", f"_l{layer}")).data.copy_(value)
    images = torch.rand(7, 2, 4, 3)
    rows = torch.stack([torch.cat([images[:, 0, row], images[:, 1, row]], dim=1) for row in range(4)], dim=1)
    torch.testing.assert_close(model(images), model.output(stacked(rows)[0][:, -1]))


def test_lstm_with_a_vocabulary_embeds_token_ids() -> None:
    model: Any = build("lstm", {"vocabulary": 11, "embedding": 3, "hidden": 8, "layers": 1}, (6,), 4)
    assert child_names(model) == ["embedding", "recurrent0", "last", "output"]
    assert model.embedding.weight.shape == (11, 3)
    assert model(torch.randint(11, (5, 6))).shape == (5, 4)


def test_lstm_embeds_in_its_own_width_by_default() -> None:
    model: Any = build("lstm", {"vocabulary": 11, "hidden": 8}, (6,), 4)
    assert model.embedding.embedding_dim == 8


def test_deep_narrow_adds_inputs_from_the_second_layer_on() -> None:
    model: Any = build("deep-narrow", {"layers": 3, "width": 16}, IMAGE, 10)
    assert child_names(model) == ["flatten", "hidden0", "hidden1", "hidden2", "output"]
    assert child_names(model.hidden0) == ["linear", "norm", "relu"]
    x = torch.rand(4, 16)
    torch.testing.assert_close(model.hidden1(x), x + model.hidden1.body(x), rtol=0, atol=0)


def test_deep_narrow_without_residual_is_a_plain_chain() -> None:
    model: Any = build("deep-narrow", {"layers": 3, "width": 16, "residual": False}, IMAGE, 10)
    assert all(child_names(block) == ["linear", "norm", "relu"] for block in (model.hidden1, model.hidden2))


@pytest.mark.parametrize("name", NAMES)
def test_layers_share_modules_and_compute_what_the_model_computes(name: str) -> None:
    model: Any = build(name, {}, (2, 8, 8), 10).eval()
    layers = split_layers(model)
    x = images = torch.rand(3, 2, 8, 8)
    for _, layer in layers:
        assert any(True for _ in layer.parameters())
        x = layer(x)
    assert torch.equal(x, model(images))
    shared = [parameter for _, layer in layers for parameter in layer.parameters()]
    assert [id(value) for value in shared] == [id(value) for value in model.parameters()]


def test_layer_takes_the_parameter_free_modules_after_it_and_the_first_those_before() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.Softmax(1))
    layers = [(name, child_names(layer)) for name, layer in split_layers(model)]
    assert layers == [("1", ["0", "1", "2", "3"]), ("4", ["4", "5"])]


def test_model_without_parameters_is_one_layer() -> None:
    assert [name for name, _ in split_layers(nn.Sequential(nn.Flatten(), nn.ReLU()))] == ["0"]


@pytest.mark.parametrize("name", NAMES)
def test_model_survives_a_deep_copy(name: str) -> None:
    """Every slot of a stage owns a copy."""
    model: Any = build(name, {}, IMAGE, 10).eval()
    images = torch.rand(2, *IMAGE)
    assert torch.equal(copy.deepcopy(model)(images), model(images))
