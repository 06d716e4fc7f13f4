"""Rows that other benchmarks measure: a script of the checkout leaves a JSON, of which a few numbers stay."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncpipe.errors import MachineError
from asyncpipe.tools.bench.setting import Setting

__all__ = ["compile_speed", "fidelity", "update_kernels"]

_SCHEDULES = ("async-lu", "sgd", "sgd-overlap", "hogwild", "1f1b", "pipedream", "async-bu", "fdg")
_SCHEDULE_SECONDS = 6.0
"""That benchmarks/fidelity takes for one."""


def _checkout() -> Path:
    """The folder above the package, where `benchmarks` lies; an installed package is without."""
    import asyncpipe

    assert asyncpipe.__file__ is not None
    root = Path(asyncpipe.__file__).absolute().parents[1]
    if not (root / "benchmarks" / "kernels" / "main.py").is_file():
        raise MachineError("needs a checkout of asyncpipe with its folder benchmarks")
    return root


def _run(script: str, options: Sequence[str], seconds: float) -> dict[str, Any]:
    """What the script writes to `--out`."""
    root = _checkout()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, str(root / "benchmarks" / script / "main.py"), *options, "--out", str(out)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, cwd=root)
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            said = f"not done after {seconds:.0f} s; give a larger --budget"
        if not out.exists():
            raise MachineError(f"benchmarks/{script}: {said}")
        document: dict[str, Any] = json.loads(out.read_text())
        return document


def update_kernels(setting: Setting) -> dict[str, Any]:
    """Row 8: benchmarks/kernels, as much of it as the time allows; its goals are the row's."""
    options = ["--smoke", "--only", "update sgd"] if setting.smoke else ["--budget", str(0.8 * setting.seconds)]
    document = _run("kernels", options, setting.seconds)
    values = {goal["what"]: goal["found"]["median"] for goal in document["goals"]}
    return {"values": values, "document": document}


def compile_speed(setting: Setting) -> dict[str, Any]:
    """Row 11: benchmarks/compile_speed, its quick sizes, against torch.distributed.pipelining."""
    document = _run("compile_speed", ["--quick", "--parts", "flat", "retime"], setting.seconds)
    largest = document["results"]["flat"]["interleaved-1f1b"][-1]
    retimed = document["results"]["retime"]
    seconds = {peer: spread["median"] for peer, spread in largest["wall_total"].items()}
    values = {
        f"{largest['actions']:,} actions, asyncpipe, s": seconds["asyncpipe"],
        "times as fast as torch's four functions": largest["wall_ratio"]["torch, four functions"],
        "new times after new costs, s": max(row["wall"]["median"] for row in retimed.values()),
    }
    return {"values": values, "document": document}


def fidelity(setting: Setting) -> dict[str, Any]:
    """Row 12: benchmarks/fidelity for as many schedules as the time allows; by itself it measures the library."""
    count = max(1, min(len(_SCHEDULES), int(0.5 * setting.seconds / _SCHEDULE_SECONDS)))
    options = ["--smoke"] if setting.smoke else ["--schedules", *_SCHEDULES[:count]]
    document = _run("fidelity", options, setting.seconds)
    return {"values": {f"{name} error": value for name, value in document["summary"].items()}, "document": document}
