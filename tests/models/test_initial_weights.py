"""With which weights the models of the papers begin: the law of each, from many samples of it."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.models import build
from asyncpipe.models.plan import plan
from tests.small_models import RESIDUAL, TRANSFORMERS, Small


def built(name: str, options: dict[str, Any], shape: tuple[int, ...], classes: int) -> Any:
    torch.manual_seed(0)
    return build(name, options, shape, classes)


def assert_std(weight: Tensor, std: float) -> None:
    """Within five standard errors of a normal; the law of a truncated one varies less."""
    tolerance = 5 * std / sqrt(2 * weight.numel())
    assert weight.std(correction=0).item() == pytest.approx(std, abs=tolerance)
    assert weight.mean().item() == pytest.approx(0, abs=5 * std / sqrt(weight.numel()))


def test_convolutions_of_resnets_have_hes_variance() -> None:
    model = built("resnet", {"depth": 8, "shortcut": "projection"}, (3, 8, 8), 10)
    assert_std(model.stem.convolution.weight, sqrt(2 / (9 * 16)))
    assert_std(model.block2.sum.body.convolution0.weight, sqrt(2 / (9 * 64)))
    assert_std(model.block2.sum.shortcut.convolution0.weight, sqrt(2 / 64))
    bound = 1 / sqrt(64)
    assert model.output.linear.weight.abs().max().item() == pytest.approx(bound, rel=0.02)
    assert not model.output.linear.bias.any()


def test_convolutions_of_wide_resnets_have_hes_variance() -> None:
    model = built("wrn", {"depth": 10, "width": 2}, (3, 8, 8), 10)
    assert_std(model.block1.sum.body.convolution1.weight, sqrt(2 / (9 * 64)))
    assert_std(model.block1.sum.shortcut.weight, sqrt(2 / 64))


def test_norms_begin_as_the_identity_and_remember_a_tenth_of_each_batch() -> None:
    norms = [m for m in built("resnet", {"depth": 8}, (3, 8, 8), 10).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 7
    assert all(torch.equal(norm.weight, torch.ones_like(norm.weight)) and not norm.bias.any() for norm in norms)
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-5)}


def test_zero_init_begins_every_block_as_its_shortcut() -> None:
    model = built("resnet", {"depth": 8, "zero_init": True}, (3, 8, 8), 10)
    images = torch.rand(4, 16, 8, 8)
    assert torch.equal(model.block0(images), images)
    assert model.block0.sum.body.norm0.weight.all()


def test_bottlenecks_zero_their_last_norm() -> None:
    """As specs: the whole network would be 23 million numbers."""
    block: Any = dict(plan("resnet50", {"zero_init": True}, (3, 8, 8), 10).children)["block0"]
    body = dict(dict(block.children)["sum"].body.children)
    assert [body[f"norm{index}"].zero for index in range(3)] == [False, False, True]


def test_gpt_scales_what_is_added_to_the_residual_stream() -> None:
    model = built("gpt", {"layers": 4, "heads": 2, "width": 64}, (50,), 90)
    assert_std(model.embedding.tokens.weight, 0.02)
    assert_std(model.embedding.positions.weight, 0.01)
    attention, perceptron = model.block3.attention.body, model.block3.perceptron.body
    assert_std(attention.projections.weight, 0.02)
    assert_std(perceptron.expand.weight, 0.02)
    assert_std(attention.output.weight, 0.02 / sqrt(8))
    assert_std(perceptron.contract.weight, 0.02 / sqrt(8))
    assert_std(model.output.linear.weight, 0.02)
    assert model.output.linear.bias is None


def test_vit_begins_with_truncated_normals_of_a_fiftieth() -> None:
    model = built("vit-tiny", {"layers": 1, "width": 48, "patch": 2}, (3, 16, 16), 20)
    assert_std(model.embedding.token.weight, 0.02)
    assert_std(model.embedding.positions.weight, 0.02)
    assert_std(model.block0.attention.body.projections.weight, 0.02)
    assert_std(model.output.linear.weight, 0.02)
    assert_std(model.embedding.patches.convolution.weight, 1 / sqrt(3 * 4))


def test_mixer_begins_with_lecuns_variance_and_a_silent_output() -> None:
    model = built("mixer", {"layers": 1, "width": 32, "token_hidden": 40, "channel_hidden": 64}, (1, 16, 16), 10)
    assert_std(model.block0.tokens.body.mixing.body.expand.weight, 1 / sqrt(16))
    assert_std(model.block0.channels.body.mixing.contract.weight, 1 / sqrt(64))
    cut = 2 / sqrt(64) / 0.8796
    assert 0.9 * cut < model.block0.channels.body.mixing.contract.weight.abs().max().item() <= cut
    assert not model.output.linear.weight.any()


@pytest.mark.parametrize("small", [*RESIDUAL, *TRANSFORMERS], ids=str)
def test_biases_of_the_papers_models_begin_at_zero(small: Small) -> None:
    assert not any(value.any() for name, value in small.build().named_parameters() if name.endswith(".bias"))
