"""Nine experiments on how CUDA streams, graphs, events and partitions behave, which the design of a back end rests on.

    python benchmarks/cuda_experiments/main.py --out benchmarks/results/cuda_experiments.json
    python benchmarks/cuda_experiments/main.py --list
    python benchmarks/cuda_experiments/main.py --only 7 4
    python benchmarks/cuda_experiments/main.py --budget 90

Each runs in a process of its own, with its own time limit: an illegal access, a hang or a missing interface ends one,
not the rest. Exits with 4 without a GPU, with 1 if an experiment gave no values.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_GPU = 4
LEAST_SECONDS = 5.0
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Experiment:
    """`module` has `EXPECTED` and `run()`. `seconds`: its limit, with the start of a process."""

    module: str
    question: str
    seconds: int


EXPERIMENTS = {
    1: Experiment("overlap", "do two streams of kernels overlap", 60),
    2: Experiment("partitions", "are green contexts from one split disjoint, and do they help", 60),
    3: Experiment("periods", "is a graph of K microbatches equal to the serial result", 120),
    4: Experiment("reuse", "does memory freed early corrupt what another stream reads", 45),
    5: Experiment("exec_memory", "what does a graph cost in device memory", 90),
    6: Experiment("boundaries", "what does the end of a period cost", 45),
    7: Experiment("external_events", "what does a wait see that is launched before its record", 45),
    8: Experiment("stamps", "how fine is the device's clock, and are GPM metrics there", 45),
    10: Experiment("host_cost", "what does a kernel cost the host", 60),
}
"""9, the update kernels, is benchmarks/kernels."""


def run_here(number: int) -> int:
    """In the process of one experiment: its values as the last line of stdout."""
    module = importlib.import_module(EXPERIMENTS[number].module)
    print(json.dumps(module.run()))
    return 0


def run_apart(number: int, left: float) -> dict[str, Any]:
    """The values of one experiment, or why there are none; how long it took. left: seconds of the budget."""
    experiment = EXPERIMENTS[number]
    limit = min(experiment.seconds, left)
    if limit < LEAST_SECONDS:
        return {"question": experiment.question, "seconds": 0.0, "not_measured": "the budget was spent"}
    # Streams that share one of the device's queues wait for each other; it has 8 unless told before it starts.
    environment = {**os.environ, "CUDA_DEVICE_MAX_CONNECTIONS": "32", "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(HERE / "main.py"), "--run", str(number)]
    start = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)
        found = _values(done)
    except subprocess.TimeoutExpired:
        found = {"failed": f"not done after {limit:.0f} seconds"}
    return {"question": experiment.question, "seconds": time.monotonic() - start, **found}


def _values(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"failed": lines[-1], "traceback": lines[-30:]}
    return {"values": json.loads(done.stdout.splitlines()[-1])}


def table(number: int, result: dict[str, Any]) -> str:
    """Every value on a line of its own, by its path."""
    lines = [f"## {number}. {result['question']} ({result['seconds']:.0f} s)", f"expected: {result['expected']}"]
    lines += result["traceback"] if "traceback" in result else [result["failed"]] if "failed" in result else []
    lines += [f"not measured: {result['not_measured']}"] if "not_measured" in result else []
    return "\n".join([*lines, *_flat("", result.get("values", {}))]) + "\n"


def _flat(path: str, value: Any) -> list[str]:
    if isinstance(value, dict) and set(value) == {"median", "low", "high"}:
        return [f"{path}: {value['median']:.4g} ({value['low']:.4g}-{value['high']:.4g})"]
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _flat(f"{path}, {key}" if path else key, inner)]
    return [f"{path}: {value}"]


def measure(numbers: list[int], out: Path | None, budget: float) -> int:
    """In order, writing after each, for so many seconds."""
    end = time.monotonic() + budget
    from asyncpipe.tools.environment import describe_environment

    document: dict[str, Any] = {"benchmark": "cuda_experiments", "environment": describe_environment(), "results": {}}
    for number in numbers:
        result = {
            "expected": importlib.import_module(EXPERIMENTS[number].module).EXPECTED,
            **run_apart(number, end - time.monotonic()),
        }
        document["results"][str(number)] = result
        print(table(number, result), flush=True)
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if any("failed" in result for result in document["results"].values()) else 0


def refusal() -> str:
    """Why this machine cannot; else nothing."""
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        return f"needs torch and triton: {error}"
    return "" if torch.cuda.is_available() else f"needs an NVIDIA GPU, torch {torch.__version__} finds none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="name the experiments and what they expect, and stop")
    parser.add_argument("--only", nargs="+", type=int, choices=list(EXPERIMENTS), default=list(EXPERIMENTS))
    parser.add_argument("--run", type=int, choices=list(EXPERIMENTS), help="one, in this process; values on stdout")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds; what does not fit is left out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.list:
        for number in options.only:
            module = importlib.import_module(EXPERIMENTS[number].module)
            print(f"{number}. {EXPERIMENTS[number].question}\n   expected: {module.EXPECTED}")
        return 0
    if reason := refusal():
        print(f"benchmarks/cuda_experiments: {reason}", file=sys.stderr)
        return NO_GPU
    return run_here(options.run) if options.run else measure(options.only, options.out, options.budget)


if __name__ == "__main__":
    sys.exit(main())
