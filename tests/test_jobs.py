"""What the author's tensors tell of themselves: token ids, classes of samples and of steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asyncpipe.errors import Report, UsageError
from asyncpipe.jobs import Job, build_job
from asyncpipe.schedule.job import read_job

CODE = """
import torch
def texts(steps=6):
    ids = torch.arange(40 * (steps + 1)).reshape(40, -1) % 13
    split = ids[:, :-1], ids[:, 1:]
    return split, split
def reviews():
    (ids, _), _ = texts()
    return (ids, ids[:, 0] % 2), (ids + 3, ids[:, 0] % 2)
def numbers():
    x = torch.rand(8, 5)
    return (x, x[:, :1]), (x, x[:, :1])
"""
Make = Callable[..., Job]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Builds a job of a model and one of the data above."""
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(CODE)

    def job(model: str, data: str, loss: str = "cross_entropy") -> Job:
        Path("job.yaml").write_text(
            f"model: {model}\ndata: ./own.py:{data}\nloss: {loss}\noptimizer: {{use: sgd, lr: 0.1}}\n"
        )
        report = Report()
        spec = read_job("job.yaml", report)
        assert spec is not None, report.diagnostics
        return build_job(spec, 0, ("own.py",))

    return job


def test_language_model_gets_the_vocabulary_of_the_texts(make: Make) -> None:
    job = make("{use: gpt, layers: 1, heads: 1, width: 4}", "texts")
    assert (job.data.vocabulary, job.data.classes, job.data.target_shape) == (13, 13, (6,))
    samples, targets = job.data.train.inputs[:3], job.data.train.targets[:3]
    output = job.model(samples)
    assert output.shape == (3, 6, 13)
    assert job.loss(output, targets).dim() == 0


def test_vocabulary_covers_the_test_split(make: Make) -> None:
    job = make("{use: lstm, hidden: 4}", "reviews")
    assert (job.data.vocabulary, job.data.classes, job.data.target_shape) == (16, 2, ())
    assert job.model(job.data.test.inputs[:3]).shape == (3, 2)


def test_regression_has_no_vocabulary(make: Make) -> None:
    job = make("{use: mlp, hidden: [4]}", "numbers", "mse")
    assert (job.data.vocabulary, job.data.classes, job.data.target_shape) == (None, 1, ())
    assert job.model(job.data.train.inputs).shape == (8, 1)


def test_model_that_does_not_fit_the_data_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match=r"model gpt gives a class for each step, found targets of shape \(\)"):
        make("gpt", "reviews")
    with pytest.raises(UsageError, match=r"model mlp takes numbers, found token ids of shape \(6,\)"):
        make("mlp", "reviews")
