"""A machine whose speeds are known: it answers requests as a trial's process does, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from asyncpipe.tools.tune.journal import Journal
from asyncpipe.tools.tune.request import Request
from asyncpipe.tools.tune.trials import Trials

__all__ = ["MACHINE", "Answer", "Machine", "Speeds", "costs", "make_trials", "request"]

Answer = float | Mapping[str, Any]
Speeds = Callable[[Request], Answer]
MACHINE = {"cpu": {"model": "Exact CPU", "usable": 2}}


def costs(layers: int = 4, cores: int = 2, threads: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """The profile of equal layers: a forward of 1 ms, a backward of 2 ms, an update of 0.1 ms; a cut costs nothing.

    Two threads make an action 1.5 times as fast; beside another it is as fast as alone.
    """
    layer = {"forward_flops": 1000, "parameters": 10, "parameter_bytes": 40, "activation_bytes": 400, "operations": 1}
    times = {"F": 0.001, "B": 0.002, "U": 0.0001}

    def at(count: int) -> dict[str, Any]:
        faster = 1.0 if count == 1 else 1.5
        each = {op: [seconds / faster] * layers for op, seconds in times.items()}
        return {"layers": each, "whole": {op: [sum(all_of)] for op, all_of in each.items()}, "hand_over": 0.0}

    return {
        "layers": [{"name": f"layer{i}", **layer} for i in range(layers)],
        "input_bytes": 200,
        "batch": 32,
        "cut": [layers],
        "threads": 1,
        "workers": min(2, cores),
        "splits": False,
        "together": {op: [layers * seconds] for op, seconds in times.items()},
        "alone": {str(count): at(count) for count in threads},
        "cores": cores,
        "most_threads": cores,
        "multiprocessors": 0,
        "others": 0.0,
    }


class Machine:
    """`speeds` gives samples per second of a request, or a failure; each window is off by one per cent at most."""

    def __init__(self, speeds: Speeds, profile: Mapping[str, Any] | None = None, noise: float = 0.01) -> None:
        self.speeds = speeds
        self.profile = dict(profile or costs())
        self.noise = noise
        self.asked: list[Request] = []
        self.random = Random(0)

    def __call__(self, request: Request, timeout: float) -> dict[str, Any]:
        self.asked.append(request)
        if request.kind == "costs":
            return self.profile
        answer = self.speeds(request)
        if not isinstance(answer, int | float):
            return dict(answer)
        windows = [answer * (1 + self.noise * self.random.uniform(-1, 1)) for _ in range(5)]
        return {"speeds": windows, "others": 0.0, "stages": 1, "staleness": [0.0], "peak_bytes": 10**8}


def request(schedule: str = "async-lu", **values: Any) -> Request:
    return Request("speed", schedule, tuned=schedule, **values)


def make_trials(machine: Machine, folder: Path, base: Request | None = None) -> Trials:
    return Trials(base or request(), Journal(folder / "trials.jsonl"), machine, 60.0, MACHINE)
