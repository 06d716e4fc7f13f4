"""The torch modules of the built-in models: their children, shapes, seeds and arithmetic."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from asyncpipe.models import NAMES, build
from asyncpipe.models.layers import OneStep, Recurrent, Rows
from asyncpipe.models.modules import split_layers
from asyncpipe.runtime.losses import cross_entropy
from tests.small_models import LARGE, SMALL, Small, tokens

IMAGE = (1, 8, 8)


def seeded(small: Small, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return small.build()


def child_names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children()]


def test_every_built_in_model_is_tested_below() -> None:
    assert {small.name for small in [*SMALL, *LARGE]} == set(NAMES)


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_model_maps_samples_to_logits(small: Small) -> None:
    model = small.build()
    assert type(model) is nn.Sequential
    classes = small.options.get("vocabulary", small.classes)
    assert model(small.samples(5)).shape == (5, *small.target_shape, classes)


@pytest.mark.parametrize("small", LARGE, ids=str)
def test_large_model_maps_samples_to_logits(small: Small) -> None:
    with torch.device("meta"):
        assert small.build()(torch.empty(5, *small.shape)).shape == (5, small.classes)


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_same_seed_gives_the_same_weights(small: Small) -> None:
    one, two, other = (seeded(small, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], two[key]) for key in one)
    differing = {key for key in one if not torch.equal(one[key], other[key])}
    assert {key for key in one if one[key].dim() > 1} <= differing


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_every_parameter_gets_a_gradient(small: Small) -> None:
    model = seeded(small)
    cross_entropy(model(small.samples(6)), small.targets(6)).backward()
    silent = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    # What begins at zero lets nothing through to the branch before it, in the first step.
    blocked = {name for name in silent if small.options.get("zero_init") and ".sum.body." in name}
    assert silent - blocked == set()


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
    assert [type(child) for child in model] == [Rows, Recurrent, Recurrent, OneStep, nn.Linear]
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


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_layers_share_modules_and_compute_what_the_model_computes(small: Small) -> None:
    model = seeded(small).eval()
    layers = split_layers(model)
    x = samples = small.samples(3)
    for _, layer in layers:
        assert any(True for _ in layer.parameters())
        x = layer(x)
    assert torch.equal(x, model(samples))
    shared = [parameter for _, layer in layers for parameter in layer.parameters()]
    assert [id(value) for value in shared] == [id(value) for value in model.parameters()]


def test_layer_takes_the_parameter_free_modules_after_it_and_the_first_those_before() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2), nn.Softmax(1))
    layers = [(name, child_names(layer)) for name, layer in split_layers(model)]
    assert layers == [("1", ["0", "1", "2", "3"]), ("4", ["4", "5"])]


def test_model_without_parameters_is_one_layer() -> None:
    assert [name for name, _ in split_layers(nn.Sequential(nn.Flatten(), nn.ReLU()))] == ["0"]


@pytest.mark.parametrize("small", SMALL, ids=str)
def test_model_survives_a_deep_copy(small: Small) -> None:
    """Every slot of a stage owns a copy."""
    model = seeded(small).eval()
    samples = small.samples(2)
    assert torch.equal(copy.deepcopy(model)(samples), model(samples))


@pytest.mark.parametrize(
    ("small", "children"),
    [
        (LARGE[0], 1 + 8 + 1),
        (LARGE[2], 1 + 16 + 1),
        (Small("resnet", {"depth": 56}, (3, 32, 32)), 1 + 27 + 1),
        (LARGE[3], 1 + 12 + 1),
        (tokens("gpt", {"width": 12}), 1 + 12 + 1),
        (Small("vit-tiny", {}, (3, 32, 32)), 1 + 12 + 1),
        (Small("mixer", {}, (3, 32, 32)), 1 + 8 + 1),
    ],
    ids=str,
)
def test_every_block_of_the_paper_is_one_layer(small: Small, children: int) -> None:
    with torch.device("meta"):
        layers = split_layers(small.build())
    assert [name for name, _ in layers[1:-1]] == [f"block{index}" for index in range(children - 2)]


def test_tied_gpt_is_one_layer_with_one_weight_for_both_ends() -> None:
    small = tokens("gpt", {"layers": 2, "heads": 2, "width": 8, "tied": True})
    model: Any = seeded(small)
    assert [name for name, _ in split_layers(model)] == ["tied"]
    assert model.tied.output.linear.weight is model.tied.embedding.tokens.weight
    untied = tokens("gpt", {"layers": 2, "heads": 2, "width": 8}).describe(1)
    assert sum(cost.parameters for cost in untied) - small.describe(1)[0].parameters == 11 * 8


def test_gpt_sees_no_later_tokens() -> None:
    small = tokens("gpt", {"layers": 2, "heads": 2, "width": 8})
    model = seeded(small).eval()
    one = small.samples(4)
    two = one.clone()
    two[:, 3:] = (two[:, 3:] + 1) % 11
    before, after = model(one), model(two)
    torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=0)
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_vit_attention_is_that_of_torchs_own_module() -> None:
    model: Any = build("vit-tiny", {"layers": 1, "heads": 3, "width": 12}, (1, 8, 8), 10)
    ours = model.block0.attention.body
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.load_state_dict({
        "in_proj_weight": ours.projections.weight,
        "in_proj_bias": ours.projections.bias,
        "out_proj.weight": ours.output.weight,
        "out_proj.bias": ours.output.bias,
    })  # fmt: skip
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours.output(ours.heads(ours.projections(x))), theirs(x, x, x, need_weights=False)[0])


def test_mixer_mixes_tokens_as_a_product_along_them() -> None:
    model: Any = build("mixer", {"layers": 1, "width": 12, "token_hidden": 6}, (1, 8, 8), 10)
    mixing = model.block0.tokens.body.mixing
    x = torch.randn(2, 4, 12)
    expand, contract = mixing.body.expand, mixing.body.contract
    hidden = torch.einsum("hn,bnc->bhc", expand.weight, x)
    hidden = nn.functional.gelu(hidden + expand.bias[:, None], approximate="tanh")
    expected = torch.einsum("nh,bhc->bnc", contract.weight, hidden) + contract.bias[:, None]
    torch.testing.assert_close(mixing(x), expected)


def test_padding_shortcut_keeps_every_second_pixel() -> None:
    model: Any = build("resnet", {"depth": 8}, (3, 6, 5), 10)
    images = torch.rand(2, 16, 6, 5)
    short = model.block1.sum.shortcut(images)
    assert short.shape == (2, 32, 3, 3)
    assert torch.equal(short[:, :16], images[:, :, ::2, ::2])
    assert not short[:, 16:].any()
    assert model.block0.sum.shortcut is None


def test_wide_block_shares_its_norm_with_the_projection() -> None:
    model: Any = build("wrn", {"depth": 10, "width": 2}, (3, 6, 6), 10)
    block, images = model.block1.eval(), torch.randn(2, 32, 6, 6)
    normed = block.relu(block.norm(images))
    torch.testing.assert_close(block(images), block.sum.shortcut(normed) + block.sum.body(normed))


@pytest.mark.parametrize(("pixels", "kernel"), [(127, 3), (128, 7)])
def test_resnet_chooses_its_stem_by_the_size_of_images(pixels: int, kernel: int) -> None:
    with torch.device("meta"):
        model: Any = build("resnet18", {}, (3, pixels, 200), 10)
    assert model.stem.convolution.kernel_size == (kernel, kernel)


def test_lstm_of_texts_predicts_every_step_from_the_steps_before() -> None:
    small = tokens("lstm", {"hidden": 8})
    model = seeded(small)
    one = small.samples(4)
    two = one.clone()
    two[:, 3:] = (two[:, 3:] + 1) % 11
    assert torch.equal(model(one)[:, :3], model(two)[:, :3])
