"""Optimizers over an arena against torch.optim on a plain module, with the gradients of real networks."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from asyncpipe.errors import InternalError, UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.optimizers import OptimizerSpec, StageOptimizer, make_optimizer
from asyncpipe.runtime.torch_private import version_counter
from asyncpipe.runtime.update_rule import Arithmetic
from tests.runtime.reference_optimizers import Lion, MuonAndAdamW

LR = 0.02
UPDATES = 50

Options = dict[str, Any]
Batch = tuple[Tensor, Tensor]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.lstm(x)[0][:, -1])
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 17), nn.ReLU(inplace=True), nn.Linear(17, 3))


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(45, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (7,)),
    "conv": (conv, (2, 5, 5)),
    "lstm": (Recurrent, (3, 3)),
}


def options_of(**choices: list[object]) -> list[Options]:
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


BOTH: list[object] = [False, True]
DECAY: list[object] = [0.0, 0.1]
SGD = options_of(weight_decay=DECAY, maximize=BOTH)
SGD += options_of(momentum=[0.9], dampening=[0.0, 0.3], weight_decay=DECAY, maximize=BOTH)
SGD += options_of(momentum=[0.9], nesterov=[True], weight_decay=DECAY, maximize=BOTH)
ADAM = options_of(betas=[(0.8, 0.9)], eps=[1e-6], weight_decay=DECAY, amsgrad=BOTH, maximize=BOTH)
NADAM = options_of(momentum_decay=[4e-3, 0.1], maximize=BOTH)
NADAM += options_of(momentum_decay=[4e-3, 0.1], weight_decay=[0.1], decoupled_weight_decay=BOTH, maximize=BOTH)
LION = options_of(betas=[(0.8, 0.9)], weight_decay=DECAY, maximize=BOTH)
ADAMW: Options = {"adamw_lr_ratio": 0.5, "adamw_betas": (0.8, 0.9), "adamw_eps": 1e-6, "adamw_weight_decay": 0.0}
MUON = [{"nesterov": False, "momentum": 0.8}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 4, **ADAMW}]
CASES = [("sgd", options) for options in SGD]
CASES += [(use, options) for use in ("adam", "adamw") for options in [{}, *ADAM]]
CASES += [("adam", {"decoupled_weight_decay": True, "weight_decay": 0.1})]
FUSED_CASES = CASES.copy()
CASES += [("nadam", options) for options in NADAM]
CASES += [(use, options) for use, choices in (("lion", LION), ("muon", MUON)) for options in [{}, *choices]]
LAST = dict(CASES)
"""One case of each optimizer, with most options on; they do not look at the network, so its others are slow on two."""
SLOW = [(name, *case) for name in ("conv", "lstm") for case in CASES if case not in LAST.items()]
TRAININGS = [(name, *case) for name in NETWORKS for case in CASES if (name, *case) not in SLOW]
CLASSES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "lion": Lion,
    "muon": MuonAndAdamW,
}


def label(value: object) -> str | None:
    return "-".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else None


def batches(shape: tuple[int, ...], count: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(4, *shape, generator=generator), torch.randint(3, (4,), generator=generator)


def train_plainly(network: nn.Module, optimizer: torch.optim.Optimizer, data: Iterator[Batch]) -> list[Tensor]:
    for x, target in data:
        optimizer.zero_grad()
        cross_entropy(network(x), target).backward()
        optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


def gradients_of(network: nn.Module, batch: Batch) -> list[Tensor]:
    x, target = batch
    return list(torch.autograd.grad(cross_entropy(network(x), target), list(network.parameters())))


def train_in_arena(network: nn.Module, spec: OptimizerSpec, data: Iterator[Batch]) -> list[Tensor]:
    arena = Arena.of(network.named_parameters())
    arena.alias(network.named_parameters())
    optimizer = make_optimizer(spec, arena)
    for batch in data:
        optimizer.step(gradients_of(network, batch), spec.lr)
    assert optimizer.count == UPDATES
    return arena.views


def assert_same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.isfinite(other).all()
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


def assert_trains_like_torch(
    name: str, spec: OptimizerSpec, optimizer_class: Callable[..., torch.optim.Optimizer], **arguments: Any
) -> None:
    build, shape = NETWORKS[name]
    network = build()
    twin = copy.deepcopy(network)
    plain = optimizer_class(network.parameters(), lr=spec.lr, **spec.options, **arguments)
    expected = train_plainly(network, plain, batches(shape, UPDATES))
    assert_same_bits(train_in_arena(twin, spec, batches(shape, UPDATES)), expected)


@pytest.mark.parametrize(
    ("name", "use", "options"), [*TRAININGS, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)], ids=label
)
def test_training_equals_torch_bit_for_bit(name: str, use: str, options: Options) -> None:
    """With torch.optim as it is by default: a loop over the parameters on the CPU."""
    assert_trains_like_torch(name, OptimizerSpec(use, LR, options), CLASSES[use])


@pytest.mark.parametrize(("use", "options"), FUSED_CASES, ids=label)
def test_fused_training_equals_fused_torch_bit_for_bit(use: str, options: Options) -> None:
    assert_trains_like_torch("conv", OptimizerSpec(use, LR, options, "fused"), CLASSES[use], fused=True)


def test_fused_muon_differs_in_last_bits_only() -> None:
    network = nn.Sequential(*(nn.Linear(16, 16) for _ in range(3)))
    arenas = [Arena.of(network.named_parameters()) for _ in range(2)]
    arithmetics: list[Arithmetic] = ["default", "fused"]
    optimizers = [
        make_optimizer(OptimizerSpec("muon", LR, {}, arithmetic), arena)
        for arena, arithmetic in zip(arenas, arithmetics, strict=True)
    ]
    for _ in range(10):
        gradients: list[Tensor | None] = [torch.randn_like(view) for view in arenas[0].views]
        for optimizer in optimizers:
            optimizer.step(gradients, LR)
    for one, other, start in zip(arenas[0].views, arenas[1].views, network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0.02 * LR)
        assert (one - start).abs().max() > LR


@pytest.mark.parametrize("arithmetic", ["default", "fused"])
def test_training_on_images_in_channels_last_equals_torch(arithmetic: Arithmetic) -> None:
    """Autograd then hands out a gradient of the convolution whose strides are not the weight's."""
    network = conv()
    twin = copy.deepcopy(network)
    arguments = {"fused": True} if arithmetic == "fused" else {}
    plain = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, **arguments)
    data = [(x.to(memory_format=torch.channels_last), target) for x, target in batches((2, 5, 5), UPDATES)]
    gradient, weight = gradients_of(twin, data[0])[0], next(twin.parameters())
    assert gradient.stride() != weight.stride()
    expected = train_plainly(network, plain, iter(data))
    spec = OptimizerSpec("sgd", LR, {"momentum": 0.9}, arithmetic)
    assert_same_bits(train_in_arena(twin, spec, iter(data)), expected)


@pytest.mark.parametrize(
    ("use", "options"),
    [
        ("torch.optim.Adagrad", {"lr_decay": 0.1}),
        ("torch.optim.RMSprop", {"momentum": 0.5, "centered": True}),
        ("torch.optim.Rprop", {}),
        ("torch.optim.ASGD", {}),
        ("torch.optim.Adadelta", {"rho": 0.8}),
        ("torch.optim.Adamax", {"betas": [0.8, 0.9]}),
        ("torch.optim.RAdam", {}),
        ("torch.optim.Adafactor", {}),
        ("torch.optim.SGD", {"momentum": 0.9}),
        (torch.optim.Adam, {"amsgrad": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", NETWORKS)
def test_any_class_of_torch_equals_itself(name: str, use: str | type[torch.optim.Optimizer], options: Options) -> None:
    optimizer_class = getattr(torch.optim, use.removeprefix("torch.optim.")) if isinstance(use, str) else use
    assert_trains_like_torch(name, OptimizerSpec(use, LR, options), optimizer_class)


def test_any_class_of_torch_may_be_fused() -> None:
    spec = OptimizerSpec("torch.optim.Adagrad", LR, arithmetic="fused")
    assert_trains_like_torch("mlp", spec, torch.optim.Adagrad, fused=True)


SPECS = [
    *[OptimizerSpec(use, LR) for use in CLASSES],
    OptimizerSpec("sgd", LR, {"momentum": 0.9, "weight_decay": 0.1}),
    OptimizerSpec("sgd", LR, {"momentum": 0.9}, "fused"),
    OptimizerSpec("adam", LR, {}, "fused"),
    OptimizerSpec("torch.optim.Adagrad", LR),
]


def spec_label(spec: object) -> str | None:
    return f"{spec.use}-{spec.arithmetic}" if isinstance(spec, OptimizerSpec) else None


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_learning_rate_changes_from_step_to_step(spec: OptimizerSpec) -> None:
    build, shape = NETWORKS["mlp"]
    network = build()
    twin = copy.deepcopy(network)
    use = str(spec.use)
    optimizer_class: Any = CLASSES.get(use, torch.optim.Adagrad)
    arguments = {"fused": True} if spec.arithmetic == "fused" else {}
    plain = optimizer_class(network.parameters(), lr=spec.lr, **spec.options, **arguments)
    arena = Arena.of(twin.named_parameters())
    arena.alias(twin.named_parameters())
    optimizer = make_optimizer(spec, arena)
    for lr, batch in zip((0.1, 0.05, 0.2, 0.0), batches(shape, 4), strict=True):
        plain.param_groups[0]["lr"] = lr
        train_plainly(network, plain, iter([batch]))
        optimizer.step(gradients_of(twin, batch), lr)
    assert_same_bits(arena.views, [parameter.detach() for parameter in network.parameters()])


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_parameters_without_gradient_are_skipped_as_torch_skips_them(spec: OptimizerSpec) -> None:
    start = [torch.randn(17), torch.randn(5, 3)]
    plain_parameters = [nn.Parameter(tensor.clone()) for tensor in start]
    optimizer_class: Any = CLASSES.get(str(spec.use), torch.optim.Adagrad)
    arguments = {"fused": True} if spec.arithmetic == "fused" else {}
    plain = optimizer_class(plain_parameters, lr=LR, **spec.options, **arguments)
    arena = Arena.of((str(i), nn.Parameter(tensor)) for i, tensor in enumerate(start))
    optimizer = make_optimizer(spec, arena)
    # Fused SGD of torch itself fails where one parameter has momentum and another starts: begin with both.
    for present in [(True, True), (True, False), (False, False), (False, True), (True, True)]:
        gradients = [torch.randn_like(t) if has else None for t, has in zip(start, present, strict=True)]
        for parameter, gradient in zip(plain_parameters, gradients, strict=True):
            parameter.grad = gradient
        plain.step()
        optimizer.step(gradients, LR)
    assert_same_bits(arena.views, [parameter.detach() for parameter in plain_parameters])
    assert optimizer.count == 5


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_step_leaves_gradients_and_version_counters_alone(spec: OptimizerSpec) -> None:
    network = conv()
    arena = Arena.of(network.named_parameters())
    arena.alias(network.named_parameters())
    optimizer = make_optimizer(spec, arena)
    counters = [version_counter(parameter) for parameter in network.parameters()]
    for batch in batches((2, 5, 5), 2):
        gradients = gradients_of(network, batch)
        before = [gradient.clone() for gradient in gradients]
        optimizer.step(gradients, LR)
        assert all(map(torch.equal, gradients, before))
    assert [version_counter(parameter) for parameter in network.parameters()] == counters


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_backward_after_an_update_uses_stale_activations_and_live_weights(spec: OptimizerSpec) -> None:
    """Two linear layers: dW2 = dy h' with h of the forward, dW1 = (W2' dy) x' with W2 as it is now."""
    network = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False))
    arena = Arena.of(network.named_parameters())
    arena.alias(network.named_parameters())
    optimizer = make_optimizer(spec, arena)
    x, dy = torch.randn(8, 4), torch.randn(8, 3)
    y = network(x)
    first_old, second_old = (view.clone() for view in arena.views)
    optimizer.step([torch.randn_like(view) for view in arena.views], 0.5)
    found = torch.autograd.grad(y, list(network.parameters()), dy)
    second_now = arena.views[1].clone()
    hidden = x @ first_old.t()
    torch.testing.assert_close(found[1], dy.t() @ hidden)
    torch.testing.assert_close(found[0], (dy @ second_now).t() @ x)
    assert not torch.allclose(found[0], (dy @ second_old).t() @ x)


@pytest.mark.parametrize("arithmetic", ["default", "fused"])
def test_gradients_may_have_any_strides(arithmetic: Arithmetic) -> None:
    gradient = torch.randn(6, 5).t()
    spread = torch.ones(1, 1).expand(5, 6)
    arena = Arena.of([(name, nn.Parameter(torch.zeros(5, 6))) for name in ("transposed", "expanded")])
    make_optimizer(OptimizerSpec("sgd", 1.0, {}, arithmetic), arena).step([gradient, spread], 1.0)
    assert torch.equal(arena.views[0], -gradient)
    assert torch.equal(arena.views[1], -spread)


@pytest.mark.parametrize("spec", SPECS, ids=spec_label)
def test_optimizers_over_one_arena_have_independent_states(spec: OptimizerSpec) -> None:
    """Two owners that alternate behave like two optimizers of torch on the same parameters."""
    start = torch.randn(33)
    parameter = nn.Parameter(start.clone())
    optimizer_class: Any = CLASSES.get(str(spec.use), torch.optim.Adagrad)
    arguments = {"fused": True} if spec.arithmetic == "fused" else {}
    plain = [optimizer_class([parameter], lr=LR, **spec.options, **arguments) for _ in range(2)]
    arena = Arena.of([("weight", nn.Parameter(start))])
    owners = [make_optimizer(spec, arena) for _ in range(2)]
    for turn in (0, 1, 1, 0, 1):
        parameter.grad = torch.randn(33)
        owners[turn].step([parameter.grad], LR)
        plain[turn].step()
    assert_same_bits(arena.views, [parameter.detach()])
    assert [owner.count for owner in owners] == [2, 3]


def test_mixed_dtypes_and_frozen_parameters_are_updated_as_by_torch() -> None:
    values = {
        "single": torch.randn(17),
        "frozen": torch.randn(3),
        "double": torch.randn(17, dtype=torch.float64),
        "half": torch.randn(17).to(torch.bfloat16),
        "index": torch.arange(3),
    }
    parameters = {
        name: nn.Parameter(value.clone(), requires_grad=name in ("single", "double", "half"))
        for name, value in values.items()
    }
    for use, optimizer_class in CLASSES.items():
        arena = Arena.of(parameters.items())
        optimizer = make_optimizer(OptimizerSpec(use, LR), arena)
        plain_parameters = [nn.Parameter(p.detach().clone(), p.requires_grad) for p in parameters.values()]
        plain = optimizer_class([p for p in plain_parameters if p.requires_grad], lr=LR)
        for _ in range(3):
            gradients = [torch.randn_like(p) if p.requires_grad else None for p in plain_parameters]
            optimizer.step(gradients, LR)
            for parameter, gradient in zip(plain_parameters, gradients, strict=True):
                parameter.grad = gradient
            plain.step()
        for view, parameter in zip(arena.views, plain_parameters, strict=True):
            assert torch.equal(view, parameter)


@pytest.mark.parametrize("use", [*CLASSES, "torch.optim.Adagrad"])
def test_stage_without_parameters_takes_steps_of_nothing(use: str) -> None:
    optimizer = make_optimizer(OptimizerSpec(use, LR), Arena.of([]))
    optimizer.step([], LR)
    assert (optimizer.count, optimizer.state_bytes) == (1, 0)


def step_often(optimizer: StageOptimizer, times: int) -> None:
    for _ in range(times):
        optimizer.step([torch.ones(3)], 0.5)


def test_steps_of_many_threads_are_all_counted() -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3)))])
    optimizer = make_optimizer(OptimizerSpec("sgd", 0.5), arena)
    threads = [threading.Thread(target=step_often, args=(optimizer, 300)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert optimizer.count == 1200
    assert optimizer.concurrent


def test_steps_of_a_torch_class_may_come_from_any_thread_in_turn() -> None:
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3)))])
    optimizer = make_optimizer(OptimizerSpec("torch.optim.SGD", 0.5), arena)
    for _ in range(2):
        thread = threading.Thread(target=step_often, args=(optimizer, 10))
        thread.start()
        thread.join()
    assert (optimizer.count, arena.views[0].tolist()) == (20, [-10.0] * 3)
    assert not optimizer.concurrent


def test_gradients_that_do_not_fit_are_errors() -> None:
    frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
    arena = Arena.of([("a", nn.Parameter(torch.zeros(3, 2))), ("b", frozen)])
    optimizer = make_optimizer(OptimizerSpec("sgd", LR), arena)
    with pytest.raises(InternalError, match="expected 2 gradients, found 1"):
        optimizer.step([None], LR)
    with pytest.raises(InternalError, match="b does not require a gradient"):
        optimizer.step([None, torch.ones(2)], LR)
    with pytest.raises(UsageError, match="gradient of a is sparse"):
        optimizer.step([torch.ones(3, 2).to_sparse(), None], LR)
    assert optimizer.count == 0
