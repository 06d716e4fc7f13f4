"""The main table: one optimizer, one storage, one size; ours against torch's, all checked first."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import torch
from arena import Arena, new_arenas
from bench import Bench, Contender, Result, measure
from cases import OPTIMIZERS, STORAGES, Optimizer, Storage, bytes_per_parameter
from clock import Work
from contenders import FLAT, TABLE, ours, peers
from correctness import check_ours, check_peer
from shapes import lengths_of

__all__ = ["measure_update", "release"]


def measure_update(bench: Bench, optimizer_name: str, storage_name: str, size: str, sets: int | None = None) -> Result:
    """`sets=1` keeps everything in the L2 cache, where it fits. What torch cannot capture is named, with its reason."""
    optimizer, storage, shapes = OPTIMIZERS[optimizer_name], STORAGES[storage_name], bench.size(size)
    arenas = new_arenas(bench.machine, shapes, optimizer, storage, sets)
    works = _checked(ours(bench.machine, arenas, optimizer, storage), arenas[0], optimizer, storage)
    parameters = sum(lengths_of(shapes))
    moved = parameters * bytes_per_parameter(optimizer, storage)
    contenders = {name: Contender(bench.clock.prepare(work, len(arenas)), moved) for name, work in works.items()}
    capture = bench.machine.device.type == "cuda"
    refused: dict[str, str] = {}
    for name, make in peers(arenas, shapes, optimizer, storage, capture).items():
        peer = make()
        check_peer(name, peer, arenas[0], optimizer, storage)
        try:
            sample = bench.clock.prepare(peer.work, peer.sets)
        except RuntimeError as error:
            # As where a version of torch synchronises in a step, which a capture does not allow.
            refused[name] = str(error).splitlines()[0]
        else:
            contenders[name] = Contender(sample, parameters * _peer_bytes(optimizer, storage))
    result = measure(bench, contenders, len(arenas), (FLAT, TABLE))
    where = {"optimizer": optimizer_name, "storage": storage_name, "size": size, "parameters": parameters}
    return {**where, "tensors": len(shapes), **result, "refused": refused}


def release() -> None:
    """Give the memory of one measurement back before the next."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _checked(works: Mapping[str, Work], arena: Arena, optimizer: Optimizer, storage: Storage) -> Mapping[str, Work]:
    before = 0
    for name, work in works.items():
        check_ours(name, work, arena, optimizer, storage, before)
        before += 3
    return works


def _peer_bytes(optimizer: Optimizer, storage: Storage) -> int:
    """Without a master copy torch keeps its states in the weights' dtype, and rounds to nearest."""
    if storage.stochastic:
        size = storage.dtype.itemsize
        return 3 * size + 2 * size * optimizer.states
    return bytes_per_parameter(optimizer, storage)
