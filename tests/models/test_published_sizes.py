"""Parameters and multiply-adds of the built-in models against the published ones, on the meta device.

Sources: torchvision's model pages (ResNet-18, ResNet-50), He et al. 2015 table 6 (CIFAR ResNets), Zagoruyko and
Komodakis 2016 table 4 (WRN), OpenAI's released GPT-2 small, timm's model pages (ViT-Ti, Mixer-S).
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from asyncpipe.models.plan import plan
from tests.small_models import Small

IMAGENET = (3, 224, 224)
CIFAR = (3, 32, 32)
GPT2 = Small("gpt", {"tied": True}, (1024,), 50257, 50257, (1024,))

PARAMETERS = [
    (Small("resnet18", {}, IMAGENET, 1000), 11_689_512),
    (Small("resnet18", {}, CIFAR), 11_173_962),
    (Small("resnet50", {}, IMAGENET, 1000), 25_557_032),
    (Small("resnet50", {}, CIFAR), 23_520_842),
    (Small("resnet", {}, CIFAR), 269_722),
    (Small("resnet", {"shortcut": "projection"}, CIFAR), 272_474),
    (Small("resnet", {"depth": 56}, CIFAR), 853_018),
    (Small("resnet", {"depth": 110}, CIFAR), 1_727_962),
    (Small("wrn", {}, CIFAR), 36_479_194),
    (Small("wrn-28-10", {}, CIFAR, 100), 36_536_884),
    (GPT2, 124_439_808),
    (Small("vit-tiny", {}, IMAGENET, 1000), 5_717_416),
    (Small("mixer", {}, IMAGENET, 1000), 18_528_264),
]
"""He et al. print 0.27, 0.85, 1.7 and 19.4 million; the exact numbers follow from shortcuts without parameters."""

MULTIPLY_ADDS = [
    (Small("resnet18", {}, IMAGENET, 1000), 1.81e9),
    (Small("resnet18", {}, CIFAR), 0.56e9),
    (Small("resnet50", {}, IMAGENET, 1000), 4.09e9),
    (Small("resnet", {}, CIFAR), 0.0405e9),
    (Small("wrn-28-10", {}, CIFAR), 5.24e9),
    (Small("vit-tiny", {}, IMAGENET, 1000), 1.26e9),
    (Small("mixer", {}, IMAGENET, 1000), 3.78e9),
]


@pytest.mark.parametrize(("small", "published"), PARAMETERS, ids=str)
def test_parameters_are_the_published_ones(small: Small, published: int) -> None:
    with torch.device("meta"):
        model = small.build()
    assert sum(parameter.numel() for parameter in model.parameters()) == published
    assert sum(cost.parameters for cost in small.describe(1)) == published


@pytest.mark.parametrize(("small", "published"), MULTIPLY_ADDS, ids=str)
def test_multiply_adds_are_the_published_ones(small: Small, published: float) -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        small.build().eval()(torch.empty(1, *small.shape))
    assert counter.get_total_flops() == sum(cost.forward_flops for cost in small.describe(1))
    assert counter.get_total_flops() / 2 == pytest.approx(published, rel=0.01)


def test_gpt_flops_of_a_token_are_two_for_each_weight_and_four_for_each_feature_and_step_seen() -> None:
    """The forward third of 6 N + 12 L d T (arXiv 2204.02311, appendix B); N without positions, norms and biases."""
    layers, width, steps, ids = 12, 768, 1024, 50257
    (cost,) = GPT2.describe(1)
    weights = layers * 12 * width * width + ids * width
    assert cost.forward_flops == steps * (2 * weights + 4 * layers * width * steps)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [(CIFAR, {}, 1_894_090), (CIFAR, {"blocks": [9, 9, 9]}, 5_676_106), ((1, 8, 8), {"blocks": [2, 2]}, 79_754)],
)
def test_a_revnet_has_its_couplings_and_a_linear_layer(
    shape: tuple[int, ...], options: dict[str, list[int]], expected: int
) -> None:
    """Each half of c / 2 channels: two norms and two convolutions. No paper has this network, and so no number."""
    counts = options.get("blocks", [3, 3, 3])
    halves = [8 * 4**group for group in range(len(counts))]
    last = 2 * halves[-1]
    couplings = sum(count * 2 * (2 * 2 * half + 2 * 9 * half**2) for count, half in zip(counts, halves, strict=True))
    assert couplings + 2 * last + 10 * last + 10 == expected
    small = Small("revnet", options, shape)
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in small.build().parameters()) == expected
    assert sum(cost.parameters for cost in small.describe(1)) == expected


def test_gpt_without_tied_weights_has_the_output_besides() -> None:
    untied = Small("gpt", {}, (1024,), 50257, 50257, (1024,)).describe(1)
    assert sum(cost.parameters for cost in untied) == 124_439_808 + 50257 * 768


@pytest.mark.parametrize(
    ("depth", "published", "multiply_adds"), [(20, 0.27e6, 0.041e9), (110, 1.7e6, 0.253e9), (1202, 19.4e6, 2.829e9)]
)
def test_description_alone_gives_the_sizes_of_deep_networks(depth: int, published: float, multiply_adds: float) -> None:
    costs = Small("resnet", {"depth": depth}, CIFAR).describe(1)
    assert len(costs) == 1 + (depth - 2) // 2 + 1
    assert sum(cost.parameters for cost in costs) == pytest.approx(published, rel=0.02)
    assert sum(cost.forward_flops for cost in costs) / 2 == pytest.approx(multiply_adds, rel=0.02)


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [
        ("resnet18", IMAGENET, [56] * 3 + [28] * 2 + [14] * 2 + [7] * 2),
        ("resnet50", IMAGENET, [56] * 4 + [28] * 4 + [14] * 6 + [7] * 3),
        ("resnet18", CIFAR, [32] * 3 + [16] * 2 + [8] * 2 + [4] * 2),
        ("resnet", CIFAR, [32] * 4 + [16] * 3 + [8] * 3),
        ("wrn-28-10", CIFAR, [32] * 5 + [16] * 4 + [8] * 4),
    ],
)
def test_blocks_halve_images_where_the_papers_do(name: str, shape: tuple[int, ...], sizes: list[int]) -> None:
    found = []
    for _, child in plan(name, {}, shape, 10).children[:-1]:
        shape = child.output_shape(shape)
        found.append(shape[-1])
    assert found == sizes
