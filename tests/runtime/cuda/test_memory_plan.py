"""Memory planned from traces: against what the recording gives out, refused where it cannot fit, told where it ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from asyncpipe import Trainer
from asyncpipe.errors import OutOfMemoryError
from asyncpipe.runtime.cuda.api import DeviceMemory
from asyncpipe.runtime.cuda.memory_knobs import knobs
from asyncpipe.runtime.cuda.memory_plan import MemoryPlan
from asyncpipe.runtime.cuda.memory_report import plan_as_json, sized
from asyncpipe.runtime.cuda.platform import CudaPlatform
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.usage import Usage
from asyncpipe.runtime.traced import TracedStage
from asyncpipe.runtime.traced.footprint import Footprint, footprint, most_at_once
from asyncpipe.schedule import load
from tests.runtime.cuda.recorded import Pair, recorded

WIDTH = 64
BATCH = 128
STAGES = 2


def network() -> nn.Sequential:
    torch.manual_seed(3)
    parts = (nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(STAGES))
    return nn.Sequential(*parts)


def pairs(count: int) -> list[Pair]:
    draw = torch.Generator().manual_seed(5)
    return [(torch.randn(BATCH, WIDTH, generator=draw), torch.randint(WIDTH, (BATCH,), generator=draw))] * count


def training(name: str, kind: str, cuda: RecordingCuda) -> tuple[Trainer, CudaPlatform]:
    return recorded(network(), name, kind, cuda, period=8, stages=STAGES)  # type: ignore[arg-type]


def planned(name: str, kind: str, cuda: RecordingCuda | None = None) -> MemoryPlan:
    trainer, platform = training(name, kind, cuda or RecordingCuda(seed=None))
    trainer.fit(pairs(4))
    assert platform.memory.plan is not None
    return platform.memory.plan


def stage_of(*parts: nn.Module) -> TracedStage:
    stage = TracedStage(1, nn.Sequential(*parts), 1, False, None)
    stage.forward(0, torch.ones(BATCH, WIDTH))
    return stage


UNIT = BATCH * WIDTH * 4
"""Bytes of one activation."""
WEIGHTS = WIDTH * WIDTH * 4 + 512
"""Of the gradients of one layer: its bias takes a block of its own."""


@pytest.mark.parametrize(
    ("recompute", "split", "expected"),
    [
        # Kept: the input, and tanh's output. A forward holds the sums below tanh, a backward their gradient.
        ("none", False, Footprint(2 * UNIT, UNIT, UNIT, WEIGHTS, UNIT, UNIT, 6)),
        ("none", True, Footprint(3 * UNIT, UNIT, UNIT, WEIGHTS, UNIT, UNIT, 7)),
        ("full", False, Footprint(UNIT, UNIT, UNIT, WEIGHTS, UNIT, 3 * UNIT, 8)),
        ("invert", False, Footprint(0, UNIT, UNIT, WEIGHTS, UNIT, 3 * UNIT, 8)),
    ],
)
def test_a_footprint_is_what_a_layer_keeps_and_needs(recompute: str, split: bool, expected: Footprint) -> None:
    (division,) = stage_of(nn.Linear(WIDTH, WIDTH), nn.Tanh()).traces.divisions
    assert footprint(division, recompute, split) == expected


def test_results_live_until_their_last_reader_by_way_of_views_too() -> None:
    class Wide(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wide = torch.cat([x, x, x])
            part = wide[:BATCH]
            narrow = x + 1
            return (narrow * 2) + part

    (division,) = stage_of(Wide()).traces.divisions
    # The wide one, `narrow * 2` and `narrow`; or the wide one, `narrow * 2` and their sum.
    assert most_at_once(division.forward.graph.graph) == 5 * UNIT


@pytest.mark.usefixtures("constant_rate")
@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("async-lu", "streams", 12),
        pytest.param("pipedream", "streams", 12, marks=pytest.mark.slow),
        pytest.param("fdg", "graph", 40, marks=pytest.mark.slow),
    ],
)
def test_a_plan_is_a_little_more_than_what_is_held_at_most(
    name: str, kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, take = [0], Usage.take

    def watched(self: Usage, history: object, device: int, key: int, size: int, limit: int) -> None:
        take(self, history, device, key, size, limit)
        most[0] = max(most[0], self.of(device))

    monkeypatch.setattr(Usage, "take", watched)
    trainer, platform = training(name, kind, RecordingCuda(seed=None))
    trainer.fit(pairs(count))
    assert platform.memory.plan is not None
    own = platform.memory.plan.of(0).bytes
    # The recording sees nothing of what was there before the first run, but the parameters; nor of executable graphs.
    seen = platform.memory.plan.of(0).total - own["optimizer"] - own["versions"] - own["graph"]
    assert most[0] <= seen <= 1.3 * most[0]


def test_a_training_that_cannot_fit_is_refused_before_it_begins() -> None:
    cuda = RecordingCuda(bytes_total=200 * 1024)
    trainer, _ = training("async-lu", "streams", cuda)
    with pytest.raises(OutOfMemoryError) as refused:
        trainer.fit(pairs(4))
    assert refused.value.exit_code == 8
    assert not any(call.startswith("launch") for call in cuda.calls)
    assert str(refused.value) == REFUSED


REFUSED = """\
error[AP706]: the training needs 548.5 KiB more on device 0, which has 165.5 KiB left
  parameters             32.5 KiB
  optimizer state        32.5 KiB
  activations           387.0 KiB
  gradients              65.5 KiB
  workspace              96.0 KiB
  help: these free about: batch half as large (241.5 KiB), in_flight one less (161.5 KiB), stages half as many\
 (128.0 KiB), recompute full (96.0 KiB); or spread the stages over more devices"""


class Crowded(RecordingCuda):
    """Others take memory after the plan was made."""

    others = 0

    def memory(self, device: int) -> DeviceMemory:
        left = super().memory(device)
        return DeviceMemory(left.free + self.others, left.total + self.others)


def test_when_memory_ends_the_plan_and_what_is_held_are_shown() -> None:
    cuda = Crowded(bytes_total=350 * 1024, seed=None)
    cuda.others = 1 << 30
    trainer, _ = training("async-lu", "streams", cuda)
    with pytest.raises(OutOfMemoryError) as ended:
        trainer.fit(pairs(12))
    assert str(ended.value) == ENDED


ENDED = """\
error[AP707]: stream forward, action 0F2 (forward of stage 0): the device has no memory left, which was asked for\
 0.03 MiB more
                          planned       held
  parameters             32.5 KiB   32.5 KiB
  optimizer state        32.5 KiB   32.5 KiB
  activations           387.0 KiB  193.0 KiB
  gradients              65.5 KiB   32.0 KiB
  workspace              96.0 KiB          -
  all else                      -   34.6 KiB
  help: these free about: batch half as large (241.5 KiB), in_flight one less (161.5 KiB), stages half as many\
 (128.0 KiB), recompute full (96.0 KiB); or spread the stages over more devices"""


@pytest.mark.usefixtures("constant_rate")
def test_memory_that_ends_in_a_capture_is_no_fault_of_the_users_code() -> None:
    cuda = Crowded(bytes_total=1500 * 1024, seed=None)
    cuda.others = 1 << 30
    trainer, _ = training("async-lu", "graph", cuda)
    with pytest.raises(OutOfMemoryError, match=r"AP707\]: (.|\n)*graph itself") as ended:
        trainer.fit(pairs(32))
    assert "period 6 instead of 12 (1.5 MiB)" in str(ended.value)
    assert [call for call in cuda.calls if call.startswith("launch")] == []


@pytest.mark.usefixtures("constant_rate")
def test_a_period_that_is_not_asked_for_is_as_long_as_memory_allows() -> None:
    found = []
    for room in (6 << 20, 4 << 20):
        trainer, platform = training("async-lu", "graph", RecordingCuda(bytes_total=room, seed=None))
        platform.period = None
        trainer.fit(pairs(32))
        trainer.fit(pairs(20))
        found.append(platform.facts["graph"]["period"])
    assert found == [12, 6]


def test_each_knob_says_what_it_would_free() -> None:
    plan = planned("async-lu", "graph")
    first, second = plan.stages
    own = plan.of(0).bytes
    expected = {
        # Of the data and nodes of 12 microbatches, half; the targets are 128 numbers of 8 bytes.
        "period": (3 * 12 * (UNIT + BATCH * 8) + 12 * 10240 * (first.each.calls + second.each.calls)) // 2,
        "batch": (own["activations"] + own["data"] + own["workspace"]) // 2,
        "in_flight": sum(stage.held * stage.each.kept // stage.in_flight for stage in plan.stages),
        "recompute": sum(
            s.held * (s.each.kept - s.full.kept) - (s.full.backward - s.each.backward) for s in plan.stages
        ),
        # Both stages are one then, with the two microbatches of the last; the hand-over between them is gone.
        "stages": first.held * first.each.kept // first.in_flight + 2 * UNIT,
    }
    assert {knob.name: knob.frees for knob in knobs(plan, 0)} == expected
    assert [knob.name for knob in knobs(plan, 0)] == sorted(expected, key=lambda name: -expected[name])


def test_a_plan_is_told_to_programs() -> None:
    plan = planned("async-lu", "streams", RecordingCuda(bytes_total=1 << 20))
    (told,) = plan_as_json(plan)["devices"]
    assert told["planned"] == {
        "parameters": 33280, "optimizer": 33280, "versions": 0, "activations": 396288, "gradients": 67072,
        "workspace": 98304, "data": 0, "graph": 0,
    }  # fmt: skip
    assert told["total"] == sum(told["planned"].values())
    assert told["frees"][0] == {"knob": "batch", "change": "half as large", "bytes": 247296}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_sizes_are_read_by_people(count: int, text: str) -> None:
    assert sized(count) == text


def test_a_plan_of_a_schedule_from_the_library_has_its_versions() -> None:
    plan = planned("pipedream", "streams")
    weights = load("pipedream")
    assert weights.weights.backward == "same"
    assert [stage.exists["versions"] // stage.exists["parameters"] for stage in plan.stages] == [2, 1]
