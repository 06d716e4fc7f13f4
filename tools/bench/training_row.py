"""A row that trains: what each contender reaches, against the best peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from asyncpipe.tools.bench import guard
from asyncpipe.tools.bench.catalogue import OURS, PEER, Kind, contenders
from asyncpipe.tools.bench.numbers import ratio_of_medians, spread
from asyncpipe.tools.bench.peak import flops_of, measured_peak
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.setting import Setting
from asyncpipe.tools.bench.turns import Turns, run_turns
from asyncpipe.tools.bench.workloads import WORKLOADS, Workload

__all__ = ["prepare", "summarise", "train"]


def train(name: str, setting: Setting, built: Callable[[], float | None] = lambda: None) -> dict[str, Any]:
    """All contenders of the setting on one workload; `built` is called when they are, and may give more time."""
    workload = WORKLOADS[name].reduced() if setting.smoke else WORKLOADS[name]
    problem = Problem(workload, torch.device(setting.device))
    # TF32 for all: without it nobody trains in float32 on a GPU that has it.
    torch.set_float32_matmul_precision("high" if problem.on_cuda else "highest")
    kinds = contenders(setting.contenders)
    flops = flops_of(problem) if problem.on_cuda and workload.precision == "bf16" and not setting.smoke else None
    turns = run_turns(problem, kinds, setting.pace, built)
    return summarise(workload, setting.device, kinds, turns, flops, measured_peak(problem) if flops else None)


def prepare(name: str, setting: Setting) -> None:
    """Compiles, and leaves the kernels in Inductor's cache; a failure will be told when the row is measured."""
    problem = Problem(WORKLOADS[name], torch.device(setting.device))
    torch.set_float32_matmul_precision("high")
    for kind in contenders(setting.contenders):
        if kind.letter in ("C", "CG") and kind.compile_seconds <= 20 and not kind.refusal(problem):
            try:
                kind.make(problem).train(1)
            except Exception:
                continue


def summarise(
    workload: Workload,
    device: str,
    kinds: Sequence[Kind],
    turns: Turns,
    flops: float | None = None,
    peak: float | None = None,
) -> dict[str, Any]:
    """The row as JSON values; rates are per second, `flops` those of an update, `peak` those of a second."""
    known = {kind.name: kind for kind in kinds}
    sync = [kind.name for kind in kinds if kind.sync]
    verdicts = guard.judge(turns.losses, sync, device, workload.precision)
    measured = {kind.name: turns.seconds[kind.name] for kind in kinds if turns.seconds.get(kind.name)}
    medians = {name: statistics.median(values) for name, values in measured.items()}
    peers = [n for n in measured if known[n].role == PEER and not verdicts[n]["wrong"]]
    best = min(peers, key=medians.__getitem__, default=None)
    even = guard.loss_at_equal_time(turns.losses, medians)
    rows = [
        {
            **_speed(known[name], workload, measured, best, flops, peak),
            "updates_per_turn": turns.updates[name],
            "build_s": turns.build_seconds[name],
            "loss": {**verdicts[name], "at_equal_time": even.get(name)},
            "seconds": values,
        }
        for name, values in measured.items()
    ]
    return {
        "unit": workload.unit,
        "batch": workload.batch,
        "precision": workload.precision,
        "optimizer": workload.optimizer["use"],
        "interleaved": turns.interleaved,
        "contenders": rows,
        "not_run": [{"name": name, "reason": reason} for name, reason in turns.missing.items()],
        "best_peer": best,
        "of_best_peer": _claim(known, measured, verdicts, best),
        "guard": [f"{name}: {verdict['wrong']}" for name, verdict in verdicts.items() if verdict["wrong"]],
    }


def _speed(
    kind: Kind,
    workload: Workload,
    measured: Mapping[str, Sequence[float]],
    best: str | None,
    flops: float | None,
    peak: float | None,
) -> dict[str, Any]:
    """Rates; a contender with a larger batch makes fewer updates of more samples."""
    values = measured[kind.name]
    rates = [1 / seconds for seconds in values]
    each = workload.items * (1 if workload.unit == "updates" else kind.times)
    done = None if flops is None else statistics.median(rates) * flops * kind.times
    return {
        "name": kind.name,
        "letter": kind.letter,
        "role": kind.role,
        "synchronous": kind.sync,
        "updates_per_s": spread(rates),
        "items_per_s": statistics.median(rates) * each,
        "samples_per_s": statistics.median(rates) * workload.batch * kind.times,
        "tflops": None if done is None else done / 1e12,
        "mfu": None if done is None or not peak else done / peak,
        "of_best_peer": None if best is None else _ratio(measured[best], values),
    }


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times as fast as `slow`, over the rounds that both have."""
    count = min(len(slow), len(fast))
    return ratio_of_medians(slow[:count], fast[:count]).as_json()


def _claim(
    known: Mapping[str, Kind],
    measured: Mapping[str, Sequence[float]],
    verdicts: Mapping[str, Mapping[str, Any]],
    best: str | None,
) -> dict[str, Any] | None:
    """Our fastest right one against the best peer."""
    ours = [name for name in measured if known[name].role == OURS and not verdicts[name]["wrong"]]
    if best is None or not ours:
        return None
    ours_best = min(ours, key=lambda name: statistics.median(measured[name]))
    return {"name": ours_best, **_ratio(measured[best], measured[ours_best])}
