"""The rows of the suite and their numbers, without torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncpipe.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from asyncpipe.tools.bench.setting import Setting

__all__ = ["ROWS", "Row", "choose_rows"]


@dataclass(frozen=True)
class Row:
    """`weight`: of the budget. needs: `cuda`, or nothing. `measure`: module and function below this package.

    goal: of our best against the best peer, or in words. not_built: why the row has no measurement.
    """

    number: str
    name: str
    title: str
    weight: float
    needs: str = ""
    measure: str = "training_row:train"
    goal: float | str | None = None
    not_built: str = ""
    ahead: str = "build"
    """What is done before anything is timed: `build`; `compile` where all contenders take much memory; nothing where
    one does."""

    @property
    def trains(self) -> bool:
        return self.measure == "training_row:train"

    def function(self) -> Callable[..., dict[str, Any]]:
        module, _, name = self.measure.partition(":")
        found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(f"asyncpipe.tools.bench.{module}"), name)
        return found

    def run(self, setting: Setting, built: Callable[[], float | None]) -> dict[str, Any]:
        return self.function()(self.name, setting, built) if self.trains else self.function()(setting)

    def refusal(self, device: str, smoke: bool) -> str:
        """Why it is not measured on this device; in a smoke run those for CUDA train without what needs it."""
        if self.not_built:
            return self.not_built
        if self.needs == "cuda" and device != "cuda" and not (smoke and self.trains):
            return "needs CUDA"
        if self.needs == "cpu" and device != "cpu":
            return "is measured on the CPU: leave --device out, or set it to cpu"
        return ""


def _gpu(number: str, name: str, title: str, goal: float, weight: float = 3.0, ahead: str = "build") -> Row:
    return Row(number, name, title, weight, "cuda", goal=goal, ahead=ahead)


def _cpu(name: str, title: str, goal: float) -> Row:
    return Row("14", name, title, 3.0, "cpu", goal=goal)


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        _gpu("1", "deep-narrow-100", "deep narrow network 100 x 256, batch 32", 2.5),
        _gpu("1", "lstm-cell", "LSTM cell 256, 28 steps unrolled, batch 64", 2.5),
        _gpu("1", "gru-cell", "GRU cell 256, 28 steps unrolled, batch 64", 2.5),
        _gpu("2", "imdb-lstm", "IMDb-shaped LSTM 2 x 256, batch 75, 200 steps", 2.3),
        _gpu("3", "vit-tiny", "ViT-Ti/4, batch 64", 1.7),
        _gpu("3", "mixer", "MLP-Mixer 8 x 128, batch 64", 1.7),
        _gpu("4", "resnet18-b32", "ResNet-18, CIFAR, batch 32", 1.5),
        _gpu("5", "resnet18-b128", "ResNet-18, CIFAR, batch 128, bf16, channels_last", 1.2),
        _gpu("6", "gpt2-1k", "GPT-2 small, 1k tokens a step, AdamW, bf16", 1.2, 4.0, "compile"),
        _gpu("6", "gpt2-2k", "GPT-2 small, 2k tokens a step, AdamW, bf16", 1.2, 4.0, "compile"),
        _gpu("7", "gpt2-16k", "GPT-2 small, 16k tokens a step, AdamW, bf16", 1.0, 5.0, ""),
        _gpu("7", "gpt2-64k", "GPT-2 small, 64k tokens a step, AdamW, bf16", 1.0, 6.0, ""),
        Row(
            "8", "update-kernels", "optimizer kernels against a copy and torch", 6.0, "cuda", "scripts:update_kernels",
            "0.96 of a copy at 1e8, 0.85 and 1.5 x torch fused at 1.1e7",
        ),
        Row(
            "9", "cifar10-94", "time to 94 % on CIFAR-10, airbench94's recipe", 1.0, "cuda",
            goal="1.15 x the same recipe compiled",
            not_built="not in this suite: 50 trainings of a recipe that asyncpipe has no job for",
        ),
        Row(
            "10", "stragglers", "throughput with a late stream, computations as sleeps", 2.0, "",
            "stragglers:straggler_curve", "closed form within 5 %",
        ),
        Row(
            "11", "compile-speed", "generate, lower, verify, simulate against torch.pipelining", 2.0, "",
            "scripts:compile_speed", "80 x torch",
        ),
        Row(
            "12", "fidelity", "simulated against measured period, some schedules on threads", 4.0, "",
            "scripts:fidelity", "median error 10 %",
        ),
        Row("13", "host-cost", "what a period costs the host", 1.0, "cuda", "host_cost:host_cost", "10 us"),
        _cpu("cpu-lstm", "LSTM 2 x 128, 50 steps, batch 32", 1.5),
        _cpu("cpu-mlp", "MLP 6 x 1024, batch 128", 1.25),
        _cpu("cpu-convnet", "three convolutions, 32 x 32, batch 32", 0.95),
        _cpu("cpu-deep-narrow", "deep narrow network 40 x 128, batch 32", 1.3),
    )
}  # fmt: skip
"""By name."""


def choose_rows(wanted: Sequence[str]) -> list[Row]:
    """Those with these numbers or names, in the order of the table; all without any. UsageError for an unknown one."""
    known = {*ROWS, *(row.number for row in ROWS.values())}
    for word in wanted:
        if word not in known:
            numbers = sorted({row.number for row in ROWS.values()}, key=int)
            raise UsageError(
                f"--rows: there is no row {word!r}", f"{did_you_mean(word, list(ROWS))}; numbers: {', '.join(numbers)}"
            )
    return [row for row in ROWS.values() if not wanted or {row.number, row.name} & set(wanted)]
