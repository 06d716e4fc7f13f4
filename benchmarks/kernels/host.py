"""What a step costs the host: issuing it for tiny tensors, and whole eager steps over those of ResNet-18."""

from __future__ import annotations

import time

import torch
from arena import new_arenas
from bench import Bench, Result
from cases import OPTIMIZERS, STORAGES
from clock import Sample, Work, ratios, spread
from contenders import FLAT, ours, peers
from shapes import RESNET18

__all__ = ["measure_host"]

STEPS = 20
TINY = ((16,),) * 62
NAMES = ("sgd", "adam")


def measure_host(bench: Bench) -> Result:
    """`issue`: until the calls return, 62 tensors of 16. `eager`: until the device is done, ResNet-18. No graphs."""
    on_gpu = bench.machine.device.type == "cuda"
    shapes = {"issue": TINY, "eager": RESNET18} if on_gpu else {"issue": TINY[:3]}
    return {
        kind: {name: _compare(bench, name, chosen, wait=kind == "eager") for name in NAMES}
        for kind, chosen in shapes.items()
    }


def _compare(bench: Bench, name: str, shapes: tuple[tuple[int, ...], ...], wait: bool) -> Result:
    optimizer, storage = OPTIMIZERS[name], STORAGES["fp32"]
    arenas = new_arenas(bench.machine, shapes, optimizer, storage, sets=1)
    works = ours(bench.machine, arenas, optimizer, storage)
    # Not `capturable`: in eager steps the factors of Adam are numbers of the host.
    works |= {peer: make().work for peer, make in peers(arenas, shapes, optimizer, storage, capture=False).items()}
    samples = {label: _sample(work, bench) for label, work in works.items()}
    taken: dict[str, list[float]] = {label: [] for label in samples}
    for _ in range(bench.rounds):
        for label, sample in samples.items():
            taken[label].append(_seconds(bench, sample, wait))
    return {
        label: {
            "microseconds": spread([1e6 * value for value in values]),
            "times_of_flat": ratios(values, taken[FLAT]),
        }
        for label, values in taken.items()
    }


def _sample(work: Work, bench: Bench) -> Sample:
    steps = STEPS if bench.machine.device.type == "cuda" else 1

    def run() -> None:
        for _ in range(steps):
            work(0)

    run()
    return Sample(run, steps)


def _seconds(bench: Bench, sample: Sample, wait: bool) -> float:
    synchronize = torch.cuda.synchronize if bench.machine.device.type == "cuda" else bool
    synchronize()
    start = time.perf_counter()
    sample.run()
    if wait:
        synchronize()
    taken = (time.perf_counter() - start) / sample.steps
    synchronize()
    return taken
