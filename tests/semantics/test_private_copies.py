"""PD-ASGD's first listing: each backward stream updates a copy of its own and overwrites the shared weights with it."""

from __future__ import annotations

import pytest
import torch

from asyncpipe.schedule import load
from tests.semantics.plain import (
    Batch,
    Rule,
    Versions,
    Weights,
    assert_near,
    batches,
    network,
    sgd,
    stale_gradients,
    trained,
)

LANES = 2


def listing(
    model: torch.nn.Sequential, data: list[Batch], ages: list[int], rule: Rule
) -> tuple[list[list[Weights]], list[Versions]]:
    """(versions of the shared weights by stage, the private copies): microbatch m belongs to lane m % 2.

    theta[m,k] <- theta[m,k] - eta G; theta[m] <- theta[m,k]. G: stored activations, back through theta[m,k].
    """
    private = [Versions(model, rule) for _ in range(LANES)]
    shared = [[private[0].read(k, 0)] for k in range(len(ages))]
    for m, (x, y) in enumerate(data):
        lane = private[m % LANES]
        read = [shared[k][max(0, m - age)] for k, age in enumerate(ages)]
        gradients = stale_gradients(read, [lane.newest(k) for k in range(len(ages))], x, y)
        for k, gradient in enumerate(gradients):
            lane.step(k, gradient)
            shared[k].append(lane.newest(k))
    return shared, private


@pytest.mark.parametrize(("stages", "ages"), [(1, [2]), (3, [2, 1, 0])])
def test_private_copies_overwrite_the_shared_weights_as_listed(stages: int, ages: list[int]) -> None:
    model, data = network(stages, torch.float64), batches(14, torch.float64)
    shared, _ = listing(model, data, ages, sgd())
    trainer = trained(model, "pd-asgd-devices", data)
    assert list(trainer.predicted_staleness) == ages
    assert_near(model, [versions[-1] for versions in shared])


@pytest.mark.parametrize(("in_flight", "apart"), [(2, False), (3, True)])
def test_copies_part_where_each_learns_from_the_other_one(in_flight: int, apart: bool) -> None:
    """The algorithm's doing, not a bug: with an even age a gradient taken at one copy is applied to the other.

    a' = a - eta g(b), b' = b - eta g(a): on a quadratic of curvature h the mean contracts, but the difference grows by
    1 + eta h with every pair of updates, at any learning rate. With an odd age each copy is its own SGD.
    """
    plain = {"use": "sgd", "lr": 0.5}
    model, data = network(1, torch.float64), batches(1, torch.float64, rows=40) * 80
    _, private = listing(model, data, [in_flight - 1], sgd(0.5, 0.0))
    trainer = trained(model, load("pd-asgd-devices", [f"in_flight={in_flight}"]), data, plain)
    assert list(trainer.predicted_staleness) == [in_flight - 1]
    assert_near(model, [private[(len(data) - 1) % LANES].live[0]])
    gaps = [float((private[0].kept[0][v][0] - private[1].kept[0][v][0]).norm()) for v in (10, 40)]
    assert (gaps[1] > 3 * gaps[0]) == apart


def test_the_copy_of_a_stage_with_one_updating_stream_is_the_stage() -> None:
    """`per: device`: several streams update, but each stages of its own."""
    data, models = batches(12, torch.float64), [network(3, torch.float64) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, read in zip(models, ("private", "latest"), strict=True):
        trained(model, load("pipedream", [f"weights.backward={read}"]), data)
    assert_near(models[0], [[p.detach() for p in models[1].parameters()]])
