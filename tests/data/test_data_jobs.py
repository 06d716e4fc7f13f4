"""The jobs of the library: each one's parts exist, fit each other, and are known without their files."""

from __future__ import annotations

import pytest

from asyncpipe.cli.instance import check_job
from asyncpipe.data import data_shape
from asyncpipe.errors import Report
from asyncpipe.schedule.job import JobSpec, job_library, job_text, read_job
from asyncpipe.schedule.source import parse_text


def job_of(name: str) -> JobSpec:
    report = Report()
    job = read_job(name, report)
    assert report.diagnostics == []
    assert job is not None
    return job


@pytest.mark.parametrize("name", job_library())
def test_job_of_the_library_checks_without_its_files(name: str) -> None:
    job, report = job_of(name), Report()
    layers = check_job(job, report)
    assert report.diagnostics == []
    assert layers
    assert job.train.lr.warmup < job.train.epochs


@pytest.mark.parametrize("name", job_library())
def test_job_of_the_library_reads_back_from_its_text(name: str) -> None:
    job, report = job_of(name), Report()
    assert read_job(parse_text(job_text(job), "job.yaml", report), report) == job


@pytest.mark.parametrize(
    ("name", "batch", "lr", "decay", "warmup", "warmup_start", "cosine_epochs"),
    [
        ("cifar10-resnet18", 128, 0.015, 0.005, 3, 0.005, 105),
        ("cifar10-resnet50", 128, 0.015, 0.005, 5, 0.005, 120),
        ("cifar100-resnet18", 128, 0.015, 0.005, 5, 0.005, 100),
        ("cifar100-resnet50", 128, 0.015, 0.005, 5, 0.005, 120),
        ("imagenet-resnet50", 250, 0.015, 0.0035, 5, 0.0035, 250),
        ("imdb-lstm", 75, 0.001, 0, 0, 0, 150),
    ],
)
def test_settings_are_those_of_table_10(
    name: str, batch: int, lr: float, decay: float, warmup: float, warmup_start: float, cosine_epochs: int
) -> None:
    """Async LU/BU, arXiv 2410.05985v1; momentum 0.9, which for the LSTM is Adam's default."""
    job = job_of(name)
    options, rate = job.optimizer.options, job.train.lr
    assert (job.train.batch, options["lr"], options.get("weight_decay", 0)) == (batch, lr, decay)
    assert (job.optimizer.use, options.get("momentum")) == (("adam", None) if name == "imdb-lstm" else ("sgd", 0.9))
    assert (rate.schedule, rate.warmup, rate.warmup_start) == ("cosine", warmup, warmup_start)
    assert job.train.epochs - warmup == cosine_epochs


def test_shakespeare_trains_as_many_updates_as_its_source() -> None:
    """1,115,394 characters, nine tenths of them to train on."""
    for name, updates, warmup in (("shakespeare-gpt", 5_002, 100), ("shakespeare-gpt-small", 2_614, 100)):
        job = job_of(name)
        context, batch = job.data.options["context"], job.train.batch
        per_epoch = (int(1_115_394 * 0.9) - 1) // context // batch
        assert per_epoch * job.train.epochs == updates
        assert round(job.train.lr.warmup * per_epoch) == warmup
        assert data_shape(job.data.use, job.data.options).vocabulary == 65
