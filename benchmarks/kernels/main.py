"""The fused update kernels on an NVIDIA GPU, against the bandwidth of a copy and against torch.optim.

    python benchmarks/kernels/main.py --out benchmarks/results/kernels.json
    python benchmarks/kernels/main.py --smoke          # tiny, interpreted on the CPU: shows that the script works

Everything that is compared runs in turns within one process, as CUDA graphs; ratios are taken within a round. Every
kernel is checked against float64 before it is timed. Exits with 4 without a GPU, with 1 if a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench import Bench
    from plan import Job

NO_GPU = 4


def refuse(reason: str) -> int:
    print(f"benchmarks/kernels: {reason}; --smoke runs everything tiny on the CPU, without claims", file=sys.stderr)
    return NO_GPU


def open_bench(smoke: bool, rounds: int, sample_seconds: float) -> Bench:
    from arena import Machine
    from bench import Bench
    from clock import GraphClock, HostClock
    from copies import Copies
    from shapes import SHAPES, SMOKE_SHAPES

    if smoke:
        machine = Machine.interpreted()
        return Bench(machine, HostClock(), 1, Copies(machine.device, 1024), SMOKE_SHAPES)
    machine = Machine.find()
    return Bench(machine, GraphClock(sample_seconds), rounds, Copies(machine.device, 2**28), SHAPES)


def run_job(job: Job, bench: Bench) -> dict[str, Any]:
    """The result with what it took, or the reason why there is none: one failure does not stop the rest."""
    from gpu_state import describe_gpu
    from report import table
    from updates import release

    start = time.monotonic()
    print(f"\n## {job.name}\n", flush=True)
    try:
        result = job.run(bench)
        print(table(result), flush=True)
    except Exception as error:  # whatever it is, the other parts are worth measuring
        result = {"failed": f"{type(error).__name__}: {error}"}
        print(f"failed: {result['failed']}", flush=True)
    release()
    return {"result": result, "seconds": time.monotonic() - start, "gpu": describe_gpu()}


def run_plan(jobs: list[Job], bench: Bench, budget: float, document: dict[str, Any], out: Path | None) -> None:
    """Fill the document, and write it after every part: what was measured stays if the process is stopped."""
    from goals import check_goals

    start = time.monotonic()
    for job in jobs:
        if time.monotonic() - start + job.seconds > budget:
            document["not_measured"].append(job.name)
            continue
        done = run_job(job, bench)
        document["results"][job.name] = done["result"]
        document["parts"][job.name] = {"seconds": done["seconds"], "gpu": done["gpu"]}
        document["goals"] = [] if document["smoke"] else check_goals(document["results"])
        if out:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(document, indent=2) + "\n")


def new_document(options: argparse.Namespace) -> dict[str, Any]:
    from gpu_state import describe_gpu

    from asyncpipe.tools.environment import describe_environment

    return {
        "benchmark": "kernels",
        "smoke": options.smoke,
        "options": {**vars(options), "out": str(options.out) if options.out else None},
        "environment": describe_environment(),
        "gpu": describe_gpu(),
        "results": {},
        "parts": {},
        "goals": [],
        "not_measured": [],
    }


def finish(document: dict[str, Any]) -> int:
    """The verdicts last, where they are seen."""
    from goals import goals_table

    failed = {name: result["failed"] for name, result in document["results"].items() if "failed" in result}
    if document["smoke"]:
        print("\nsmoke run: the kernels were interpreted on the CPU, and the times above mean nothing")
    else:
        print(f"\n{goals_table(document['goals'])}")
    for name in document["not_measured"]:
        print(f"not measured, the budget was spent: {name}")
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=420.0, help="seconds; what does not fit is left out")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--sample-seconds", type=float, default=0.005, help="at least so long is each timed graph")
    parser.add_argument("--only", nargs="+", default=[], help="parts whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    parser.add_argument("--smoke", action="store_true", help="tiny and interpreted, on the CPU")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    options = parse()
    # Triton reads it when kernels are defined, so it is set before anything imports them.
    os.environ["TRITON_INTERPRET"] = "1" if options.smoke else "0"
    try:
        import torch
        import triton  # noqa: F401
    except ImportError as error:
        return refuse(f"needs torch and triton: {error}")
    if not options.smoke and not options.list and not torch.cuda.is_available():
        return refuse(f"needs an NVIDIA GPU, torch {torch.__version__} finds none")
    from plan import full_plan, smoke_plan

    jobs = smoke_plan() if options.smoke else full_plan()
    jobs = [job for job in jobs if not options.only or any(part in job.name for part in options.only)]
    if options.list:
        print("\n".join(job.name for job in jobs))
        return 0
    # Each graph's capture collects garbage; what torch's modules hold need not be looked through every time.
    import gc

    gc.freeze()
    # Optimizers made for capture also run before it, as a warm-up.
    warnings.filterwarnings("ignore", message=".*capturable=True.*")
    torch.manual_seed(0)
    document = new_document(options)
    run_plan(
        jobs, open_bench(options.smoke, options.rounds, options.sample_seconds), options.budget, document, options.out
    )
    return finish(document)


if __name__ == "__main__":
    sys.exit(main())
