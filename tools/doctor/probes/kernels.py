"""What Triton needs to compile the fused kernels; on the CPU nobody needs it."""

from __future__ import annotations

from collections.abc import Iterator

from asyncpipe.tools.doctor.environment import Environment
from asyncpipe.tools.doctor.finding import Finding, fail, ok, warn
from asyncpipe.tools.nvml import Unavailable

__all__ = ["probe_compiler", "probe_kernel_cache", "probe_triton"]


def probe_triton(environment: Environment) -> Iterator[Finding]:
    version = environment.versions.get("triton")
    needed = None if isinstance(environment.torch, Unavailable) else environment.torch.triton_needed
    if version is None and environment.devices:
        yield fail(
            "triton", "not installed: no fused kernels, hence no back end streams or graph", "pip install triton"
        )
    elif version is None:
        yield ok("triton", "not installed; the CPU does not need it")
    elif needed is not None and needed != version:
        message = f"{version}, but this torch was tested with {needed}"
        yield warn("triton", message, f"pip install triton=={needed}")
    else:
        yield ok("triton", version)


def probe_compiler(environment: Environment) -> Iterator[Finding]:
    """Triton compiles a small C program that starts each kernel."""
    missing = [] if environment.compiler else ["no C compiler"]
    missing += [] if environment.python_headers else ["no Python.h"]
    if not missing:
        yield ok("compiler", f"{environment.compiler}, with Python.h")
    elif environment.devices:
        yield fail("compiler", f"{' and '.join(missing)}: Triton cannot start kernels", "apt install gcc python3-dev")
    else:
        yield ok("compiler", f"{' and '.join(missing)}; the CPU does not need it")


def probe_kernel_cache(environment: Environment) -> Iterator[Finding]:
    if environment.kernel_cache_writable:
        yield ok("kernel cache", environment.kernel_cache)
        return
    problem = fail if environment.devices else warn
    message = f"{environment.kernel_cache} cannot be written: Triton keeps compiled kernels there"
    yield problem("kernel cache", message, "set TRITON_CACHE_DIR to a folder of yours")
