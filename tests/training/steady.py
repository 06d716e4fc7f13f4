"""A library schedule run for as long as its steady state needs to show, and what was measured beside what is stated."""

from __future__ import annotations

import torch
from torch import nn

from asyncpipe import Trainer
from asyncpipe.compiler import Compiled
from asyncpipe.models.reversible import Coupling
from asyncpipe.runtime.staleness import steady_microbatches
from asyncpipe.schedule import load

__all__ = ["assert_measured_is_stated"]


def assert_measured_is_stated(name: str, stages: int) -> None:
    """Two replicas stand for more: all of them do the same."""
    replicas = min(2, load(name).replicas.count)
    schedule = load(name, [f"replicas.count={replicas}"] if replicas > 1 else [])
    layers = (nn.Linear(8, 8) if name != "petra" else Coupling(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(stages))
    model = nn.Sequential(*layers, nn.Flatten())
    optimizer = {"use": "sgd", "lr": 1e-3, "momentum": 0.9}
    trainer = Trainer(model, schedule, optimizer=optimizer, stages=stages, backend="serial")
    batch = torch.randn(4, 8), torch.randint(8, (4,))
    compiled = trainer.prepare(batch[0])
    trainer.fit([batch] * (long_enough(compiled) * replicas))
    stated, measured = compiled.staleness, trainer.staleness.summary()
    assert measured["apply"] == [float(value) for value in stated.apply]
    assert measured["max"] == list(stated.max)
    assert measured["forward_backward"] == [float(value) for value in stated.forward_backward]


def long_enough(compiled: Compiled) -> int:
    """Microbatches with two rounds of the steady state at every stage; a program of given length takes time to make."""
    program = compiled.program()
    step, microbatches = program.step, program.start * 3 // 2 + 4 * program.step
    while True:
        program = compiled.program(microbatches)
        if all(len(steady_microbatches(program, stage)) >= 2 * step for stage in range(compiled.stages)):
            return microbatches
        microbatches += max(step, microbatches // 4)
