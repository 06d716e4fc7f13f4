"""Fused updates to compile, as data, and the accesses of 16 bytes that each must make for a whole block.

Imports nothing of Triton, which decides once in a process whether kernels are compiled or interpreted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asyncpipe.kernels.fused.options import Options

__all__ = ["VARIANTS", "Variant", "accesses"]

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
VECTOR = 16
"""Bytes of the widest access of a thread."""


@dataclass(frozen=True)
class Variant:
    """One update: names in `States`, in `Buffers` beside the weights, and in `Counters` beside those always there.

    `table`: gradients arrive as separate tensors. `portable`: compiled for every architecture, not for one alone.
    """

    rule: str
    options: Options = Options()  # noqa: RUF009, frozen
    states: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    weights: str = "float32"
    gradient: str = "float32"
    counters: tuple[str, ...] = ()
    table: bool = False
    portable: bool = False

    def tensors(self) -> list[str]:
        """All that have one element for each weight."""
        return ["weights", "gradient", *self.states, *self.buffers]

    def dtype(self, name: str) -> str:
        """Of one of them; states, the master copy and the drift are as precise as the arithmetic."""
        if name == "gradient":
            return self.gradient
        if name in (*self.states, "master", "drift"):
            return "float64" if self.weights == "float64" else "float32"
        return self.weights

    def transforms(self, kernel: str) -> tuple[str, ...]:
        """Those that a kernel applies: the norm is that of the gradient before the clip."""
        transforms = self.options.transforms
        return transforms[: transforms.index("clip_norm")] if kernel == "norm_kernel" else transforms


def accesses(variant: Variant, kernel: str, block: int, threads: int) -> dict[str, int]:
    """Accesses of 16 bytes by one thread for one block: loads, stores and atomic operations."""

    def vectors(names: Iterable[str]) -> int:
        return sum(block * BYTES[variant.dtype(name)] // (threads * VECTOR) for name in names)

    added = [changed(variant)] if variant.options.atomic and kernel == "update_kernel" else []
    return {
        "load": vectors(loaded(variant, kernel)),
        "store": vectors(name for name in stored(variant, kernel) if name not in added),
        "atomic": vectors(added),
    }


def loaded(variant: Variant, kernel: str) -> Iterator[str]:
    """Tensors that a kernel reads; loads that nothing needs are left out by the compiler."""
    yield "gradient"
    compensates = "delay_compensation" in variant.transforms(kernel)
    updates = kernel == "update_kernel"
    needs_weights = not variant.options.atomic or variant.options.decay != "none" or "drift" in variant.buffers
    if compensates:
        yield "read"
    if compensates or (updates and needs_weights):
        yield "private" if "private" in variant.buffers else "weights"
        yield from {"master"}.intersection(variant.buffers)
    if updates:
        yield from variant.states
        yield from {"drift"}.intersection(variant.buffers)


def stored(variant: Variant, kernel: str) -> list[str]:
    """Tensors that a kernel writes."""
    return [name for name in variant.tensors() if name not in ("gradient", "read") and kernel == "update_kernel"]


def changed(variant: Variant) -> str:
    """The tensor that an atomic update adds to."""
    return "master" if "master" in variant.buffers else "weights"


NESTEROV = Options(momentum=True, nesterov=True, maximize=True)
COUPLED = Options(momentum=True, decay="coupled")
ATOMIC = Options(momentum=True, atomic=True)
STOCHASTIC = Options(momentum=True, rounding="stochastic")
CLIP = Options(momentum=True, transforms=("clip_norm",))
CLIP_LAST = Options(momentum=True, transforms=("shrink", "delay_compensation", "clip_norm"), lr_over_staleness=True)
CLIP_FIRST = Options(transforms=("clip_norm", "delay_compensation"))
FIRST = ("first",)
BOTH = ("first", "second")
HALF = "bfloat16"

VARIANTS = {
    "sgd": Variant("sgd", COUPLED, FIRST),
    "sgd table": Variant("sgd", COUPLED, FIRST, table=True, portable=True),
    "sgd plain": Variant("sgd"),
    "sgd nesterov": Variant("sgd", NESTEROV, FIRST, (), "float16", "float16"),
    "sgd spike": Variant("sgd", Options(momentum=True, spike=True), FIRST, table=True),
    "sgd master": Variant("sgd", COUPLED, FIRST, ("master",), HALF, HALF),
    "sgd stochastic": Variant("sgd", STOCHASTIC, FIRST, (), HALF, HALF, ("seed",)),
    "sgd atomic": Variant("sgd", ATOMIC, FIRST, portable=True),
    "sgd atomic float64": Variant("sgd", ATOMIC, FIRST, (), "float64", "float64"),
    "sgd atomic master": Variant("sgd", ATOMIC, FIRST, ("master",), HALF, HALF, table=True),
    "sgd drift": Variant("sgd", COUPLED, FIRST, ("drift", "corrected")),
    "sgd private": Variant("sgd", COUPLED, FIRST, ("private", "peer"), gradient=HALF),
    "sgd clip": Variant("sgd", CLIP, FIRST, portable=True),
    "sgd clip table": Variant("sgd", CLIP, FIRST, (), HALF, HALF, table=True),
    "sgd clip first": Variant("sgd", CLIP_FIRST, (), ("read",)),
    "sgd clip last": Variant("sgd", CLIP_LAST, FIRST, ("read",), counters=("version", "reads", "histogram")),
    "adam": Variant("adam", Options(), BOTH, portable=True),
    "adam table": Variant("adam", Options(decay="coupled"), BOTH, table=True),
    "adam amsgrad": Variant("adam", Options(amsgrad=True), (*BOTH, "largest")),
    "adam float64": Variant("adam", Options(), BOTH, (), "float64", "float64"),
    "adamw master": Variant("adam", Options(decay="decoupled"), BOTH, ("master",), HALF, HALF),
    "nadam": Variant("nadam", Options(), BOTH, portable=True),
    "nadam ahead": Variant("nadam", Options(decay="decoupled"), BOTH, ("ahead",), table=True),
    "lion": Variant("lion", Options(decay="decoupled"), FIRST, portable=True),
    "lion stochastic": Variant("lion", Options(rounding="stochastic"), FIRST, (), HALF, HALF, ("seed",), table=True),
}
"""Every rule, dtype, write mode, follower and transform, from a flat gradient and from a table."""
