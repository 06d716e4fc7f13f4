"""Trainings on the recording runtime: traced stages, fused kernels by Triton's interpreter, CPU tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.runtime import auxiliary, stage_updates
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.attachments import Attachments
from asyncpipe.runtime.cuda.platform import CudaPlatform
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.static import StaticRates
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer
from asyncpipe.schedule import Schedule, library, load

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}
Pair = tuple[Tensor, Tensor]
MANY_DEVICES = [name for name in library() if str(load(name).devices) != "1"]


def fused_on_cpu(spec: OptimizerSpec, arena: Arena, attachments: Attachments | None = None) -> StageOptimizer:
    """As on CUDA: the recorder runs one kernel after another, so that the interpreter may take part."""
    from asyncpipe.runtime.fused_rule import FusedRule

    assert isinstance(spec.use, str)
    rule = FusedRule(arena, spec.use, spec.options, attachments)
    rule.concurrent = True
    return StageOptimizer(arena, rule)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stage_updates, auxiliary):
        monkeypatch.setattr(module, "make_optimizer", fused_on_cpu)


def network(stages: int = 4) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(stages)))


def pairs(count: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(4, 6, generator=generator), torch.randint(6, (4,), generator=generator)) for _ in range(count)]


def recorded(
    model: nn.Sequential,
    schedule: str | Schedule,
    kind: Literal["streams", "graph"],
    cuda: RecordingCuda,
    optimizer: Mapping[str, Any] = SGD,
    period: int = 1,
    stages: int = 4,
) -> tuple[Trainer, CudaPlatform]:
    trainer = Trainer(model, schedule, optimizer=optimizer, backend="serial", stages=stages)
    platform = CudaPlatform(cuda, kind == "graph", torch.device("cpu"), emulate=cuda.devices == 1, period=period)
    trainer.platform = platform
    trainer.run_backend = platform.run
    return trainer, platform


def on_serial(model: nn.Sequential, schedule: str | Schedule, data: list[Pair], stages: int = 4) -> Trainer:
    trainer = Trainer(model, schedule, optimizer=SGD, backend="serial", stages=stages)
    trainer.fit(data)
    return trainer


def assert_same_staleness(trainer: Trainer, serial: Trainer, steady: bool = True) -> None:
    """As the actions were issued, and as kernels counted it; `steady`: means and maxima of the latter too."""
    found, expected = trainer.staleness.summary(), serial.staleness.summary()
    device = found.pop("device")
    assert expected.pop("device") is None
    assert found == expected
    assert device["histogram"] == found["histogram"]
    for key in ("apply", "max") if steady else ():
        assert device[key] == found[key]


def microbatches(name: str, each: int) -> int:
    return each * load(name).replicas.count


@pytest.fixture
def constant_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimizers in plain torch, which take numbers only: fifty times faster than Triton's interpreter."""
    monkeypatch.setattr(StaticRates, "at", lambda self, update: SGD["lr"])


_TRACED: dict[Any, Any] = {}


@pytest.fixture
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has traced serves the others, whose networks have the same text: it takes most of a test."""
    _serve_traces(monkeypatch, each=False)


@pytest.fixture
def traced_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where stages with the same text are on several devices: each has constants of its own there."""
    _serve_traces(monkeypatch, each=True)


def _serve_traces(monkeypatch: pytest.MonkeyPatch, each: bool) -> None:
    from asyncpipe.runtime.traced import joint, traces
    from asyncpipe.runtime.traced.signature import signature

    real = joint.trace
    asked: Counter[Any] = Counter()

    def trace(code: Any, call: Any, wanted: Any, parameters: Any, buffers: Any, strides: Any) -> Any:
        text = repr(code.module), str(code.loss), signature(call), tuple(wanted), tuple(sorted(strides.items()))
        key = text, asked[text] if each else None
        asked[text] += 1
        if key not in _TRACED:
            _TRACED[key] = real(code, call, wanted, parameters, buffers, strides)
        return _TRACED[key]

    monkeypatch.setattr(traces, "trace", trace)
