"""Compile without a GPU or its driver: for tests, and to fill Triton's cache ahead of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import triton
from triton.backends.compiler import GPUTarget

__all__ = ["compiling_for"]


class _NoDevice:
    """As much of a driver as compiling asks for; launching fails."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        # Triton keeps compiled kernels by device: each architecture is one.
        return int(self._target.arch)

    def get_current_stream(self, device: int) -> int:
        return 0


@contextlib.contextmanager
def compiling_for(architecture: int) -> Iterator[None]:
    """`FusedUpdate.compile` inside makes cubins for sm_`architecture`; tensors may lie on the CPU.

    Alignment, dtypes and constants are taken from real arguments, as at a launch. RuntimeError under TRITON_INTERPRET.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set: kernels are interpreted, not compiled; unset it")
    driver = triton.runtime.driver
    # None where no driver was needed yet; `reset_active` would need one now.
    before = driver._active
    driver.set_active(_NoDevice(GPUTarget("cuda", architecture, 32)))
    try:
        yield
    finally:
        driver.set_active(before)
