"""The recording runtime refuses what CUDA refuses, and what it would get wrong without a word; it takes the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asyncpipe.runtime.cuda.api import MOST_STREAMS
from asyncpipe.runtime.cuda.recording.cuda import RecordedEvent, RecordedStream, RecordingCuda
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation
from tests.runtime.cuda.test_recording_devices import DEVICE_TRAPS


class Machine(RecordingCuda):
    """Two streams, and a tensor that was made on the first."""

    def __init__(self, seed: int | None = 0) -> None:
        super().__init__(seed=seed)
        self.a, self.b = self.stream(0), self.stream(0)
        with self.on(self.a):
            self.x = torch.ones(4)

    def recorded(self, stream: RecordedStream) -> RecordedEvent:
        event = self.event()
        self.record(event, stream)
        return event

    def order(self, first: RecordedStream, second: RecordedStream) -> None:
        self.wait(second, self.recorded(first))


def read_without_waiting(m: Machine) -> None:
    with m.on(m.b):
        m.x + 1


def write_without_waiting_for_readers(m: Machine) -> None:
    m.order(m.a, m.b)
    with m.on(m.b):
        kept = m.x + 1
    with m.on(m.a):
        m.x.zero_()
    del kept


def drop_before_the_reader_is_done(m: Machine) -> None:
    m.order(m.a, m.b)
    with m.on(m.b):
        m.x + 1
        del m.x


def drop_in_a_capture(m: Machine) -> None:
    with m.capture(m.a):
        with m.on(m.a):
            y = torch.zeros(4)
        m.order(m.a, m.b)
        with m.on(m.b):
            z = y + 1
        del y
        with m.on(m.a):
            w = torch.zeros(4)
        m.order(m.b, m.a)
    del z, w


def drop_what_a_graph_reads(m: Machine) -> None:
    with m.capture(m.a) as graph, m.on(m.a):
        y = m.x + 1
    del m.x
    m.launch(graph, m.a)
    del y


def wait_for_nothing(m: Machine) -> None:
    m.wait(m.b, m.event())


def wait_for_nothing_on_the_host(m: Machine) -> None:
    m.synchronize(m.event())


def wait_in_a_capture_for_before(m: Machine) -> None:
    before = m.recorded(m.b)
    with m.capture(m.a):
        m.wait(m.a, before)


def work_beside_a_capture(m: Machine) -> None:
    with m.capture(m.a), m.on(m.b):
        torch.zeros(4)


def leave_a_stream_unjoined(m: Machine) -> None:
    with m.capture(m.a):
        m.order(m.a, m.b)
        with m.on(m.b):
            torch.zeros(4)


def join_by_an_external_event(m: Machine) -> None:
    with m.capture(m.a):
        m.order(m.a, m.b)
        with m.on(m.b):
            torch.zeros(4)
        event = m.event(external=True)
        m.record(event, m.b)
        m.wait(m.a, event)


def launch_outside_streams(m: Machine) -> None:
    m.kernel("scale", lambda: None, [m.x], [m.x])


def synchronize_in_a_capture(m: Machine) -> None:
    before = m.recorded(m.a)
    with m.capture(m.a):
        m.synchronize(before)


def read_a_number_in_a_capture(m: Machine) -> None:
    with m.capture(m.a), m.on(m.a):
        m.x.sum().item()


def ask_for_a_shape_in_a_capture(m: Machine) -> None:
    with m.capture(m.a), m.on(m.a):
        m.x.nonzero()


def capture_twice(m: Machine) -> None:
    with m.capture(m.a), m.capture(m.b):
        pass


def launch_within_a_capture(m: Machine) -> None:
    with m.capture(m.a) as graph, m.on(m.a):
        torch.zeros(4)
    with m.capture(m.a):
        m.launch(graph, m.a)


def draw_from_an_unknown_generator(m: Machine) -> None:
    with m.capture(m.a), m.on(m.a):
        m.x + torch.rand(4, generator=torch.Generator())


def load_a_kernel_in_a_capture(m: Machine) -> None:
    with m.capture(m.a), m.on(m.a):
        m.kernel("scale", lambda: None, [m.x], [m.x])


def wait_outside_for_an_event_of_a_capture(m: Machine) -> None:
    with m.capture(m.a):
        event = m.recorded(m.a)
    m.wait(m.b, event)


def wait_on_the_host_for_an_event_of_a_capture(m: Machine) -> None:
    with m.capture(m.a):
        event = m.recorded(m.a)
    m.synchronize(event)


def launch_the_consumer_first(m: Machine) -> None:
    event = m.event(external=True)
    with m.capture(m.a) as producer, m.on(m.a):
        m.x.add_(1)
        m.record(event, m.a)
    with m.capture(m.b) as consumer:
        m.wait(m.b, event)
        with m.on(m.b):
            y = torch.zeros(4)
    m.launch(consumer, m.b)
    m.launch(producer, m.a)
    del y


def ask_for_one_stream_too_many(m: Machine) -> None:
    for _ in range(MOST_STREAMS):
        m.stream(0, priority=-1)
    m.stream(0, priority=-1)


def read_a_copy_that_is_under_way(m: Machine) -> None:
    host = m.pinned(m.x)
    with m.on(m.a):
        host.copy_(m.x, non_blocking=True)
    m.on_host(host)


TRAPS: list[tuple[Callable[[Machine], None], Kind]] = [
    (read_without_waiting, Kind.RACE),
    (write_without_waiting_for_readers, Kind.RACE),
    (drop_before_the_reader_is_done, Kind.EARLY_REUSE),
    (drop_in_a_capture, Kind.EARLY_REUSE),
    (drop_what_a_graph_reads, Kind.FREED),
    (wait_for_nothing, Kind.NEVER_RECORDED),
    (wait_for_nothing_on_the_host, Kind.NEVER_RECORDED),
    (wait_in_a_capture_for_before, Kind.ISOLATION),
    (work_beside_a_capture, Kind.ISOLATION),
    (leave_a_stream_unjoined, Kind.UNJOINED),
    (join_by_an_external_event, Kind.UNJOINED),
    (launch_outside_streams, Kind.DEFAULT_STREAM),
    (synchronize_in_a_capture, Kind.SYNCHRONIZED),
    (read_a_number_in_a_capture, Kind.SYNCHRONIZED),
    (ask_for_a_shape_in_a_capture, Kind.SYNCHRONIZED),
    (capture_twice, Kind.NESTED),
    (launch_within_a_capture, Kind.NESTED),
    (draw_from_an_unknown_generator, Kind.GENERATOR),
    (load_a_kernel_in_a_capture, Kind.FIRST_LAUNCH),
    (wait_outside_for_an_event_of_a_capture, Kind.CAPTURED_EVENT),
    (wait_on_the_host_for_an_event_of_a_capture, Kind.CAPTURED_EVENT),
    (launch_the_consumer_first, Kind.NEVER_RECORDED),
    (ask_for_one_stream_too_many, Kind.STREAM_POOL),
    (read_a_copy_that_is_under_way, Kind.STALE_HOST),
]


@pytest.mark.parametrize(("trap", "kind"), TRAPS, ids=[trap.__name__ for trap, _ in TRAPS])
def test_each_trap_is_caught(trap: Callable[[Machine], None], kind: Kind) -> None:
    with pytest.raises(Violation) as caught:
        trap(Machine())
    assert caught.value.kind is kind


def test_a_registered_generator_and_those_of_torch_go_on_from_launch_to_launch() -> None:
    m, own = Machine(), torch.Generator()
    m.register_generator(own)
    with m.on(m.a):
        found = torch.zeros(2, 4)
    with m.capture(m.a) as graph, m.on(m.a):
        found[0].copy_(torch.rand(4, generator=own))
        found[1].copy_(torch.rand(4))
    m.launch(graph, m.a)
    first = found.clone()
    m.launch(graph, m.a)
    assert not (first == found).any()


def test_every_kind_of_violation_has_a_trap() -> None:
    assert {kind for _, kind in TRAPS} | {kind for _, kind in DEVICE_TRAPS} == set(Kind)


def test_a_race_names_both_calls() -> None:
    with pytest.raises(Violation, match=r"aten\.add\.Tensor reads .* which does not wait for aten\.ones \(call 1 of"):
        read_without_waiting(Machine())


def test_ordered_work_on_two_streams_is_no_race() -> None:
    m = Machine()
    m.order(m.a, m.b)
    with m.on(m.b):
        y = m.x * 2
    m.order(m.b, m.a)
    with m.on(m.a):
        m.x.zero_()
        z = y + m.x
    assert z.tolist() == [2.0] * 4


def test_order_is_transitive() -> None:
    m = Machine()
    c = m.stream(0)
    m.order(m.a, m.b)
    m.order(m.b, c)
    with m.on(c):
        y = m.x + 1
    assert y.tolist() == [2.0] * 4


def test_shared_memory_and_equal_labels_may_race() -> None:
    m = Machine()
    m.share([m.x], "the weights")
    for stream in (m.a, m.b):
        with m.on(stream):
            m.x.add_(1)
    with m.on(m.a):
        y = torch.zeros(4)
    m.order(m.a, m.b)
    for stream in (m.a, m.b):
        with m.on(stream), m.unordered("updates of stage 0"):
            y.add_(1)
    assert y.tolist() == [2.0] * 4


def captured_sum(m: Machine) -> tuple[Tensor, Tensor]:
    """(a sum that grows with every launch, the last addend); launched three times."""
    with m.on(m.a):
        total = torch.zeros(4)
    with m.capture(m.a) as graph:
        m.order(m.a, m.b)
        with m.on(m.b):
            addend = m.x * 3
        with m.on(m.a):
            other = m.x + 1
        m.order(m.b, m.a)
        with m.on(m.a):
            total.add_(addend + other)
    assert total.tolist() == [0.0] * 4
    assert addend.isnan().all()
    assert graph.nodes == 4
    for _ in range(3):
        m.launch(graph, m.a)
    return total, addend


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_a_capture_runs_nothing_and_each_launch_everything(seed: int | None) -> None:
    total, addend = captured_sum(Machine(seed))
    assert total.tolist() == [15.0] * 4
    assert addend.tolist() == [3.0] * 4


def test_unordered_nodes_run_in_both_orders() -> None:
    found = set()
    for seed in range(8):
        m = Machine(seed)
        m.share([m.x], "the weights")
        with m.capture(m.a) as graph:
            m.order(m.a, m.b)
            with m.on(m.a):
                m.x.mul_(2)
            with m.on(m.b):
                m.x.add_(1)
            m.order(m.b, m.a)
        m.launch(graph, m.a)
        found.add(m.x[0].item())
    assert found == {3.0, 4.0}


def test_external_events_order_two_graphs() -> None:
    m = Machine()
    event = m.event(external=True)
    with m.capture(m.a) as producer, m.on(m.a):
        m.x.add_(1)
        m.record(event, m.a)
    with m.capture(m.b) as consumer:
        m.wait(m.b, event)
        with m.on(m.b):
            y = m.x * 1
    m.launch(producer, m.a)
    m.launch(consumer, m.b)
    assert y.tolist() == [2.0] * 4


def test_a_kernel_is_a_node_with_what_it_touches() -> None:
    m = Machine()
    m.order(m.a, m.b)
    with m.on(m.b):
        m.kernel("double", lambda: None, [m.x], [m.x])
    with pytest.raises(Violation, match="race"), m.on(m.a):
        m.x + 1


def test_reading_a_number_outside_a_capture_is_told() -> None:
    m = Machine()
    with m.on(m.a):
        assert m.x.sum().item() == 4
    assert m.calls == ["host reads by aten._local_scalar_dense on 0"]
