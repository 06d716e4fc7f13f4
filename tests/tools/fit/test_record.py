"""What a recorded forward knows of each operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncpipe.tools.fit.places import Places
from asyncpipe.tools.fit.probe import Forward, record_forward
from asyncpipe.tools.fit.record import Operation, Recorder, keys_of


def recorded(model: nn.Sequential, sample: Tensor) -> Forward:
    layers = [(name, nn.Sequential(child)) for name, child in model.named_children()]
    return record_forward(model, layers, sample, lambda y, _: y.sum(), lambda _: None)


def named(found: Forward, name: str) -> Operation:
    return next(operation for operation in found.recorder.operations if operation.name == name)


def test_a_write_in_place_names_what_it_overwrites() -> None:
    found = recorded(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), torch.randn(2, 4))
    relu = named(found, "relu_")
    assert relu.overwrites == found.walk.inputs[1]
    assert (str(relu.place), relu.layer) == ("1 (ReLU)", 1)
    assert found.walk.originals[next(iter(found.walk.inputs[1]))] == next(iter(named(found, "addmm").makes))


def test_views_share_the_storage_of_what_they_are_views_of() -> None:
    found = recorded(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4))
    transposed = named(found, "t")
    assert transposed.is_view
    assert transposed.makes == frozenset()
    assert transposed.reads <= found.parameters


def test_dropout_draws_only_in_training() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    assert named(recorded(model, torch.randn(2, 4)), "bernoulli_").draws
    model.eval()
    assert not any(operation.draws for operation in recorded(model, torch.randn(2, 4)).recorder.operations)


class Indexed(nn.Module):
    def __init__(self, by_mask: bool) -> None:
        super().__init__()
        self.by_mask = by_mask

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0] if self.by_mask else x[torch.tensor([0, 1])]


def test_masks_read_values_and_numbers_do_not() -> None:
    sample = torch.randn(3, 4)
    assert named(recorded(nn.Sequential(Indexed(by_mask=True)), sample), "index").reads_values
    assert not named(recorded(nn.Sequential(Indexed(by_mask=False)), sample), "index").reads_values


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.last: Tensor | None = None
        self.kept = 3

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        self.last = x
        return x


def test_attributes_that_change_are_found() -> None:
    found = recorded(nn.Sequential(Remembering()), torch.randn(2, 4))
    assert [name for _, name in found.changes.state] == ["seen", "last"]


def test_changed_buffers_are_found() -> None:
    found = recorded(nn.Sequential(nn.BatchNorm1d(4)), torch.randn(2, 4))
    assert found.changes.buffers == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]


def test_a_recorder_never_gives_two_tensors_one_key() -> None:
    recorder = Recorder(Places(nn.Identity()))
    with recorder:
        keys = [recorder.see([torch.randn(8)]) for _ in range(50)]
    assert len(frozenset().union(*keys)) == 50
    assert keys_of([torch.empty(0)]) == frozenset()
