"""What a launch refuses, with the whole message: kernels see addresses only, and would write wherever they point."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from asyncpipe.kernels.fused.buffers import Buffers
from asyncpipe.kernels.fused.options import Options
from asyncpipe.kernels.fused.scalars import Scalars
from asyncpipe.kernels.fused.table import GradientTable
from tests.kernels.fused.memory import SMALL, Memory

N = 32
BFLOAT16 = torch.bfloat16
FLOATS = "torch.float32 or torch.bfloat16 or torch.float16 or torch.float64"
UNALIGNED = (
    "{}: expected memory that starts at a multiple of 16 bytes, found it {} bytes behind one;"
    " cut views at multiples of {} elements, or copy it with .clone()"
)

WRONG_TENSORS: dict[str, tuple[Callable[[Memory], Tensor], str]] = {
    "an unaligned view": (lambda memory: memory.full(N + 1, 0.0)[1:], UNALIGNED.format("{}", 4, 4)),
    "an unaligned view of two bytes": (
        lambda memory: memory.full(N + 3, 0.0, BFLOAT16)[3:],
        UNALIGNED.format("{}", 6, 8),
    ),
    "gaps": (
        lambda memory: memory.full(2 * N, 0.0)[::2],
        "{}: expected memory without gaps, found shape (32,) with strides (2,); copy it with .contiguous()",
    ),
    "one element for all": (
        lambda memory: memory.full(1, 0.0).expand(N),
        "{}: expected memory without gaps, found shape (32,) with strides (0,); copy it with .contiguous()",
    ),
    "integers": (lambda memory: torch.zeros(N, dtype=torch.int32, device=memory.device), "int32"),
    "too few elements": (lambda memory: memory.full(N - 1, 0.0), "{}: expected 32 elements, found 31"),
    "another device": (
        lambda memory: torch.zeros(N, device="meta"),
        "{}: expected a tensor on DEVICE, found one on meta; move it there",
    ),
}
DTYPES = {"drift": "torch.float32", "master": "torch.float32"}
HALF_ONLY = "; master: only weights of two bytes have one, found torch.float32"


def rejected(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("kind", WRONG_TENSORS)
@pytest.mark.parametrize("name", ["private", "read", "ahead", "drift", "peer"])
def test_a_buffer_that_kernels_could_not_walk_is_rejected(memory: Memory, name: str, kind: str) -> None:
    make, template = WRONG_TENSORS[kind]
    dtypes = DTYPES.get(name, FLOATS)
    message = template.replace("int32", f"{{}}: expected {dtypes}, found torch.int32").format(name)
    if name in DTYPES and kind.endswith("two bytes"):
        message = f"{name}: expected {dtypes}, found torch.bfloat16; {message}"
    with rejected(message.replace("DEVICE", str(memory.device))):
        memory.update("sgd", Options(), {}, Buffers(memory.full(N, 0.0), **{name: make(memory)}))


@pytest.mark.parametrize("kind", WRONG_TENSORS)
def test_a_gradient_that_kernels_could_not_walk_is_rejected(memory: Memory, kind: str) -> None:
    make, template = WRONG_TENSORS[kind]
    message = template.replace("int32", f"{{}}: expected {FLOATS}, found torch.int32").format("gradient")
    weights = memory.full(N, 3.0)
    update = memory.update("sgd", Options(), {"lr": 1.0}, weights)
    with rejected(message.replace("DEVICE", str(memory.device))):
        update.flat(make(memory))
    assert (update.counters.step.item(), weights.tolist()) == (0, [3.0] * N)


@pytest.mark.parametrize("kind", ["an unaligned view", "gaps", "too few elements", "another device"])
def test_a_gradient_of_a_table_that_kernels_could_not_walk_is_rejected(memory: Memory, kind: str) -> None:
    make, template = WRONG_TENSORS[kind]
    update = memory.update("sgd", Options(), {}, memory.full(2 * N, 0.0))
    table = GradientTable([0, N], [N, N], memory.device, SMALL.block)
    with rejected(template.format("gradient 1").replace("DEVICE", str(memory.device))):
        update.tensors(table, [None, make(memory)])


def test_everything_that_is_wrong_is_in_one_message(memory: Memory) -> None:
    with rejected(
        "ahead: expected 32 elements, found 16; exp_avg_sq: this rule needs it;"
        " read: delay compensation needs it; drift: the corrected weights need it"
    ):
        options = Options(transforms=("delay_compensation",))
        update = memory.update("adam", options, {}, Buffers(memory.full(N, 0.0), read=memory.full(N, 0.0)))
        buffers = update.buffers._replace(read=None, ahead=memory.full(16, 0.0), corrected=memory.full(N, 0.0))
        states = update.states._replace(second=None)
        type(update)("adam", options, buffers, states, update.counters, update.scalars)


@pytest.mark.parametrize(
    ("rule", "options", "dtype", "message"),
    [
        ("sgd", Options(transforms=("delay_compensation",)), torch.float32, "read: delay compensation needs it"),
        ("sgd", Options(rounding="stochastic"), BFLOAT16, "seed: stochastic rounding needs it"),
        (
            "sgd",
            Options(atomic=True),
            BFLOAT16,
            "atomic: expected weights or a master copy in float32 or float64, found torch.bfloat16",
        ),
    ],
    ids=["read", "seed", "atomic"],
)
def test_what_an_option_needs_is_demanded(
    memory: Memory, rule: str, options: Options, dtype: torch.dtype, message: str
) -> None:
    with rejected(message):
        memory.update(rule, options, {}, memory.full(N, 0.0, dtype))


@pytest.mark.parametrize("case", ["float32", "master", "atomic"])
def test_stochastic_rounding_is_for_plain_bfloat16_weights(memory: Memory, case: str) -> None:
    weights = memory.full(N, 0.0, torch.float32 if case == "float32" else BFLOAT16)
    more = {"master": memory.full(N, 0.0)} if case in ("master", "atomic") else {}
    options = Options(rounding="stochastic", atomic=case == "atomic")
    with rejected("stochastic rounding is for bfloat16 weights that are stored, without a master copy"):
        memory.update("sgd", options, {}, Buffers(weights, **more), counters={"seed": memory.integers(0)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_weights_of_two_bytes_have_a_master_copy(memory: Memory, dtype: torch.dtype) -> None:
    with rejected(f"master: only weights of two bytes have one, found {dtype}"):
        memory.update("sgd", Options(), {}, Buffers(memory.full(N, 0.0, dtype), master=memory.full(N, 0.0)))


def test_private_weights_have_no_master_copy(memory: Memory) -> None:
    """It would be written and never read."""
    weights, private = memory.full(N, 0.0, BFLOAT16), memory.full(N, 0.0, BFLOAT16)
    with rejected("master: nothing reads it beside private weights; make these float32 instead"):
        memory.update("sgd", Options(), {}, Buffers(weights, memory.full(N, 0.0), private))


def test_drift_of_double_weights_is_double(memory: Memory) -> None:
    weights = memory.full(N, 0.0, torch.float64)
    with rejected("drift: expected torch.float64, found torch.float32"):
        memory.update("sgd", Options(), {}, Buffers(weights, drift=memory.full(N, 0.0)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("reads",), "version: staleness is measured against it"),
        (("version", "histogram"), "reads: the histogram counts what they say"),
    ],
    ids=str,
)
def test_counters_that_need_others_are_rejected(memory: Memory, names: tuple[str, ...], message: str) -> None:
    with rejected(message):
        memory.update("sgd", Options(), {}, memory.full(N, 0.0), counters={name: memory.integers(0) for name in names})


def test_counters_of_another_kind_are_rejected(memory: Memory) -> None:
    counters = {"step": memory.integers(0, 0), "ticket": memory.integers(0), "version": memory.full(1, 0.0)}
    with rejected(
        "step: expected 1 elements, found 2; ticket: expected torch.int32, found torch.int64;"
        " version: expected torch.int64, found torch.float32"
    ):
        memory.update("sgd", Options(), {}, memory.full(N, 0.0), counters=counters)


def test_scalars_and_tables_of_another_device_are_rejected(memory: Memory) -> None:
    update = memory.update("sgd", Options(), {}, memory.full(N, 0.0))
    with rejected(f"expected a table on {memory.device}, found one on meta"):
        update.tensors(GradientTable([0], [N], torch.device("meta"), SMALL.block), [None])
    with rejected(f"scalars: expected a tensor on {memory.device}, found one on meta; move it there"):
        scalars = Scalars(torch.device("meta"))
        type(update)("sgd", Options(), update.buffers, update.states, update.counters, scalars)


@pytest.mark.parametrize(
    ("rule", "options", "flag"),
    [
        ("adam", Options(momentum=True), "momentum"),
        ("lion", Options(amsgrad=True), "amsgrad"),
        ("sgd", Options(amsgrad=True), "amsgrad"),
    ],
    ids=["adam", "lion", "sgd"],
)
def test_options_of_another_rule_are_rejected(memory: Memory, rule: str, options: Options, flag: str) -> None:
    """Nothing would come of them."""
    with rejected(f"{flag}: this rule has no such option"):
        memory.update(rule, options, {}, memory.full(N, 0.0))


def test_nadam_without_its_product_is_rejected(memory: Memory) -> None:
    update = memory.update("nadam", Options(), {}, memory.full(N, 0.0))
    counters = update.counters._replace(product=None)
    with rejected("product: this rule needs it, float64 that starts at 1"):
        type(update)("nadam", Options(), update.buffers, update.states, counters, update.scalars)


def test_dense_gradients_in_another_order_are_accepted(memory: Memory) -> None:
    """Their elements fill one piece of memory; which weight each belongs to is the arena's affair."""
    weights = memory.full(N, 0.0)
    update = memory.update("sgd", Options(), {"lr": -1.0}, weights)
    update.flat(memory.place(torch.arange(32.0)).view(4, 8).T)
    assert weights.tolist() == list(range(N))


def test_on_a_cpu_the_interpreter_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(torch.device("cpu"))
    update = memory.update("sgd", Options(), {}, memory.full(N, 0.0))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(RuntimeError, match=r"on the device cpu, where Triton only .*: set TRITON_INTERPRET=1 before"):
        update.flat(memory.full(N, 0.0))
