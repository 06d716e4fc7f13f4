"""Cores and threads: what `threads` divides among its workers, and what takes them away."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, ok, warn
from asyncpipe.tools.nvml import Unavailable

__all__ = ["probe_cores", "probe_intra_op_threads"]

_BINDING = ("OMP_PROC_BIND", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES")
_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def probe_cores(environment: Environment) -> Iterator[Finding]:
    """`threads` starts a worker for each core that it may run on, whatever share of their time it gets."""
    processor = environment.processor
    text = f"{processor.allowed} of {processor.cores} may be used"
    if processor.quota is not None and processor.quota < processor.allowed:
        message = f"{text}, but the container gets the time of {processor.quota:g}: workers stop each other"
        yield warn("cores", message, f"taskset -c {_list(processor.numbers[: processor.usable])} asyncpipe ...")
    elif processor.usable == 1:
        yield warn("cores", f"{text}: streams take turns, and `threads` is no faster than `serial`")
    else:
        yield ok("cores", text)


def probe_intra_op_threads(environment: Environment) -> Iterator[Finding]:
    usable, variables = environment.processor.usable, environment.variables
    given = {name: variables[name] for name in _COUNTS if name in variables}
    for name, value in given.items():
        if value.isdigit() and int(value) > usable:
            yield warn("op threads", f"{name}={value} is more than {usable} cores", f"export {name}={usable}")
    if "OMP_NUM_THREADS" not in given and _torch_threads(environment) > usable:
        message = f"torch starts {_torch_threads(environment)} threads for an operation, on {usable} cores"
        yield warn("op threads", message, f"export OMP_NUM_THREADS={usable}")
    for name in _BINDING:
        if name in variables:
            message = f"{name}={variables[name]} binds the threads of every stream to the same cores"
            yield warn("op threads", message, f"unset {name}")
    shown = ", ".join(f"{name}={value}" for name, value in given.items()) or "no limit set"
    yield ok("op threads", f"{_torch_threads(environment)} for an operation ({shown})")


def _torch_threads(environment: Environment) -> int:
    return 1 if isinstance(environment.torch, Unavailable) else environment.torch.intra_op_threads


def _list(numbers: tuple[int, ...]) -> str:
    """As taskset reads it: `0-7`, or `0,2,4`."""
    first, last = numbers[0], numbers[-1]
    if first < last == first + len(numbers) - 1:
        return f"{first}-{last}"
    return ",".join(map(str, numbers))
