"""Bytes of the stages of a job."""

from __future__ import annotations

import pytest

from asyncpipe.cli.instance import check_job
from asyncpipe.cli.job_sizes import stage_sizes
from asyncpipe.errors import Report
from asyncpipe.schedule import load
from asyncpipe.schedule.job import read_job


@pytest.mark.parametrize(("job", "elements", "size"), [("imdb-lstm", 400, 8), ("digits", 8 * 8, 4)])
def test_the_first_stage_is_given_token_ids_of_8_bytes_or_numbers_of_4(job: str, elements: int, size: int) -> None:
    spec = read_job(job, Report())
    assert spec is not None
    sizes = stage_sizes(check_job(spec, Report()), load("async-lu"), 2)
    assert sizes is not None
    assert sizes[0].input == spec.train.batch * elements * size


def test_weights_and_activations_in_bfloat16_take_half_as_much() -> None:
    sizes = []
    for overrides in ([], ["job.train.dtype=bf16"]):
        spec = read_job("digits", Report(), overrides)
        assert spec is not None
        sizes.append(stage_sizes(check_job(spec, Report()), load("async-lu"), 1))
    (wide,), (narrow,) = sizes[0] or (), sizes[1] or ()
    assert (narrow.parameters, narrow.activations) == (wide.parameters // 2, wide.activations // 2)
