"""What the suite prints, whole; and which contender a claim is made against."""

from __future__ import annotations

from textwrap import dedent

import torch

from asyncpipe.tools.bench.catalogue import CONTENDERS
from asyncpipe.tools.bench.peak import flops_of, measured_peak
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.report import row_text, summary_text, verdict_text
from asyncpipe.tools.bench.training_row import summarise
from asyncpipe.tools.bench.turns import Turns
from asyncpipe.tools.bench.workloads import WORKLOADS
from tests.tools.bench.results import FALLING, HALVES, LU, ONE, trained

STEADY = {ONE: [0.04] * 5, HALVES: [0.025, 0.02, 0.03, 0.025, 0.025], LU: [0.02] * 5}


def test_a_row_is_a_table_with_its_claim_below() -> None:
    text = row_text(trained(STEADY, missing={"jax.jit": "jax is not installed"}, goal=1.25))
    assert text == dedent(
        """\
        14 cpu-mlp: MLP 6 x 1024, batch 128
             contender                     updates/s  10-90 %  of the best peer       95 %  loss, equal time
          E  eager, 1 thread                      25    25-25              0.62  0.50-0.75             0.838
          H  2 threads, half a batch each         40    36-46              1.00  1.00-1.00             0.491  best peer
             asyncpipe async-lu                   50    50-50              1.25  1.00-1.50             0.345  us
          jax.jit: not run: jax is not installed
          asyncpipe async-lu: 1.25 (1.00-1.50) times the best peer, 2 threads, half a batch each; goal 1.25: met"""
    )


def test_a_peer_that_computes_something_else_is_not_the_best() -> None:
    wrong = {HALVES: [1.5 * loss for loss in FALLING]}
    row = trained(STEADY, wrong)
    assert row["best_peer"] == ONE
    assert row["of_best_peer"]["ratio"] == 2.0
    said = f"{HALVES}: its first losses differ by 50.0% from those of the first synchronous contender"
    assert row["guard"] == [said]
    assert f"  wrong, and not counted: {said}" in row_text(row).splitlines()


def test_without_our_own_there_is_no_claim() -> None:
    row = trained({ONE: [0.04] * 5, LU: [0.02] * 5}, {LU: [2.0] * 40})
    assert row["of_best_peer"] is None
    assert row_text(row).splitlines()[-1] == "  no ratio: no schedule of asyncpipe was measured"
    assert row_text(trained({LU: [0.02] * 5})).splitlines()[-1] == "  no ratio: no peer was measured"


def test_a_larger_batch_is_shown_and_counts_for_nothing() -> None:
    row = trained({ONE: [0.04] * 3, "batch x 3": [0.01] * 3})
    assert row["best_peer"] == ONE
    shown = row["contenders"][1]
    assert (shown["role"], shown["updates_per_s"]["median"], shown["samples_per_s"]) == (
        "other",
        100.0,
        3 * 128 * 100.0,
    )


def test_rows_that_were_not_measured_have_one_line() -> None:
    row = {"number": "1", "name": "lstm-cell", "title": "LSTM", "status": "not possible", "reason": "needs CUDA"}
    assert row_text(row) == "1 lstm-cell: not possible: needs CUDA"


def test_rows_of_numbers_have_one_line_each() -> None:
    row = {"number": "10", "name": "stragglers", "title": "late streams", "status": "measured", "goal": "within 5 %"}
    text = row_text({**row, "values": {"largest error": 0.02345}, "left_out": {"ddp": "has replicas"}})
    expected = ["10 stragglers: late streams", "  largest error: 0.02345", "  ddp: left out: has replicas"]
    assert text.splitlines() == [*expected, "  goal: within 5 %"]


def test_the_last_line_counts_rows_and_reasons() -> None:
    rows = [trained(STEADY), *({"status": "not possible", "reason": "needs CUDA"} for _ in range(2))]
    assert summary_text([*rows, {"status": "failed"}, {"status": "left out"}]) == (
        "1 of 5 rows measured; 2 not possible: needs CUDA; 1 failed; 1 left out"
    )


def test_a_verdict_is_one_line() -> None:
    numbers = {"ratio": 1.2, "low": 1.1, "high": 1.3, "before": 1.0, "now": 1.2}
    found = verdict_text({"row": "cpu-mlp", "verdict": "faster", "contender": LU, **numbers})
    assert (
        found
        == "cpu-mlp: faster: asyncpipe async-lu was at 1.00, now 1.20 of the best peer: 1.20 (1.10-1.30) of before"
    )


def test_flops_become_a_share_of_the_peak() -> None:
    turns = Turns({"CUDA graph": FALLING}, {"CUDA graph": [0.02] * 3}, {"CUDA graph": 50}, {"CUDA graph": 1.0})
    found = summarise(WORKLOADS["gpt2-1k"], "cuda", list(CONTENDERS.values()), turns, flops=1e12, peak=1e14)
    row = {"number": "6", "name": "gpt2-1k", "title": "GPT-2", "status": "measured", "goal": None, **found}
    (contender,) = row["contenders"]
    assert (contender["tflops"], contender["mfu"], contender["items_per_s"]) == (50.0, 0.5, 51200.0)
    assert "G  CUDA graph    51,200" in row_text(row)
    assert "best peer, MFU 50.0%" in row_text(row)


def test_flops_are_those_of_the_products() -> None:
    problem = Problem(WORKLOADS["cpu-mlp"].reduced(), torch.device("cpu"))
    weights = [p.numel() for p in problem.model().parameters() if p.ndim == 2]
    # Forward, gradients of weights, and gradients of all inputs but the first layer's.
    assert flops_of(problem) == 2 * problem.workload.batch * (3 * sum(weights) - weights[0])


def test_a_peak_is_measured() -> None:
    assert measured_peak(Problem(WORKLOADS["cpu-mlp"].reduced(), torch.device("cpu")), side=8) > 0
