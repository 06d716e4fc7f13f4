"""The update kernels against torch.optim, bit for bit: against its loop, and against its fused kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.kernels.adam import adam, adam_fused
from asyncpipe.kernels.lion import lion
from asyncpipe.kernels.nadam import nadam
from asyncpipe.kernels.sgd import sgd, sgd_fused

SIZES = [1, 15, 16, 17, 1000, 65537]
"""Below, at and above the widths of vector registers; the last one exceeds the grain of parallel loops."""
STEPS = 4
LR = 0.05

Options = dict[str, object]
Kernel = Callable[..., None]
OptimizerClass = Callable[..., torch.optim.Optimizer]
Case = tuple[Kernel, OptimizerClass, Options]
KERNELS: list[Kernel] = [sgd, sgd_fused, adam, adam_fused, nadam, lion]


def options_of(**choices: list[object]) -> Iterator[Options]:
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def is_valid_sgd(options: Options) -> bool:
    return not options["nesterov"] or (options["momentum"] != 0 and options["dampening"] == 0)


BOTH: list[object] = [False, True]
SGD = [
    options
    for options in options_of(
        momentum=[0.0, 0.9], dampening=[0.0, 0.3], weight_decay=[0.0, 0.1], nesterov=BOTH, maximize=BOTH
    )
    if is_valid_sgd(options)
]
ADAM = list(
    options_of(
        betas=[(0.9, 0.999), (0.0, 0.5)],
        weight_decay=[0.0, 0.1],
        decoupled_weight_decay=BOTH,
        amsgrad=BOTH,
        maximize=BOTH,
    )
)
NADAM = list(
    options_of(
        betas=[(0.9, 0.999), (0.5, 0.9)],
        weight_decay=[0.0, 0.1],
        momentum_decay=[4e-3, 1.0],
        decoupled_weight_decay=BOTH,
        maximize=BOTH,
    )
)
DEFAULT: list[Case] = [(sgd, torch.optim.SGD, options) for options in SGD]
DEFAULT += [(adam, torch.optim.Adam, options) for options in ADAM]
DEFAULT += [(nadam, torch.optim.NAdam, options) for options in NADAM]
FUSED: list[Case] = [(sgd_fused, torch.optim.SGD, options) for options in SGD]
FUSED += [(adam_fused, torch.optim.Adam, options) for options in ADAM]


def label(value: object) -> str | None:
    if isinstance(value, dict):
        return "-".join(f"{key}={item}" for key, item in value.items() if item)
    return getattr(value, "__name__", None)


def draw(dtype: torch.dtype, sizes: list[int]) -> list[Tensor]:
    return [torch.randn(size, dtype=dtype) for size in sizes]


def draw_gradients(dtype: torch.dtype, sizes: list[int]) -> list[list[Tensor]]:
    """Gradients per step; scales differ by step, so that moments and maxima do not stand still."""
    return [[10.0 ** (1 - step) * tensor for tensor in draw(dtype, sizes)] for step in range(STEPS)]


def run_torch(
    optimizer_class: OptimizerClass,
    start: list[Tensor],
    gradients: list[list[Tensor]],
    **options: object,
) -> list[Tensor]:
    parameters = [nn.Parameter(tensor.clone()) for tensor in start]
    optimizer = optimizer_class(parameters, lr=LR, **options)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def new_states(kernel: Kernel, start: list[Tensor]) -> list[list[Tensor]]:
    """Momentum buffers start with rubbish, because step 1 must not read them."""
    if kernel in (sgd, sgd_fused):
        return [[torch.full_like(tensor, 7.0) for tensor in start]]
    if kernel is lion:
        return [[torch.zeros_like(tensor) for tensor in start]]
    moments = [[torch.zeros_like(tensor) for tensor in start] for _ in range(2)]
    third = [torch.ones(()) for _ in start] if kernel is nadam else [torch.zeros_like(t) for t in start]
    return [*moments, third]


def run_kernel(kernel: Kernel, start: list[Tensor], gradients: list[list[Tensor]], options: Options) -> list[Tensor]:
    parameters = [tensor.clone() for tensor in start]
    states = new_states(kernel, start)
    for number, step in enumerate(gradients, start=1):
        given = [gradient.clone() for gradient in step]
        kernel(parameters, given, *states, [number] * len(start), lr=LR, **options)
        assert all(map(torch.equal, given, step)), "gradients must stay as they are"
    return parameters


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(other).all()
        assert one.dtype == other.dtype
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@pytest.mark.parametrize(("kernel", "optimizer_class", "options"), DEFAULT, ids=label)
def test_default_arithmetic_equals_the_loop_of_torch(
    kernel: Kernel, optimizer_class: OptimizerClass, options: Options
) -> None:
    start, gradients = draw(torch.float32, SIZES), draw_gradients(torch.float32, SIZES)
    expected = run_torch(optimizer_class, start, gradients, foreach=False, **options)
    assert_same_bits(run_kernel(kernel, start, gradients, options), expected)


@pytest.mark.parametrize(("kernel", "optimizer_class", "options"), FUSED, ids=label)
def test_fused_arithmetic_equals_the_fused_kernels_of_torch(
    kernel: Kernel, optimizer_class: OptimizerClass, options: Options
) -> None:
    start, gradients = draw(torch.float32, SIZES), draw_gradients(torch.float32, SIZES)
    expected = run_torch(optimizer_class, start, gradients, fused=True, **options)
    assert_same_bits(run_kernel(kernel, start, gradients, options), expected)


RULES: list[Case] = [
    (sgd, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (adam, torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    (nadam, torch.optim.NAdam, {"weight_decay": 0.1}),
]
FUSED_RULES: list[Case] = [(sgd_fused, *RULES[0][1:]), (adam_fused, *RULES[1][1:])]
OTHER_DTYPES = [torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", [*OTHER_DTYPES, torch.complex64], ids=str)
@pytest.mark.parametrize(("kernel", "optimizer_class", "options"), RULES, ids=label)
def test_default_arithmetic_equals_torch_in_other_dtypes(
    kernel: Kernel,
    optimizer_class: OptimizerClass,
    options: Options,
    dtype: torch.dtype,
) -> None:
    start, gradients = draw(dtype, [17, 1000]), draw_gradients(dtype, [17, 1000])
    expected = run_torch(optimizer_class, start, gradients, foreach=False, **options)
    assert_same_bits(run_kernel(kernel, start, gradients, options), expected)


@pytest.mark.parametrize("dtype", OTHER_DTYPES, ids=str)
@pytest.mark.parametrize(("kernel", "optimizer_class", "options"), FUSED_RULES, ids=label)
def test_fused_arithmetic_equals_torch_in_other_dtypes(
    kernel: Kernel,
    optimizer_class: OptimizerClass,
    options: Options,
    dtype: torch.dtype,
) -> None:
    start, gradients = draw(dtype, [17, 1000]), draw_gradients(dtype, [17, 1000])
    expected = run_torch(optimizer_class, start, gradients, fused=True, **options)
    assert_same_bits(run_kernel(kernel, start, gradients, options), expected)


def test_default_and_fused_arithmetic_differ_only_in_last_bits() -> None:
    """Were they equal in all bits, one of them would be superfluous."""
    start, gradients = draw(torch.float32, SIZES), draw_gradients(torch.float32, SIZES)
    options: Options = {"momentum": 0.9}
    one, other = (run_kernel(kernel, start, gradients, options) for kernel in (sgd, sgd_fused))
    assert not all(map(torch.equal, one, other))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=label)
def test_parameters_at_different_steps_are_updated_as_if_alone(kernel: Kernel) -> None:
    """Parameters without a gradient at times lag behind: each has its own count."""
    start, gradients = draw(torch.float32, [17, 33]), draw_gradients(torch.float32, [17, 33])
    options: Options = {"momentum": 0.9, "dampening": 0.5} if kernel in (sgd, sgd_fused) else {}
    together = [tensor.clone() for tensor in start]
    states = new_states(kernel, start)
    kernel(together[:1], gradients[0][:1], *(state[:1] for state in states), [1], lr=LR, **options)
    kernel(together, gradients[1], *states, [2, 1], lr=LR, **options)
    first = run_kernel(kernel, start[:1], [step[:1] for step in gradients[:2]], options)
    second = run_kernel(kernel, start[1:], [gradients[1][1:]], options)
    assert_same_bits(together, [*first, *second])


@pytest.mark.parametrize("kernel", KERNELS, ids=label)
def test_nothing_to_update_is_no_error(kernel: Kernel) -> None:
    kernel([], [], *([] for _ in new_states(kernel, [])), [], lr=LR)


def test_empty_tensors_are_no_error() -> None:
    for kernel in KERNELS:
        start = [torch.randn(0), torch.randn(3)]
        (empty, other) = run_kernel(kernel, start, [[torch.randn(0), torch.ones(3)]], {})
        assert empty.shape == (0,)
        assert not torch.equal(other, start[1])


@pytest.mark.parametrize("options", SGD, ids=label)
def test_sgd_without_delay_has_the_bits_of_plain_sgd(options: Options) -> None:
    start, gradients = draw(torch.float32, [1000]), draw_gradients(torch.float32, [1000])
    delayed = run_kernel(sgd, start, gradients, {**options, "delay": 0.0})
    assert_same_bits(delayed, run_torch(torch.optim.SGD, start, gradients, foreach=False, **options))


def test_spike_compensation_takes_the_steps_worked_out_by_hand() -> None:
    """m = 1/2, D = 2: a = 1/4, b = (1 - 1/4) / (1 - 1/2) = 3/2; lr 1, so w falls by v/4 + 3g/2 each time."""
    w, velocity = torch.tensor([8.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    found = []
    for step, gradient in enumerate([4.0, 0.0, -8.0], start=1):
        sgd([w], [torch.tensor([gradient], dtype=torch.float64)], [velocity], [step], lr=1.0, momentum=0.5, delay=2.0)
        found.append((velocity.item(), w.item()))
    assert found == [(4.0, 1.0), (2.0, 0.5), (-7.0, 14.25)]


@pytest.mark.parametrize("delay", [1.0, 3.0, 8.0])
def test_spike_compensation_restores_the_weight_of_a_late_gradient(delay: float) -> None:
    """One gradient that comes `delay` updates late has moved w as far, once applied, as one in time by then."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    in_time, late = zero.clone(), zero.clone()
    buffers = [zero.clone(), zero.clone()]
    for step in range(1, 30):
        sgd([in_time], [one if step == 2 else zero], [buffers[0]], [step], lr=1.0, momentum=0.9)
        gradient = one if step == 2 + delay else zero
        sgd([late], [gradient], [buffers[1]], [step], lr=1.0, momentum=0.9, delay=delay)
        if step >= 2 + delay:
            torch.testing.assert_close(late, in_time, rtol=1e-13, atol=0)


def test_spike_compensation_for_a_delay_of_one_is_nesterov_momentum() -> None:
    start, gradients = draw(torch.float64, [1000]), draw_gradients(torch.float64, [1000])
    options: Options = {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}
    found = run_kernel(sgd, start, gradients, {**options, "delay": 1.0})
    expected = run_torch(torch.optim.SGD, start, gradients, nesterov=True, **options)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 1.0}, {"momentum": 0.9, "dampening": 0.1}, {"momentum": 0.9, "nesterov": True}],
    ids=label,
)
def test_spike_compensation_is_refused_where_it_has_no_meaning(options: Options) -> None:
    with pytest.raises(ValueError, match="spike compensation needs a momentum between 0 and 1, no dampening"):
        sgd([torch.zeros(1)], [torch.ones(1)], [torch.zeros(1)], [1], lr=0.1, delay=2.0, **options)  # type: ignore[arg-type]
