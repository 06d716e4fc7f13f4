"""Microbatches in flight, versions and bytes: known values, and counted by hand."""

from __future__ import annotations

import pytest

from asyncpipe.analysis.memory import DeviceMemory, Memory, StageSizes, memory
from asyncpipe.analysis.steady import run_steady
from asyncpipe.analysis.timing import Timing
from tests.analysis.timings import slow
from tests.compiler.instances import compiled

PIPELINE = "devices: S\nplace: s\nstreams:\n  compute: {{runs: [{ops}], per: device, order: [{order}]}}\n"
ONE_F_ONE_B = PIPELINE.format(ops="F, B, U", order="U, B, F") + "in_flight: S - s\n"
LU = "streams: {forward: {runs: [F]}, backward: {runs: [B, U], count: 2}}\nin_flight: 3\n"
SIZES = [StageSizes(100, 7, 10), StageSizes(200, 5, 20), StageSizes(300, 3, 40)]


def of(text: str, stages: int, sizes: list[StageSizes] | None = None, timing: Timing | None = None) -> Memory:
    return memory(run_steady(compiled(text, stages).program(None), timing or Timing()), sizes)


def test_pipeline_holds_as_many_microbatches_as_stages_above() -> None:
    found = of(ONE_F_ONE_B, 4)
    assert found.in_flight == (4, 3, 2, 1)
    assert found.versions == (1, 1, 1, 1)
    assert [(d.device, d.activations, d.parameters) for d in found.devices] == [(s, 4 - s, 1) for s in range(4)]


def test_stashed_weights_are_versions_of_their_own() -> None:
    """PipeDream keeps S - s of them; with two buffers (2BW) there are never more than two."""
    assert of(ONE_F_ONE_B + "weights: {backward: same}\n", 4).versions == (4, 3, 2, 1)
    lagging = "weights: {forward: lag(1), backward: same}\nupdate: {every: 4}\n"
    assert of(ONE_F_ONE_B + lagging, 4).versions == (2, 2, 2, 2)


@pytest.mark.parametrize(("weights", "versions"), [("{forward: predict}", 2), ("{backward: ema(9/10)}", 2)])
def test_predicted_and_averaged_weights_are_a_copy(weights: str, versions: int) -> None:
    assert of(f"{ONE_F_ONE_B}weights: {weights}\n", 2).versions == (versions, versions)


def test_each_backward_stream_has_its_private_copy() -> None:
    text = LU + "weights: {backward: private}\nupdate: {write: overwrite, owner: stream}\n"
    assert of(text, 4).versions == (3, 3, 3, 3)


def test_decoupled_backward_holds_what_the_forward_ran_ahead() -> None:
    """ceil((t_Bend - t_Fstart)/P): the first stage waits longest for its backward."""
    found = of(LU, 8)
    assert found.in_flight == (3, 3, 3, 2, 2, 2, 1, 1)
    assert found.devices == (DeviceMemory(0, 14, 8),)


def test_bytes_are_those_of_the_stages_at_the_worst_moment() -> None:
    found = of(ONE_F_ONE_B, 3, SIZES)
    assert found.in_bytes
    assert [(d.activations, d.parameters) for d in found.devices] == [(30, 100), (40, 200), (40, 300)]
    together = of(LU, 3, SIZES)
    assert together.devices[0].parameters == 600
    assert together.devices[0].activations < 3 * 10 + 3 * 20 + 2 * 40


def test_recomputed_stages_hold_their_input_until_they_recompute() -> None:
    late = "in_flight: S - s\nrecompute: full\nrules: ['R[s, m] after B[s+1, m]']\n"
    found = of(PIPELINE.format(ops="F, R, B, U", order="U, B, R, F") + late, 3, SIZES)
    assert found.in_flight == (3, 2, 1)
    assert [d.activations for d in found.devices] == [3 * 7 + 10, 2 * 5 + 20, 3 + 40]
    inside = of(f"{ONE_F_ONE_B}recompute: full\n", 3, SIZES)
    assert [d.activations for d in inside.devices] == [3 * 7 + 10, 2 * 5 + 20, 3 + 40]


def test_saved_activations_move_to_the_device_of_the_backward() -> None:
    text = "devices: 2\nplace: 0\nstreams:\n  f: {runs: [F]}\n  b: {runs: [B, U], device: 1}\nin_flight: 3\n"
    found = of(f"{text}costs: {{SEND: 1/2}}\n", 2, SIZES[:2])
    assert [d.device for d in found.devices] == [0, 1]
    assert found.devices[0].activations == 20 + 10
    assert found.devices[1].activations >= 3 * 10 + 20


def test_activations_move_to_the_device_of_their_own_backward() -> None:
    """Backward streams on devices 1 and 2 take the microbatches in turn."""
    text = "devices: 3\nplace: 0\nstreams:\n  f: {runs: [F]}\n  b: {runs: [B, U], count: 2, device: 1 + i}\n"
    text += "in_flight: 3\nupdate: {owner: stream}\nweights: {backward: private}\ncosts: {B: 3/2}\n"
    assert of(text, 8).devices == (DeviceMemory(0, 1, 8), DeviceMemory(1, 8, 8), DeviceMemory(2, 8, 8))


def test_late_streams_may_hold_more_but_never_more_than_the_slots() -> None:
    calm, stormy = of(LU, 8), of(LU, 8, timing=slow(backward__0="3"))
    assert all(a <= b <= 3 for a, b in zip(calm.in_flight, stormy.in_flight, strict=True))
    assert calm.in_flight != stormy.in_flight


def test_partitioned_backward_frees_what_it_does_not_reach() -> None:
    """A worker that back-propagates to its block only drops the stages below with the end of its backward."""
    text = "streams: {worker: {runs: [F, B, U], count: 2}}\nupdate: {write: racy, scope: partition}\nin_flight: 3\n"
    found = of(text, 4)
    assert all(1 <= held <= 2 for held in found.in_flight)
    assert found.devices[0].activations <= 2 * 4
