"""Everything that needs an NVIDIA GPU, in one command under nine minutes: `make gpu`.

    python benchmarks/gpu.py                   # writes benchmarks/results/GPU-DATE.json after each part
    python benchmarks/gpu.py --only suite --minutes 20
    python benchmarks/gpu.py --list

Each part is a process with a share of the time; what it leaves goes to the next ones, most of all to the suite, the
last. A part that fails or is stopped has its reason in the file, and the others run. Without a GPU nothing is done, and
the exit code is 0; where a module is missing it is 4; where a part has failed it is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NEEDED = ("torch", "triton", "numpy", "click", "ruamel.yaml", "rich", "pytest", "hypothesis")
MINUTES = 9.0
RESERVE = 15.0
"""Seconds at the end, for what ends late."""
TESTS_OF_KERNELS = "tests/kernels/fused"


@dataclass(frozen=True)
class Part:
    """`seconds`: of nine minutes; the suite takes what is left. `{budget}` and `{out}` stand for its limit and file."""

    name: str
    seconds: float
    command: tuple[str, ...]

    @property
    def writes(self) -> bool:
        return "{out}" in self.command

    def filled(self, budget: float, out: Path) -> list[str]:
        values = {"{budget}": f"{budget:.0f}", "{out}": str(out)}
        return [values.get(word, word) for word in self.command]


def marked_tests() -> list[str]:
    """The files that have tests for a GPU: others may need what this machine does not have."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.cuda" in file.read_text()]


def parts() -> list[Part]:
    """In order."""
    suite = ("-m", "asyncpipe", "tools", "bench", "--device", "cuda", "--budget", "{budget}", "--out", "{out}")
    others = ("1", "2", "3", "4", "5", "6", "7", "10", "11", "12", "13")
    return [
        Part("tests", 70, ("-m", "pytest", "-q", "-m", "cuda", *marked_tests())),
        Part("tests of kernels", 40, ("-m", "pytest", "-q", TESTS_OF_KERNELS)),
        Part("kernels", 90, ("benchmarks/kernels/main.py", "--budget", "{budget}", "--out", "{out}")),
        Part("experiments", 80, ("benchmarks/cuda_experiments/main.py", "--budget", "{budget}", "--out", "{out}")),
        Part("suite", 245, (*suite, "--rows", ",".join(others))),
    ]


def missing_modules() -> list[str]:
    return [name for name in NEEDED if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package above it
        return False


def gpu_name() -> str | None:
    """Of the first GPU that torch can use."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def result_file(gpu: str, day: str) -> Path:
    return RESULTS / f"{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}-{day}.json"


def run_part(part: Part, limit: float) -> dict[str, Any]:
    """What it wrote, and how it ended. Its output goes to this one's, as it comes."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, *part.filled(0.9 * limit, out)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "0"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        found = {"document": json.loads(out.read_text())} if part.writes and out.exists() else {}
    failed = {} if code == 0 else {"failed": f"stopped after {limit:.0f} s" if code is None else f"exit code {code}"}
    return {"command": " ".join(part.command), "seconds": time.monotonic() - start, **failed, **found}


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def shares(wanted: Sequence[Part], seconds: float, clock: Any = time.monotonic) -> Iterator[tuple[Part, float]]:
    """Each part with its limit when its turn comes: its share of what is left then."""
    end = clock() + seconds
    for number, part in enumerate(wanted):
        yield part, (end - clock()) * part.seconds / sum(other.seconds for other in wanted[number:])


def run(wanted: Sequence[Part], seconds: float, out: Path) -> int:
    from asyncpipe.tools.environment import describe_environment

    document: dict[str, Any] = {"benchmark": "gpu", "environment": describe_environment(), "parts": {}}
    for part, limit in shares(wanted, seconds):
        print(f"\n# {part.name}, up to {limit:.0f} s", flush=True)
        document["parts"][part.name] = run_part(part, limit)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1) + "\n")
    failed = {name: found["failed"] for name, found in document["parts"].items() if "failed" in found}
    print(f"\nwrote {out}")
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [part.name for part in parts()]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--list", action="store_true", help="name the parts with their seconds and commands, and stop")
    options = parser.parse_args()
    wanted = [part for part in parts() if part.name in options.only]
    seconds = 60 * options.minutes - RESERVE
    if options.list:
        for part in wanted:
            print(f"{part.name}, {part.seconds:g} s: {' '.join(part.command)}")
        return 0
    if missing := missing_modules():
        lacking = f"{sys.executable} lacks {', '.join(missing)}"
        print(f"benchmarks/gpu.py: {lacking}; `make gpu-wheels` fetches what to carry", file=sys.stderr)
        return 4
    gpu = gpu_name()
    if gpu is None:
        print(f"skipped: no NVIDIA GPU that the torch of {sys.executable} can use", file=sys.stderr)
        return 0
    return run(wanted, seconds, result_file(gpu, datetime.now(UTC).date().isoformat()))


if __name__ == "__main__":
    sys.exit(main())
