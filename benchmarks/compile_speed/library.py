"""The library of schedules: compiling and simulating whatever the number of microbatches, and `check` as a process."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

from clock import Stopwatch, spread

from asyncpipe.analysis.simulate import simulate
from asyncpipe.compiler import compile_schedule
from asyncpipe.errors import UserError
from asyncpipe.schedule import library, load

__all__ = ["NUMBERS", "measure_check", "measure_imports", "measure_lengths"]

NUMBERS = (100, 10_000, 1_000_000, 100_000_000)
HEAVY = ("torch", "numpy")


def measure_lengths(rounds: int) -> dict[str, Any]:
    """Per schedule and number of microbatches: seconds to compile, to lower and to simulate; the program's size."""
    found: dict[str, Any] = {"schedules": {}, "not_measured": {}}
    for name in library():
        try:
            found["schedules"][name] = _lengths(name, rounds)
        except UserError as error:
            found["not_measured"][name] = error.message
    return found


def _lengths(name: str, rounds: int) -> dict[str, Any]:
    schedule = load(name)
    watches = {n: Stopwatch() for n in NUMBERS}
    sizes = {}
    for number in range(rounds + 1):
        for n in NUMBERS:
            watch = watches[n] if number else Stopwatch()  # the first round warms up
            compiled = watch.time("compile", lambda: compile_schedule(schedule))
            program = watch.time("program", lambda c=compiled, m=n: c.program(m))
            watch.time("simulate", lambda p=program: simulate(p))
            sizes[n] = len(program.warmup) + len(program.body) + len(program.cooldown)
    return {str(n): {"instructions": sizes[n], **watches[n].summary()} for n in NUMBERS}


def measure_check(rounds: int) -> dict[str, Any]:
    """Seconds of `asyncpipe check NAME` as a process of its own, and of processes that do less."""
    module = [sys.executable, "-m", "asyncpipe"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import click, ruamel.yaml": [sys.executable, "-c", "import click, ruamel.yaml"],
        "asyncpipe --help": [*module, "--help"],
        **{f"check {name}": [*module, "check", name] for name in library()},
    }
    wall: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    codes: dict[str, int] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, used, codes[name] = _run(command)
            wall[name].append(seconds)
            cpu[name].append(used)
    return {n: {"wall": spread(wall[n]), "cpu": spread(cpu[n]), "exit_code": codes[n]} for n in commands}


def _run(command: list[str]) -> tuple[float, float, int]:
    """Wall and processor seconds of a child, and how it ended."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.returncode


def measure_imports(name: str = "async-lu") -> dict[str, Any]:
    """What `check` imports: milliseconds per library and of the 15 slowest modules, their own bodies only."""
    command = [sys.executable, "-X", "importtime", "-m", "asyncpipe", "check", name]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    own: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("import time:") and "self [us]" not in line:
            microseconds, _, module = line.removeprefix("import time:").split("|")
            own[module.strip()] = int(microseconds) / 1000
    groups: dict[str, float] = defaultdict(float)
    for module, cost in own.items():
        top = module.partition(".")[0]
        groups[top if top in ("asyncpipe", "click", "ruamel", "torch", "numpy") else "standard library"] += cost
    heavy = [top for top in HEAVY if top in own]
    slowest = sorted(own.items(), key=lambda item: -item[1])[:15]
    return {"milliseconds": dict(groups), "slowest": dict(slowest), "heavy": heavy, "modules": len(own)}
