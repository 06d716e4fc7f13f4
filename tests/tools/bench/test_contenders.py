"""Contenders of a row on a CPU: those that are synchronous compute the same, all learn, and threads end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from asyncpipe.tools.bench.catalogue import CONTENDERS, contenders
from asyncpipe.tools.bench.contender import Losses, take
from asyncpipe.tools.bench.problem import Problem
from asyncpipe.tools.bench.threaded import NaiveThreads
from asyncpipe.tools.bench.workloads import WORKLOADS, Workload

CPU = torch.device("cpu")
MLP = WORKLOADS["cpu-mlp"].reduced()
ADAMW = replace(MLP, optimizer={"use": "adamw"}, lr=1e-3)


def losses_of(name: str, workload: Workload, updates: int = 6) -> list[float]:
    problem = Problem(workload, CPU)
    assert CONTENDERS[name].refusal(problem) == ""
    kept: Losses = []
    contender = CONTENDERS[name].make(problem)
    contender.train(2, kept)
    contender.train(updates - 2, kept)
    return take(kept)


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("workload", [MLP, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("name", ["eager, all threads", "2 threads, half a batch each", "asyncpipe sgd"])
def test_synchronous_contenders_compute_the_same(name: str, workload: Workload) -> None:
    assert losses_of(name, workload) == pytest.approx(losses_of("eager, 1 thread", workload), rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # Inductor's own modules
def test_a_compiled_loop_computes_the_same() -> None:
    assert losses_of("torch.compile, 1 thread", MLP) == pytest.approx(losses_of("eager, 1 thread", MLP), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu-mlp", "cpu-convnet", "deep-narrow-100", "lstm-cell", "gru-cell", "mixer"])
def test_a_jax_step_computes_the_same(name: str) -> None:
    pytest.importorskip("jax", reason="jax is a peer where it is installed")
    workload = WORKLOADS[name].reduced()
    assert losses_of("jax.jit", workload) == pytest.approx(losses_of("eager, 1 thread", workload), rel=1e-4)


@pytest.mark.parametrize("workload", [MLP, ADAMW], ids=["sgd", "adamw"])
def test_naive_threads_with_one_batch_at_a_time_compute_the_same(workload: Workload) -> None:
    contender = NaiveThreads(Problem(workload, CPU))
    found: Losses = []
    for _ in range(6):
        contender.train(1, found)  # the next forward begins when all updates have ended
    assert take(found) == pytest.approx(losses_of("eager, 1 thread", workload), rel=1e-5)


def test_naive_threads_pass_failures_on() -> None:
    contender = NaiveThreads(Problem(MLP, CPU))
    contender._update = lambda *arguments: 1 / 0  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        contender.train(5)


def test_halves_of_batches_are_refused_where_they_have_other_statistics() -> None:
    kind = CONTENDERS["2 threads, half a batch each"]
    assert kind.refusal(Problem(WORKLOADS["resnet18-b32"].reduced(), CPU)) == "would compute other batch norms"


def test_a_larger_batch_has_the_next_samples_of_the_same_rule() -> None:
    problem = Problem(MLP, CPU)
    assert problem.enlarged(3).batches[0][0].shape == (3 * MLP.batch, *MLP.sample)
    assert problem.enlarged(3).workload.items == MLP.items == 1


def test_every_workload_has_a_model_for_its_samples() -> None:
    for workload in WORKLOADS.values():
        problem = Problem(workload.reduced(), CPU)
        loss = problem.loss(problem.model(), problem.batches[0])
        assert torch.isfinite(loss), workload.name


def test_contenders_are_chosen_by_letter_or_part_of_a_name() -> None:
    ours = ["asyncpipe async-lu", "asyncpipe async-lu, Inductor"]
    assert [kind.name for kind in contenders(("G", "async-lu"))] == ["CUDA graph", *ours]
    assert contenders(("side",)) == [CONTENDERS["CUDA graph, side streams"]]
    assert contenders(("nobody",)) == []
    assert len(contenders()) == len(CONTENDERS)
