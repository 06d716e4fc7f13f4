"""`lr: {auto: x}`: each stage trains at its part of the rate, as if that had been written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.errors import UsageError
from tests.command_line import invoke
from tests.semantics.plain import batches, network


def trained(optimizer: dict[str, Any], schedule: str = "pipedream", stages: int = 3) -> tuple[Trainer, list[Tensor]]:
    model = network(stages)
    trainer = Trainer(model, schedule, nn.functional.cross_entropy, optimizer, "serial", stages)
    trainer.fit(batches(12))
    return trainer, [p.detach() for p in model.parameters()]


def test_every_stage_takes_the_share_of_its_staleness() -> None:
    trainer, _ = trained({"use": "sgd", "lr": {"auto": 0.1}})
    assert trainer.lr_factors == pytest.approx((0.309, 0.5, 1.0), rel=1e-3)
    assert trainer.rate.at(0) == 0.1


def test_an_automatic_rate_is_the_written_one_bit_for_bit() -> None:
    """Two updates delayed by one in one stage: the factor is 1/2, and halves of 0.25 are exact."""
    automatic, found = trained({"use": "sgd", "lr": {"auto": 0.25}}, "pipedream-2bw")
    assert automatic.lr_factors == pytest.approx((0.5,) * 3, abs=1e-12)
    factors = set(automatic.lr_factors)
    assert len(factors) == 1
    _, expected = trained({"use": "sgd", "lr": 0.25 * factors.pop()}, "pipedream-2bw")
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_without_staleness_an_automatic_rate_changes_no_bit() -> None:
    automatic, found = trained({"use": "sgd", "lr": {"auto": 0.1}, "momentum": 0.9}, "1f1b")
    _, expected = trained({"use": "sgd", "lr": 0.1, "momentum": 0.9}, "1f1b")
    assert automatic.lr_factors == (1.0, 1.0, 1.0)
    assert all(map(torch.equal, found, expected))


def test_a_number_has_no_factors_before_the_first_fit_and_ones_after() -> None:
    trainer = Trainer(network(2), "pipedream", backend="serial")
    before = trainer.lr_factors
    trainer.fit(batches(2))
    assert (before, trainer.lr_factors) == ((), (1.0, 1.0))


@pytest.mark.parametrize("use", ["lion", "muon", "torch.optim.SGD", torch.optim.SGD])
def test_an_optimizer_without_a_known_limit_is_refused(use: Any) -> None:
    with pytest.raises(
        UsageError, match=r"lr: auto is for sgd, adam, adamw and nadam; .* is not known\n  help: give lr"
    ):
        trained({"use": use, "lr": {"auto": 0.1}})


@pytest.mark.parametrize("lr", [{"auto": "fast"}, {"auto": -1}, {"auto": 0.1, "scale": 2}, {}, {"auto": True}])
def test_anything_but_a_number_in_auto_is_refused(lr: Any) -> None:
    with pytest.raises(
        UsageError, match=r"optimizer: lr must be a number of at least 0, found .*\n  help: as in lr: 0\.1"
    ):
        Trainer(network(1), optimizer={"use": "sgd", "lr": lr})


def test_a_run_tells_the_rates_of_its_stages(tmp_path: Path) -> None:
    options = ["--stages", "2", "--steps", "3", "--backend", "serial", "--out", str(tmp_path / "run")]
    done = invoke("run", "pipedream", *options, "-o", "job.optimizer={use: sgd, lr: {auto: 0.04}}")
    assert done.code == 0, done.stderr
    assert "\nlr per stage: 0.02 0.04; 0.04 without staleness\n" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text("utf-8"))
    assert summary["lr"] == {"stated": 0.04, "auto": True, "factors": pytest.approx([0.5, 1.0])}
