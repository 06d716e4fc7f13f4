"""Losses and accuracy of sequences, whose classes lie in the last dimension."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from asyncpipe.runtime.evaluation import evaluate
from asyncpipe.runtime.losses import cross_entropy


def test_cross_entropy_of_a_sequence_is_that_of_all_its_steps() -> None:
    output, target = torch.randn(4, 6, 5, requires_grad=True), torch.randint(5, (4, 6))
    torch.testing.assert_close(cross_entropy(output, target), functional.cross_entropy(output.mT, target))


def test_cross_entropy_of_as_many_steps_as_classes_is_not_ambiguous() -> None:
    output, target = torch.randn(4, 5, 5), torch.randint(5, (4, 5))
    expected = torch.stack([functional.cross_entropy(*pair) for pair in zip(output, target, strict=True)]).mean()
    torch.testing.assert_close(cross_entropy(output, target), expected)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3, 2)])
def test_cross_entropy_of_other_outputs_is_torchs(shape: tuple[int, ...]) -> None:
    output, target = torch.randn(shape), torch.randint(5, (4, *shape[2:]))
    expected = functional.cross_entropy(output, target, label_smoothing=0.1)
    assert torch.equal(cross_entropy(output, target, label_smoothing=0.1), expected)


def test_accuracy_of_sequences_counts_every_step_that_has_a_class() -> None:
    target = torch.tensor([[0, 1, 2], [2, -100, 0]])
    output = functional.one_hot(torch.tensor([[0, 1, 1], [2, 2, 0]]), 3).float()
    result = evaluate(nn.Identity(), cross_entropy, [(output, target)])
    assert result["accuracy"] == 4 / 5
    assert result["loss"] == pytest.approx(cross_entropy(output, target).item())


def test_targets_of_another_shape_have_no_accuracy() -> None:
    output, target = torch.rand(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)
    assert evaluate(nn.Identity(), lambda y, t: y.mean(), [(output, target)])["accuracy"] is None
