"""What a captured period cost is counted, and told in the summary."""

from __future__ import annotations

import pytest

from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from tests.runtime.cuda.recorded import network, pairs, recorded

pytestmark = pytest.mark.usefixtures("traced_once", "constant_rate")


def test_nodes_seconds_and_bytes_of_a_capture_are_counted() -> None:
    cuda = RecordingCuda(seed=None)
    trainer, platform = recorded(network(), "async-lu", "graph", cuda, period=4)
    assert (platform.facts["graph"], platform.facts["memory_plan"]) == (None, None)
    before = cuda.memory(0).free
    trainer.fit(pairs(26))
    graph = platform.facts["graph"]
    assert graph["graphs"] == 1
    assert graph["period"] == 6
    assert graph["nodes"] == len(platform._graphs.period.graphs[0].nodes_run)  # type: ignore[union-attr]
    assert 0 < graph["capture_s"] < 60
    assert 0 < graph["pool_bytes"] < before


def test_streams_have_a_plan_of_memory_and_no_graph() -> None:
    trainer, platform = recorded(network(), "1f1b", "streams", RecordingCuda())
    trainer.fit(pairs(8))
    assert platform.facts["graph"] is None
    assert platform.facts["memory_plan"]["devices"][0]["device"] == 0
