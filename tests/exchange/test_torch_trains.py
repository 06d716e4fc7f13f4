"""torch.distributed.pipelining trains with exported tables: real processes, gradients of the plain computation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from asyncpipe.exchange.aligned import align
from asyncpipe.exchange.window import window
from asyncpipe.tables.csv_text import csv_text
from tests.exchange import torch_rank
from tests.exchange.schedules import compiled_text, of_table

pytestmark = pytest.mark.slow
SECONDS = 60


def gradients(kind: str, table: str, devices: int, stages: int, microbatches: int, folder: Path) -> dict[str, object]:
    """Per stage, as the ranks of torch's pipeline print them."""
    (folder / "table.csv").write_text(table)
    sizes = [str(stages), str(microbatches)]
    command = [sys.executable, str(Path(torch_rank.__file__)), "RANK", str(devices), str(folder / "store")]
    ranks = [
        subprocess.Popen(
            [*command[:2], str(rank), *command[3:], kind, str(folder / "table.csv"), *sizes],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(devices)
    ]
    found: dict[str, object] = {}
    try:
        for process in ranks:
            out, err = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, err
            found |= json.loads(out)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return found


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("_PipelineScheduleRuntime", "interleaved-1f1b"),
        ("_PipelineScheduleRuntime", "zb-h1"),
        ("PipelineScheduleMulti", "interleaved-1f1b"),
    ],
)
def test_gradients_are_those_of_the_plain_computation(kind: str, name: str, tmp_path: Path) -> None:
    """PipelineScheduleMulti posts its transfers by columns, so its table is aligned in time."""
    compiled = compiled_text(of_table(name, 2, 4, 4))
    found = window(compiled, 4)
    table = csv_text(align(compiled, found) if kind == "PipelineScheduleMulti" else found.rows)
    assert gradients(kind, table, 2, 4, 4, tmp_path) == torch_rank.reference(4, 4)
