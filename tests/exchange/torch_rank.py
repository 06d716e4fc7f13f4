"""One rank of a torch pipeline that loads a table from CSV, trains one step, and prints its loss and gradients.

Run as `python torch_rank.py RANK DEVICES STORE CLASS CSV STAGES MICROBATCHES`; ranks meet at the file STORE.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed

WIDTH = 3


def network(stages: int) -> list[torch.nn.Module]:
    torch.manual_seed(7)
    return [torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh()) for _ in range(stages)]


def batch(microbatches: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(8)
    return torch.randn(2 * microbatches, WIDTH), torch.randn(2 * microbatches, WIDTH)


def reference(stages: int, microbatches: int) -> dict[str, list[float]]:
    """Gradients per stage of the mean over microbatches, computed in one piece."""
    layers = network(stages)
    x, y = batch(microbatches)
    for inputs, targets in zip(x.chunk(microbatches), y.chunk(microbatches), strict=True):
        for layer in layers:
            inputs = layer(inputs)
        (torch.nn.functional.mse_loss(inputs, targets) / microbatches).backward()
    return {str(s): _gradient(layer) for s, layer in enumerate(layers)}


def _gradient(layer: torch.nn.Module) -> list[float]:
    gradients = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
    return [round(value, 6) for value in torch.cat(gradients).tolist()]


def main(rank: int, devices: int, store: str, kind: str, table: str, stages: int, microbatches: int) -> None:
    from torch.distributed.pipelining import PipelineStage, schedules

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=devices)
    rows = [row.split(",") for row in Path(table).read_text().splitlines()]
    mine = sorted({int(cell[: next(i for i, c in enumerate(cell) if not c.isdigit())]) for cell in rows[rank] if cell})
    layers = network(stages)
    parts = [PipelineStage(layers[s], s, stages, torch.device("cpu")) for s in mine]
    schedule: Any = getattr(schedules, kind)(parts, microbatches, loss_fn=torch.nn.functional.mse_loss)
    if not hasattr(schedule, "pipeline_order"):
        schedule.pipeline_order = {}
    schedule._load_csv(table)
    x, y = batch(microbatches)
    schedule.step(*((x,) if 0 in mine else ()), **({"target": y} if stages - 1 in mine else {}))
    print(json.dumps({str(s): _gradient(layers[s]) for s in mine}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    store, kind, table = sys.argv[3:6]
    main(int(sys.argv[1]), int(sys.argv[2]), store, kind, table, int(sys.argv[6]), int(sys.argv[7]))
