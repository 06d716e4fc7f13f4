"""The host's side of an update: checks what it gets, then launches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers, Counters, Gradients, States
from asyncpipe.kernels.fused.checks import FLOATS, problem_of
from asyncpipe.kernels.fused.device.norm import norm_kernel
from asyncpipe.kernels.fused.device.rules import RULES, Rule
from asyncpipe.kernels.fused.device.update import update_kernel
from asyncpipe.kernels.fused.grid import REGISTERS, Grid, choose_grid
from asyncpipe.kernels.fused.issuing import LAUNCHES
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.requirements import compute_dtype, require_tensors
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable

__all__ = ["FusedUpdate", "new_counters"]

DTYPES = {
    torch.float32: tl.float32,
    torch.float64: tl.float64,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


class _Launch(NamedTuple):
    kernel: Any
    programs: int
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    gradients: Sequence[Tensor]
    """Those behind the addresses of the arguments."""


class FusedUpdate:
    """One optimizer step of one stage: one launch, two where the norm is clipped. `flat` never synchronises or
    allocates after the first call; `tensors` neither, where it has seen the gradients' addresses or within `ADDRESSES`.

    Tensors are flat, dense, on one device and start at multiples of 16 bytes. `scalars` and all tensors may change
    between launches, in the order of the stream. Launches that may overlap need counters with tickets of their own.
    """

    def __init__(
        self,
        rule: str | Rule,
        options: Options,
        buffers: Buffers,
        states: States,
        counters: Counters,
        scalars: Scalars,
        grid: Grid | None = None,
    ) -> None:
        self.rule = RULES[rule] if isinstance(rule, str) else rule
        self.options = options
        self.buffers = buffers
        self.states = states
        self.scalars = scalars
        self.grid = choose_grid(buffers.weights.device) if grid is None else grid
        self.counters = self._with_norm(counters)
        require_tensors(self.rule, options, buffers, states, self.counters, scalars)

    def flat(self, gradient: Tensor) -> None:
        """Apply a gradient of the arena's layout; it stays as it is."""
        for launch in self._flat(gradient):
            self._run(launch)

    def tensors(self, table: GradientTable, gradients: Sequence[Tensor | None], reads: Tensor | None = None) -> None:
        """Apply gradients that lie anywhere, all of one dtype; where there is None, weights and states stay.

        reads: of this launch, instead of those of `counters`.
        """
        for launch in self._tensors(table, gradients, reads):
            self._run(launch)

    def compile(self, gradient: Tensor) -> list[Any]:
        """Triton's compiled kernels of `flat`, in the order of their launches, for the active driver's target."""
        return [_compile(launch) for launch in self._flat(gradient)]

    def compile_tensors(self, table: GradientTable, gradients: Sequence[Tensor | None]) -> list[Any]:
        """The same for `tensors`."""
        return [_compile(launch) for launch in self._tensors(table, gradients)]

    def _flat(self, gradient: Tensor) -> Iterator[_Launch]:
        weights = self.buffers.weights
        problems = list(problem_of("gradient", gradient, weights.numel(), weights.device, FLOATS))
        if problems:
            raise ValueError("; ".join(problems))
        n = weights.numel()
        return self._launches(Gradients(flat=gradient), gradient.dtype, n, triton.cdiv(n, self.grid.block), [gradient])

    def _tensors(
        self, table: GradientTable, gradients: Sequence[Tensor | None], reads: Tensor | None = None
    ) -> Iterator[_Launch]:
        weights = self.buffers.weights
        if table.device != weights.device:
            raise ValueError(f"expected a table on {weights.device}, found one on {table.device}")
        if table.end > weights.numel() or table.block != self.grid.block:
            raise ValueError(
                f"expected a table of at most {weights.numel()} elements in blocks of {self.grid.block},"
                f" found {table.end} in blocks of {table.block}"
            )
        dtype = next((gradient.dtype for gradient in gradients if gradient is not None), torch.float32)
        given = Gradients(addresses=table.addresses(gradients, dtype), blocks=table.blocks)
        present = [gradient for gradient in gradients if gradient is not None]
        return self._launches(given, dtype, len(table.blocks), len(table.blocks), present, reads)

    def _launches(
        self,
        gradients: Gradients,
        dtype: torch.dtype,
        n: int,
        blocks: int,
        tensors: Sequence[Tensor],
        reads: Tensor | None = None,
    ) -> Iterator[_Launch]:
        counters = self.counters if reads is None else self.counters._replace(reads=reads)
        programs = self.grid.count(blocks)
        constants = {
            "OPTIONS": self.options,
            "COMPUTE": DTYPES[compute_dtype(self.buffers.weights)],
            "GRADIENT": DTYPES[dtype],
            "BLOCK": self.grid.block,
            "num_warps": self.grid.warps,
            "maxnreg": REGISTERS,
            # Contraction would round differently from the interpreter and between versions of Triton, and gain
            # nothing: the kernels wait for memory.
            "enable_fp_fusion": False,
        }
        if "clip_norm" in self.options.transforms:
            count = self.options.transforms.index("clip_norm")
            constants_of_norm = constants | self._norm_constants(count)
            yield _Launch(norm_kernel, programs, self._norm_arguments(gradients, n), constants_of_norm, tensors)
        arguments = (self.buffers, self.states, gradients, counters, self.scalars.tensor, n)
        yield _Launch(update_kernel, programs, arguments, constants | self._update_constants(counters), tensors)

    def _norm_arguments(self, gradients: Gradients, n: int) -> tuple[Any, ...]:
        counters = self.counters
        return (self.buffers, gradients, counters.norm, self._partials, counters.ticket, self.scalars.tensor, n)

    def _norm_constants(self, count: int) -> dict[str, Any]:
        return {"COUNT": count, "PROGRAMS": len(self._partials)}

    def _update_constants(self, counters: Counters) -> dict[str, Any]:
        reads, histogram = counters.reads, counters.histogram
        return {
            "COEFFICIENTS": self.rule.coefficients,
            "RULE": self.rule.math,
            "MICROBATCHES": 1 if reads is None else reads.numel(),
            "HISTOGRAM": 1 if histogram is None else histogram.numel(),
        }

    def _with_norm(self, counters: Counters) -> Counters:
        if "clip_norm" not in self.options.transforms:
            return counters._replace(norm=None)
        device = self.buffers.weights.device
        self._partials = torch.zeros(triton.next_power_of_2(self.grid.programs), dtype=torch.float64, device=device)
        return counters._replace(norm=torch.zeros(1, dtype=torch.float64, device=device))

    def _run(self, launch: _Launch) -> None:
        run = partial(_start, self.buffers.weights.device, launch.kernel, launch.programs, launch.constants)
        watched = LAUNCHES.get()
        if watched is None:
            run(*launch.arguments)
        else:
            name, touched = f"{launch.kernel} {launch.constants}", list(self._touched(launch))
            watched.kernel(name, run, touched, self._written(), launch.arguments)

    def _touched(self, launch: _Launch) -> Iterator[Tensor]:
        yield from launch.gradients
        for argument in launch.arguments:
            parts = argument if isinstance(argument, tuple) else (argument,)
            yield from (part for part in parts if isinstance(part, Tensor))

    def _written(self) -> list[Tensor]:
        constant = {"read", "reads", "seed"}
        groups = (self.buffers, self.states, self.counters)
        found = [value for group in groups for name, value in group._asdict().items() if name not in constant]
        return [value for value in found if isinstance(value, Tensor)]


def new_counters(rule: str | Rule, device: torch.device) -> Counters:
    """Those that every update needs, at their first values."""
    chosen = RULES[rule] if isinstance(rule, str) else rule
    return Counters(
        step=torch.zeros(1, dtype=torch.int64, device=device),
        ticket=torch.zeros(1, dtype=torch.int32, device=device),
        product=torch.ones(1, dtype=torch.float64, device=device) if chosen.product else None,
    )


def _start(device: torch.device, kernel: Any, programs: int, constants: dict[str, Any], *arguments: Any) -> None:
    with _on(device):
        kernel[(programs,)](*arguments, **constants)


def _compile(launch: _Launch) -> Any:
    return launch.kernel.warmup(*launch.arguments, grid=(launch.programs,), **launch.constants)


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device; on a CPU it interprets, or RuntimeError."""
    if device.type == "cuda":
        return torch.cuda.device(device)
    if not triton.knobs.runtime.interpret:
        raise RuntimeError(
            f"the weights are on the device {device}, where Triton only interprets kernels: set TRITON_INTERPRET=1"
            " before Python starts, or put all tensors on a CUDA device"
        )
    return contextlib.nullcontext()
