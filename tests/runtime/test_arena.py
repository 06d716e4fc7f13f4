"""Parameters in one storage: placement, identity, ties, and what autograd notices of changes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from asyncpipe.errors import InternalError, UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.torch_private import version_counter


def named(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(remove_duplicate=False))


def odd_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 7, bias=False))


def image_network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(80, 4))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.lstm(x)[0]
        out: Tensor = self.head(states[:, -1])
        return out


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.head = nn.Linear(3, 7, bias=False)
        self.head.weight = self.embed.weight


NETWORKS = [
    pytest.param(odd_network, (4, 3), id="mlp"),
    pytest.param(image_network, (4, 3, 6, 6), id="conv"),
    pytest.param(Recurrent, (4, 6, 3), id="lstm"),
]


def test_values_are_copied_and_every_view_is_aligned() -> None:
    network = odd_network()
    arena = Arena.of(named(network))
    assert arena.names == ["0.weight", "0.bias", "2.weight"]
    for view, parameter in zip(arena.views, network.parameters(), strict=True):
        assert torch.equal(view, parameter)
        assert view.data_ptr() != parameter.data_ptr()
        assert view.data_ptr() % 64 == 0
        assert not view.requires_grad


def test_storage_is_flat_with_padding() -> None:
    arena = Arena.of(named(odd_network()))
    # 15, 5 and 35 single-precision numbers, each padded to a multiple of 16.
    assert {dtype: flat.shape for dtype, flat in arena.flat.items()} == {torch.float32: (16 + 16 + 48,)}
    assert arena.bytes == 80 * 4
    storages = {view.untyped_storage().data_ptr() for view in arena.views}
    assert storages == {arena.flat[torch.float32].data_ptr()}


def test_each_dtype_has_its_storage() -> None:
    parameters = [
        ("single", nn.Parameter(torch.ones(3))),
        ("double", nn.Parameter(torch.ones(3, dtype=torch.float64))),
        ("whole", nn.Parameter(torch.arange(3), requires_grad=False)),
        ("bool", nn.Parameter(torch.tensor([True, False]), requires_grad=False)),
    ]
    arena = Arena.of(parameters)
    assert {dtype: flat.numel() for dtype, flat in arena.flat.items()} == {
        torch.float32: 16,
        torch.float64: 8,
        torch.int64: 8,
        torch.bool: 64,
    }
    assert arena.trainable == [True, True, False, False]
    for view, (_, parameter) in zip(arena.views, parameters, strict=True):
        assert torch.equal(view, parameter)
    assert [view.dtype for view in arena.like().views] == [view.dtype for view in arena.views]


def test_stage_without_parameters_has_an_empty_arena() -> None:
    arena = Arena.of(named(nn.ReLU()))
    assert (arena.views, arena.flat, arena.bytes) == ([], {}, 0)
    arena.alias(named(nn.ReLU()))
    arena.like().copy_from(arena)


def test_scalars_and_empty_parameters_have_a_place() -> None:
    arena = Arena.of([("scale", nn.Parameter(torch.tensor(3.0))), ("none", nn.Parameter(torch.empty(0, 4)))])
    assert [tuple(view.shape) for view in arena.views] == [(), (0, 4)]
    assert arena.views[0].item() == 3.0


def test_memory_formats_stay() -> None:
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    expanded = torch.randn(5, 1).expand(5, 3)
    arena = Arena.of([("conv", nn.Parameter(weight)), ("expanded", nn.Parameter(expanded))])
    assert arena.views[0].stride() == weight.stride()
    assert arena.views[1].is_contiguous()
    assert torch.equal(arena.views[0], weight)
    assert torch.equal(arena.views[1], expanded)


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
def test_aliases_keep_their_identity_and_compute_the_same_bits(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    network = build()
    expected = copy.deepcopy(network)
    before = [id(parameter) for parameter in network.parameters()]
    arena = Arena.of(named(network))
    arena.alias(named(network))
    assert [id(parameter) for parameter in network.parameters()] == before
    for view, parameter in zip(arena.views, network.parameters(), strict=True):
        assert parameter.data_ptr() == view.data_ptr()
        assert parameter.requires_grad
    x = torch.randn(shape)
    outputs = [module(x) for module in (network, expected)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for one, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
def test_change_through_the_views_reaches_every_aliasing_copy(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    network = build()
    arena = Arena.of(named(network))
    copies = [copy.deepcopy(network) for _ in range(2)]
    for module in copies:
        arena.alias(named(module))
    for view in arena.views:
        view.mul_(0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
    x = torch.randn(shape)
    for module in copies:
        assert torch.equal(module(x), network(x))


@pytest.mark.parametrize(("build", "shape"), NETWORKS)
def test_backward_after_a_change_sees_live_values_and_no_error(
    build: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    network = build()
    arena = Arena.of(named(network))
    arena.alias(named(network))
    counters = [version_counter(parameter) for parameter in network.parameters()]
    x = torch.randn(shape, requires_grad=True)
    loss = network(x).square().sum()
    (stale,) = torch.autograd.grad(loss, x, retain_graph=True)
    for view in arena.views:
        view.mul_(0.5)
    assert [version_counter(parameter) for parameter in network.parameters()] == counters
    (live,) = torch.autograd.grad(loss, x)
    assert not torch.equal(live, stale)


def test_views_have_version_counters_of_their_own() -> None:
    arena = Arena.of(named(odd_network()))
    before = [version_counter(view) for view in arena.views]
    arena.views[1].zero_()
    assert [version_counter(view) for view in arena.views] == [before[0], before[1] + 1, before[2]]


def test_change_through_a_parameter_itself_is_an_error_of_autograd() -> None:
    """The contrast: what the views avoid."""
    network = odd_network()
    Arena.of(named(network)).alias(named(network))
    x = torch.randn(4, 3, requires_grad=True)
    loss = network(x).sum()
    with torch.no_grad():
        network.get_parameter("2.weight").mul_(0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, x)


def test_recurrent_weights_stay_valid() -> None:
    lstm = nn.LSTM(3, 5)
    arena = Arena.of(named(lstm))
    arena.alias(named(lstm))
    assert [weight.data_ptr() for weight in lstm._flat_weights if weight is not None] == [
        view.data_ptr() for view in arena.views
    ]


def test_tied_parameters_are_stored_once() -> None:
    network = Tied()
    arena = Arena.of(named(network))
    assert arena.names == ["embed.weight"]
    assert arena.bytes == 32 * 4
    twin = copy.deepcopy(network)
    arena.alias(named(twin))
    assert twin.embed.weight is twin.head.weight
    assert twin.embed.weight.data_ptr() == arena.views[0].data_ptr()


def test_ties_by_memory_alone_are_refused() -> None:
    network = Tied()
    network.head.weight = nn.Parameter(network.embed.weight.data)
    with pytest.raises(UsageError, match=r"'embed.weight' and 'head.weight' are two objects on the same memory"):
        Arena.of(named(network))


def test_parameters_on_two_devices_are_refused() -> None:
    parameters = [("a", nn.Parameter(torch.ones(1))), ("b", nn.Parameter(torch.ones(1, device="meta")))]
    with pytest.raises(UsageError, match="one device, found cpu, meta"):
        Arena.of(parameters)


def test_frozen_parameters_keep_a_place() -> None:
    network = odd_network()
    network[0].requires_grad_(False)
    arena = Arena.of(named(network))
    arena.alias(named(network))
    assert arena.trainable == [False, False, True]
    assert [parameter.requires_grad for parameter in network.parameters()] == [False, False, True]


def test_buffers_can_live_in_an_arena_too() -> None:
    norm = nn.BatchNorm1d(3)
    arena = Arena.of(norm.named_buffers())
    arena.alias(norm.named_buffers())
    norm(torch.randn(8, 3) + 5)
    values = dict(zip(arena.names, arena.views, strict=True))
    assert values["num_batches_tracked"].item() == 1
    assert torch.equal(values["running_mean"], norm.get_buffer("running_mean"))
    assert values["running_mean"].abs().min() > 0


def test_likeness_has_the_layout_and_its_own_memory() -> None:
    arena = Arena.of(named(odd_network()))
    other = arena.like(2.0)
    assert other.layout == arena.layout
    assert all((view == 2).all() for view in other.views)
    other.views[0].zero_()
    assert arena.views[0].abs().max() > 0


def test_stash_keeps_the_values_of_its_copy() -> None:
    network = odd_network()
    arena = Arena.of(named(network))
    stash = arena.like()
    stash.copy_from(arena)
    arena.views[0].zero_()
    for view, parameter in zip(stash.views, network.parameters(), strict=True):
        assert torch.equal(view, parameter)


def test_refilled_stash_raises_no_version_counter_of_its_aliases() -> None:
    network = odd_network()
    arena = Arena.of(named(network))
    stash = arena.like()
    stash.alias(named(network))
    counters = [version_counter(parameter) for parameter in network.parameters()]
    stash.copy_from(arena)
    assert [version_counter(parameter) for parameter in network.parameters()] == counters


def test_copy_between_different_layouts_is_an_error() -> None:
    with pytest.raises(InternalError, match="different layouts"):
        Arena.of(named(odd_network())).copy_from(Arena.of(named(image_network())))


def test_alias_of_another_module_is_an_error() -> None:
    arena = Arena.of(named(nn.Linear(3, 5)))
    with pytest.raises(InternalError, match=r"expected parameters \['weight', 'bias'\], found \['weight'\]"):
        arena.alias(named(nn.Linear(3, 5, bias=False)))
    with pytest.raises(InternalError, match=r"weight is \(5, 4\) of torch.float32, the arena holds \(5, 3\)"):
        arena.alias(named(nn.Linear(4, 5)))
