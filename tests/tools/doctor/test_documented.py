"""The report that docs/tools.md shows is what the probes say of such a machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import indent

from asyncpipe.tools.doctor import Environment
from asyncpipe.tools.doctor.environment import Processor, Torch
from tests.tools.doctor.machines import gpu_machine, report
from tests.tools.nvml.fake_pynvml import hopper

DOCUMENT = Path(__file__).parents[3] / "docs" / "tools.md"


def documented() -> Environment:
    """A container with one GPU, half of whose cores it gets, and no cuda-bindings."""
    machine = gpu_machine(hopper("GPU-a", PersistenceMode=0))
    assert isinstance(machine.torch, Torch)
    libraries = ("/usr/lib/libcudnn.so.9", "/venv/lib/libcudnn.so.9")
    return replace(
        machine,
        libraries=libraries,
        variables={"LD_LIBRARY_PATH": "/usr/lib"},
        versions={**machine.versions, "cuda-bindings": None},
        torch=replace(machine.torch, intra_op_threads=8),
        processor=Processor(16, tuple(range(16)), 8.0),
    )


def test_the_report_in_the_document_is_the_report() -> None:
    assert indent(report(documented()), "    ") in DOCUMENT.read_text("utf-8")
