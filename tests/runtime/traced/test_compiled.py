"""Stages compiled by Inductor, for the CPU: numbers of the uncompiled graphs up to rounding, in the same strides."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch._inductor
from torch import Tensor, nn
from torch._inductor import config
from torch.nn.functional import cross_entropy

from asyncpipe.errors import MachineError, UsageError, UserCodeError
from asyncpipe.models.reversible import Coupling
from asyncpipe.runtime.stage import StageOptions
from asyncpipe.runtime.traced import TracedStage, compiled
from tests.runtime.traced.stages import microbatch, ones

# Importing Inductor warns of torch's own old parts.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles for the CPU with g++")
COMPILED = StageOptions(compiled=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: headers of torch are compiled into it, which takes half a minute."""
    return tmp_path_factory.mktemp("inductor")


@pytest.fixture(autouse=True)
def in_this_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    with config.patch(compile_threads=1):
        yield


def data(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_compiled_is_traced(
    module: nn.Module,
    value: Any,
    target: Any = None,
    loss: Any = None,
    split: bool = False,
    lowest: bool = False,
    **options: Any,
) -> None:
    """Two microbatches with the same random numbers; sums of a few hundred float32 differ by their order."""
    found: list[list[Tensor | None]] = []
    buffers = []
    for is_compiled in (False, True):
        stage = TracedStage(1, copy.deepcopy(module), 1, False, loss, StageOptions(compiled=is_compiled, **options))
        torch.manual_seed(0)
        seeds = ones if loss is None else None
        found.append([one for _ in range(2) for one in microbatch(stage, value, target, seeds, split, lowest)])
        buffers.append(list(stage.module.buffers()))
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.stride() == other.stride()
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(*buffers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.slow
def test_a_backward_reads_the_weights_of_now() -> None:
    linear = nn.Linear(1, 1, bias=False)
    stage = TracedStage(1, linear, 1, False, None, COMPILED)
    y = stage.forward(0, torch.ones(1, 1))
    stage.arena.views[0].fill_(5.0)
    (gradient,), _ = stage.backward(0, (torch.ones_like(y),))
    assert gradient is not None
    assert gradient.item() == 5.0


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("split", [False, True])
def test_convolutions_batch_norm_and_dropout(split: bool) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(144, 5)
    )
    assert_compiled_is_traced(network, data(2, 3, 8, 8), torch.arange(2), cross_entropy, split)


@needs_compiler
@pytest.mark.slow
def test_channels_last_stays() -> None:
    images = data(2, 3, 8, 8).to(memory_format=torch.channels_last)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    assert_compiled_is_traced(network.to(memory_format=torch.channels_last), images)  # type: ignore[call-overload]


class Mixed(nn.Module):
    """(float, ids, float) -> four results, one of them integer, one an input; a frozen and two unused parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(2, 2)
        self.second.bias.requires_grad_(False)

    def forward(self, value: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, ids, z = value
        return self.first(x), ids + 1, z, self.second(x * z)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("lowest", [False, True])
def test_tuples_with_missing_gradients(lowest: bool) -> None:
    assert_compiled_is_traced(Mixed(), (data(4, 6), torch.arange(4), data(4, 6) + 1), lowest=lowest)


@needs_compiler
@pytest.mark.slow
def test_autocast_is_compiled_too() -> None:
    """Inductor keeps sums of a fused kernel in float32 where single operations round to bfloat16: 2 ** -8 of each."""
    network = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 5))
    stages = [
        TracedStage(1, network, 1, False, None, StageOptions(autocast=torch.bfloat16, compiled=is_compiled))
        for is_compiled in (False, True)
    ]
    one, other = (microbatch(stage, data(4, 6), None, ones, False, False) for stage in stages)
    for a, b in zip(one, other, strict=True):
        assert a is not None
        assert b is not None
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2**-6, atol=2**-6)


def again(stage: TracedStage, x: Tensor, outputs: tuple[Tensor, ...]) -> list[Tensor | None]:
    stage.forward_again(0, None, outputs)
    inputs, parameters = stage.backward(0, ones(outputs))
    return [*inputs, *parameters]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["full", "invert"])
def test_a_second_forward_repeats_the_draws_of_the_first(recompute: Any) -> None:
    branches = [nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5 if recompute == "full" else 0.0)) for _ in range(2)]
    coupling, x = Coupling(*branches), data(4, 6)
    found = []
    for is_compiled in (False, True):
        stage = TracedStage(1, coupling, 1, False, None, StageOptions(recompute=recompute, compiled=is_compiled))
        torch.manual_seed(0)
        y = stage.forward(0, x)
        found.append([y, *again(stage, x, (y,))])
    for a, b in zip(*found, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_what_inductor_gets_makes_no_cuda_graphs_and_draws_as_aten_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mock(side_effect=lambda graph, arguments, options: graph.forward)
    monkeypatch.setattr(torch._inductor, "compile", made)
    linear = nn.Linear(6, 3)
    stage = TracedStage(1, linear, 1, False, None, COMPILED)
    assert torch.equal(stage.forward(0, data(4, 6)), linear(data(4, 6)))
    (graph, arguments), words = made.call_args
    assert type(graph).__name__ == "Forward"
    assert [tuple(one.shape) for one in arguments] == [(4, 6), (3, 6), (3,)]
    assert words["options"] == {"triton.cudagraphs": False, "fallback_random": True, "keep_output_stride": True}


def test_recurrent_layers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"compile: inductor: stage 1, module 0 \(LSTM\): a recurrent layer is one"):
        TracedStage(1, nn.Sequential(nn.LSTM(3, 3)), 1, False, None, COMPILED)


class LoweringException(Exception):
    """As Inductor's."""


class InvalidCxxCompiler(RuntimeError):
    """As Inductor's."""


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (
            LoweringException("cannot lower aten.odd\n  more"),
            UserCodeError,
            r"stage 3 cannot be compiled by Inductor, in its Forward: LoweringException: cannot lower aten.odd\n",
        ),
        (InvalidCxxCompiler("No working C++ compiler found"), MachineError, "this machine has no compiler"),
    ],
)
def test_what_cannot_be_compiled_names_the_stage(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception], message: str
) -> None:
    monkeypatch.setattr(compiled, "compile_graph", Mock(side_effect=raised))
    stage = TracedStage(3, nn.Linear(6, 3), 1, False, None, COMPILED)
    with pytest.raises(expected, match=message):
        stage.forward(0, data(4, 6))
