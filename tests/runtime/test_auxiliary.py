"""Gradients of a stage's own: auxiliary losses against hand-written loops, predictors likewise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from asyncpipe.models.modules import split_layers
from asyncpipe.runtime.auxiliary import Head, make_head, make_predictor
from tests.networks import assert_same_state, batches, built

SGD = {"use": "sgd", "lr": 0.05, "momentum": 0.9}


def halves(trainer: Trainer, model: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """The two stages of a model that is cut as the trainer's."""
    layers = [module for _, module in split_layers(model)]
    first = len(trainer.cut[0])
    return nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])


def sgd(*modules: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.05, momentum=0.9)


def step(optimizer: torch.optim.SGD, loss: Tensor, gradient: Tensor | None = None) -> None:
    optimizer.zero_grad()
    loss.backward(gradient)
    optimizer.step()


def fitted(name: str, network: str, backend: str, count: int) -> tuple[Trainer, nn.Sequential, tuple[float, ...]]:
    model = built(network)
    torch.manual_seed(11)
    trainer = Trainer(model, name, optimizer=SGD, backend=backend, stages=2, intra_op_threads=1)
    return trainer, model, trainer.fit(batches(count)).losses


@pytest.mark.parametrize("network", ["mlp", "convnet", "lstm"])
def test_dgl_is_a_loop_of_local_losses_bit_for_bit(network: str) -> None:
    trainer, model, losses = fitted("dgl", network, "serial", 6)
    reference = built(network)
    below, above = halves(trainer, reference)
    torch.manual_seed(11)
    with torch.no_grad():
        sample = batches(6)[0][0]
        head = make_head(0, reference_output(below, sample), torch.zeros(len(sample), 10))
    assert list(losses) == dgl_loop(below, head, above, batches(6))
    assert_same_state(model, reference)


def reference_output(module: nn.Module, x: Tensor) -> Tensor:
    output: Tensor = module.eval()(x)
    module.train()
    return output


def dgl_loop(below: nn.Module, head: nn.Module, above: nn.Module, data: list[tuple[Tensor, Tensor]]) -> list[float]:
    first, second = sgd(below, head), sgd(above)
    losses = []
    for x, target in data:
        y = below(x)
        step(first, cross_entropy(head(y), target))
        loss = cross_entropy(above(y.detach()), target)
        step(second, loss)
        losses.append(loss.item())
    return losses


def test_dni_is_a_loop_of_predicted_gradients_bit_for_bit() -> None:
    trainer, model, losses = fitted("dni", "mlp", "serial", 8)
    reference = built("mlp")
    below, above = halves(trainer, reference)
    torch.manual_seed(11)
    predictor = make_predictor(0, reference_output(below, batches(8)[0][0]))
    assert list(losses) == dni_loop(below, predictor, above, batches(8))
    assert_same_state(model, reference)


def dni_loop(
    below: nn.Module, predictor: nn.Module, above: nn.Module, data: list[tuple[Tensor, Tensor]]
) -> list[float]:
    first, second, third = sgd(below), sgd(predictor), sgd(above)
    losses = []
    for x, target in data:
        y = below(x)
        step(first, y, predictor(y.detach()).detach() / len(y))
        received = y.detach().requires_grad_()
        loss = cross_entropy(above(received), target)
        step(third, loss)
        assert received.grad is not None
        step(second, mse_loss(predictor(received.detach()), len(x) * received.grad, reduction="sum") / len(x))
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", ["dgl", "dni"])
@pytest.mark.parametrize("backend", ["serial", "threads"])
def test_stages_learn_without_the_gradient_from_above(name: str, backend: str) -> None:
    model = built("convnet")
    before = [p.clone() for p in model.parameters()]
    trainer = Trainer(model, name, optimizer={**SGD, "lr": 0.02}, backend=backend, stages=2)
    losses = trainer.fit(batches(4, size=16) * 20).losses
    assert sum(losses[-8:]) < 0.2 * sum(losses[:8])
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("name", ["dgl", "dni"])
def test_heads_and_predictors_are_no_part_of_the_model(name: str) -> None:
    names = list(built("mlp").state_dict())
    trainer, model, _ = fitted(name, "mlp", "serial", 4)
    assert list(model.state_dict()) == names
    data = batches(3)
    evaluation = trainer.evaluate(data)
    plain = [cross_entropy(model.eval()(x), t).item() * len(t) for x, t in data]
    assert evaluation["loss"] == pytest.approx(sum(plain) / sum(len(t) for _, t in data))


@pytest.mark.parametrize("output", [(4, 6), (4, 5, 6), (4, 6, 3, 3), (4, 6, 2, 3, 3)])
@pytest.mark.parametrize("prediction", [(4,), (4, 10), (4, 2, 3)])
def test_a_head_takes_features_steps_images_and_volumes(output: tuple[int, ...], prediction: tuple[int, ...]) -> None:
    y = torch.randn(output)
    assert make_head(0, y, torch.zeros(prediction))(y).shape == prediction


def test_a_head_answers_for_each_step_where_the_model_does() -> None:
    head = make_head(0, torch.zeros(4, 5, 6), torch.zeros(4, 5, 9))
    assert head(torch.zeros(3, 8, 6)).shape == (3, 8, 9)


def test_a_head_averages_over_space() -> None:
    image = torch.randn(2, 3, 4, 5)
    head = Head(image, (7,), each_step=False)
    torch.testing.assert_close(head(image), head.linear(image.mean((2, 3))))


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6), (4, 6, 3, 3), (4, 6, 2, 3, 3)])
def test_the_first_predicted_gradient_is_zero_and_of_the_outputs_shape(shape: tuple[int, ...]) -> None:
    predicted = make_predictor(0, torch.zeros(shape))(torch.randn(shape))
    assert predicted.shape == shape
    assert not predicted.any()


@pytest.mark.parametrize(
    ("output", "prediction", "words"),
    [
        (torch.zeros(4, dtype=torch.long), torch.zeros(4, 2), r"stage 1 must give one .* found torch.int64 of \(4,\)"),
        ((torch.zeros(4, 2),), torch.zeros(4, 2), "stage 1 must give one floating-point tensor .* found tuple"),
        (torch.zeros(4, 2), (torch.zeros(4, 2),), "the last stage must give one .* found tuple"),
        (torch.zeros(8, 2), torch.zeros(4, 2), "stage 1 gives 8 rows where the last stage gives 4"),
    ],
)
def test_a_head_that_cannot_be_is_refused_with_its_stage(output: object, prediction: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_head(1, output, prediction)
