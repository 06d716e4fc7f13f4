"""The Python door: what `Trainer` accepts, refuses, and leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

import asyncpipe
from asyncpipe import Trainer
from asyncpipe.errors import ScheduleError, UsageError
from tests.networks import assert_same_state, batches, built, plain_loop


def test_the_readme_example_trains() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    trainer = Trainer(
        model, "async-lu", loss=cross_entropy, optimizer={"use": "sgd", "lr": 0.1, "momentum": 0.5}, backend="threads"
    )
    data = batches(4, size=32)
    for _ in range(60):
        report = trainer.fit(data)
    result = trainer.evaluate(data)
    assert report.train_loss < 0.1
    assert result["accuracy"] == 1.0
    assert cross_entropy(model(data[0][0]), data[0][1]) < 0.1


def test_a_generator_and_a_number_of_microbatches_train_on_so_many() -> None:
    trainer = Trainer(built("mlp"), "async-lu", backend="threads")
    report = trainer.fit((batch for batch in batches(8)), 5)
    assert (report.microbatches, report.updates, report.samples, len(report.losses)) == (5, 5, 35, 5)
    assert trainer.fit(batch for batch in batches(3)).microbatches == 3


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_runs_shorter_than_the_pipeline_work(count: int, backend: str) -> None:
    trainer = Trainer(built("mlp"), "async-bu", backend=backend, stages=3)
    assert trainer.fit(batches(count)).updates == count


def test_a_model_that_is_no_sequential_is_one_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.flatten(1))  # type: ignore[no-any-return]

    trainer = Trainer(Net(), "async-lu", backend="threads")
    trainer.fit(batches(6))
    assert len(trainer.parts) == 1
    with pytest.raises(UsageError, match="the schedule has 2 stages, but the model has only 1 layer"):
        Trainer(Net(), "async-lu", stages=2).fit(batches(6))


def test_tuples_pass_between_stages() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(64, 8), nn.Linear(64, 8)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.left(x.flatten(1)), self.right(x.flatten(1))

    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 10)

        def forward(self, parts: tuple[Tensor, Tensor]) -> Tensor:
            return self.out(parts[0] * parts[1])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    model = nn.Sequential(Two(), Join())
    twin = nn.Sequential(Two(), Join())
    twin.load_state_dict(model.state_dict())
    data = batches(5)
    Trainer(model, "sgd", optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=2).fit(data)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for x, y in data:
        optimizer.zero_grad()
        cross_entropy(twin(x), y).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_integer_inputs_reach_an_embedding() -> None:
    from asyncpipe import models

    model = models.build("lstm", {"hidden": 8, "vocabulary": 30}, (12,), 4)
    generator = torch.Generator().manual_seed(0)
    tokens = [
        (torch.randint(30, (5, 12), generator=generator), torch.randint(4, (5,), generator=generator)) for _ in range(6)
    ]
    assert Trainer(model, "async-lu", backend="threads", stages=3).fit(tokens).updates == 6


def test_tied_parameters_in_two_stages_are_refused() -> None:
    first, last = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
    last.weight = first.weight
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    with pytest.raises(UsageError, match=r"parameter 3\.weight is tied between the stages 0 and 1"):
        Trainer(model, "async-lu", stages=2).fit(batches(4))
    Trainer(model, "async-lu", stages=1, backend="threads").fit(batches(4))


def test_frozen_parameters_stay() -> None:
    model = built("mlp")
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    Trainer(
        model, "async-lu", backend="threads", stages=2, optimizer={"use": "sgd", "lr": 0.1, "weight_decay": 0.1}
    ).fit(batches(6))
    assert torch.equal(frozen, before)
    assert not any(
        torch.equal(a, b)
        for a, b in zip(list(model.parameters())[1:], list(built("mlp").parameters())[1:], strict=True)
    )


def test_evaluation_leaves_modes_and_statistics_alone() -> None:
    model = built("convnet")
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = Trainer(model, "sgd").evaluate(batches(3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not frozen.training
    assert set(result) == {"loss", "accuracy"}


def test_regression_has_no_accuracy() -> None:
    model = nn.Sequential(nn.Linear(3, 1))
    data = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(4)]
    trainer = Trainer(model, "sgd", loss=mse_loss, backend="serial")
    trainer.fit(data)
    assert trainer.evaluate(data)["accuracy"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "thread"}, "no back end is called 'thread'"),
        ({"optimizer": {"use": "sgd"}}, "the optimizer needs 'lr'"),
        ({"optimizer": {"lr": 0.1}}, "the optimizer needs 'use'"),
        ({"optimizer": "adam"}, "optimizer: expected a mapping, found str"),
        ({"loss": "mse"}, r"loss: expected a function of \(output, target\), found 'mse'"),
        ({"optimizer": {"use": "sdg", "lr": 0.1}}, "no optimizer is called 'sdg'"),
        ({"optimizer": {"use": "sgd", "lr": 0.1, "momentun": 0.9}}, "momentun"),
        ({"schedule": "async-ul"}, "no schedule named 'async-ul'"),
        ({"stages": 9}, "the schedule has 9 stages, but the model has only 4 layers"),
    ],
)
def test_what_does_not_fit_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(built("mlp"), **options).fit(batches(2))


def test_an_invalid_schedule_carries_its_diagnostics() -> None:
    with pytest.raises(ScheduleError) as caught:
        Trainer(built("mlp"), "tests/cases/missing.yaml")
    assert [d.code for d in caught.value.diagnostics] == ["AP100"]


def test_no_batches_is_an_error() -> None:
    with pytest.raises(UsageError, match="there are no batches to train on"):
        Trainer(built("mlp")).fit([])


def test_what_is_no_module_schedule_or_number_is_an_error() -> None:
    five: Any = 5
    with pytest.raises(UsageError, match=r"model: expected a torch\.nn\.Module, found 5"):
        Trainer(five)
    with pytest.raises(UsageError, match="schedule: expected a library name, a file or a Schedule, found 5"):
        Trainer(built("mlp"), five)
    with pytest.raises(UsageError, match="stages: expected an integer from 1 to 4,096, found 0"):
        Trainer(built("mlp"), stages=0)


def test_compile_gives_a_program() -> None:
    program = asyncpipe.compile(asyncpipe.load("async-lu"), stages=8)
    assert (program.stages, program.microbatches, program.slots) == (8, None, (3,) * 8)
    assert asyncpipe.compile("async-lu", 8, 10).microbatches == 10


def test_public_names_are_those_of_the_readme() -> None:
    assert asyncpipe.__all__ == ["Trainer", "__version__", "compile", "load", "simulate"]
    with pytest.raises(AttributeError, match="no attribute 'trainer_'"):
        _ = asyncpipe.trainer_


def test_batches_that_are_no_pairs_are_named() -> None:
    with pytest.raises(UsageError, match=r"batch 0: expected an \(input, target\) pair, found dict of 2"):
        Trainer(built("mlp")).fit([{"x": 1, "y": 2}])  # type: ignore[list-item]


def test_printing_a_trainer_or_a_report_is_short() -> None:
    trainer = Trainer(built("mlp"), "async-lu", backend="serial", stages=2)
    report = trainer.fit(batches(4))
    assert repr(trainer) == "Trainer(Sequential, async-lu, serial, 2 stages, 4 updates)"
    assert "losses" not in repr(report)
    assert dir(asyncpipe) == sorted(asyncpipe.__all__)


def test_a_module_used_twice_is_applied_twice() -> None:
    def model() -> nn.Sequential:
        torch.manual_seed(1)
        act = nn.Tanh()
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), act, nn.Linear(9, 9), act, nn.Linear(9, 10))

    rows, ours, reference = batches(5), model(), model()
    Trainer(ours, "sgd", optimizer={"use": "sgd", "lr": 0.1}, backend="serial", stages=3).fit(rows)
    plain_loop(reference, rows, lambda p: torch.optim.SGD(p, lr=0.1))
    assert_same_state(ours, reference)


def test_complex_values_between_stages_carry_gradients() -> None:
    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x)  # type: ignore[no-any-return]

    class Real(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x.real)  # type: ignore[no-any-return]

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), Fourier(), Real())
    before = model[1].weight.detach().clone()  # type: ignore[operator]
    Trainer(model, "sgd", backend="serial", stages=2).fit(batches(3))
    assert not torch.equal(model[1].weight, before)  # type: ignore[arg-type]


def test_a_model_that_changed_since_the_first_fit_is_refused() -> None:
    model = built("mlp")
    trainer = Trainer(model, "async-lu", backend="serial", stages=2)
    trainer.fit(batches(3))
    next(model.parameters()).requires_grad_(False)
    with pytest.raises(UsageError, match="was replaced, frozen or thawed since the first fit"):
        trainer.fit(batches(3))


def test_racy_writes_need_an_optimizer_that_may_run_twice_at_once() -> None:
    with pytest.raises(UsageError, match=r"optimizer torch\.optim\.Adagrad takes one step at a time"):
        Trainer(built("mlp"), "hogwild", optimizer={"use": "torch.optim.Adagrad", "lr": 0.1}).fit(batches(3))


def test_an_iterable_loader_without_a_length_is_read() -> None:
    class Endless(torch.utils.data.IterableDataset[Tensor]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([(x[0], y[0]) for x, y in batches(6)])

    loader = torch.utils.data.DataLoader(Endless(), batch_size=2)
    assert Trainer(built("mlp"), "async-lu", backend="threads").fit(loader).microbatches == 3


def test_no_grad_around_fit_does_not_stop_training() -> None:
    model = built("mlp")
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        Trainer(model, "sgd", backend="serial").fit(batches(2))
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
