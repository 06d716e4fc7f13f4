"""The recording runtime with two devices: what CUDA refuses between them, or would get wrong without a word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from asyncpipe.runtime.cuda.api import Graph
from asyncpipe.runtime.cuda.recording.cuda import RecordingCuda
from asyncpipe.runtime.cuda.recording.handles import RecordedStream
from asyncpipe.runtime.cuda.recording.violation import Kind, Violation


class Machine(RecordingCuda):
    """Streams `a` and `b` and a tensor on device 0; `far` and `landing` on device 1."""

    def __init__(self, seed: int | None = 0) -> None:
        super().__init__(devices=2, seed=seed)
        self.a, self.b, self.far, self.landing = (self.stream(device) for device in (0, 0, 1, 1))
        with self.on(self.a):
            self.x = torch.ones(4)

    def order(self, first: RecordedStream, second: RecordedStream) -> None:
        event = self.event()
        self.record(event, first)
        self.wait(second, event)

    def place(self) -> Tensor:
        with self.on(self.landing):
            return torch.zeros(4)

    def sent(self, stream: RecordedStream) -> Tensor:
        """A copy of x on device 1, sent on a stream."""
        place = self.place()
        self.transfer(place, self.x, stream, self.landing)
        return place


def touch_memory_of_another_device(m: Machine) -> None:
    m.order(m.a, m.far)
    with m.on(m.far):
        m.x + 1


def copy_between_devices_as_within_one(m: Machine) -> None:
    place = m.place()
    m.order(m.landing, m.a)
    with m.on(m.a):
        place.copy_(m.x)


def send_to_the_wrong_device(m: Machine) -> None:
    with m.on(m.b):
        place = torch.zeros(4)
    m.order(m.b, m.a)
    m.transfer(place, m.x, m.a, m.landing)


def claim_memory_for_another_device(m: Machine) -> None:
    m.require_on(1, [m.x])


def send_before_the_producer(m: Machine) -> None:
    m.sent(m.b)


def read_before_the_transfer(m: Machine) -> None:
    y = m.sent(m.a)
    with m.on(m.far):
        y + 1


def drop_before_the_reader_over_there(m: Machine) -> None:
    y = m.sent(m.a)
    m.order(m.landing, m.far)
    with m.on(m.far):
        y + 1
        del y
    m.order(m.a, m.b)  # what was dropped is told at the next call


def record_an_event_on_two_devices(m: Machine) -> None:
    event = m.event()
    m.record(event, m.a)
    m.record(event, m.far)


def send_in_a_capture(m: Machine) -> None:
    place = m.place()
    with m.capture(m.a):
        m.transfer(place, m.x, m.a, m.landing)


def pipeline(m: Machine, waits: bool = True) -> tuple[Graph, Graph, Callable[[], None], Tensor]:
    """(producer on device 0, consumer on device 1, the transfer between them, what the consumer makes)."""
    made, sent = m.event(external=True), m.event(external=True)
    with m.capture(m.a) as producer, m.on(m.a):
        m.x.add_(1)
        m.record(made, m.a)
    place = m.place()
    m.record(sent, m.b)
    with m.capture(m.far) as consumer:
        if waits:
            m.wait(m.far, sent)
        with m.on(m.far):
            y = place * 2

    def send() -> None:
        m.wait(m.b, made)
        m.transfer(place, m.x, m.b, m.landing)
        m.record(sent, m.b)

    return producer, consumer, send, y


def capture_a_wait_before_its_event_was_recorded(m: Machine) -> None:
    with m.capture(m.far):
        m.wait(m.far, m.event(external=True))


def launch_the_consumer_first(m: Machine) -> None:
    producer, consumer, send, y = pipeline(m)
    m.launch(consumer, m.far)
    m.launch(producer, m.a)
    send()
    del y


def launch_the_consumer_first_in_the_second_period(m: Machine) -> None:
    producer, consumer, send, y = pipeline(m)
    m.launch(producer, m.a)
    send()
    m.launch(consumer, m.far)
    m.launch(consumer, m.far)
    del y


def launch_a_consumer_that_does_not_wait(m: Machine) -> None:
    producer, consumer, send, y = pipeline(m, waits=False)
    m.launch(producer, m.a)
    send()
    m.launch(consumer, m.far)
    del y


def launch_the_producer_again_before_its_output_was_sent(m: Machine) -> None:
    producer, _, send, y = pipeline(m)
    m.launch(producer, m.a)
    send()
    m.launch(producer, m.a)
    del y


def send_again_before_the_consumer_has_read(m: Machine) -> None:
    producer, consumer, send, y = pipeline(m)
    m.launch(producer, m.a)
    send()
    m.launch(consumer, m.far)
    m.order(m.b, m.a)
    m.launch(producer, m.a)
    send()
    del y


def two_of_one_pool(m: Machine) -> tuple[Graph, Graph]:
    with m.capture(m.a) as first, m.on(m.a):
        m.x.add_(1)
    with m.capture(m.a, first) as second, m.on(m.a):
        m.x.mul_(2)
    return first, second


def launch_graphs_of_a_pool_in_another_order(m: Machine) -> None:
    _, second = two_of_one_pool(m)
    m.launch(second, m.a)


def launch_a_graph_of_an_earlier_round(m: Machine) -> None:
    first, second = two_of_one_pool(m)
    m.launch(first, m.a)
    m.launch(second, m.a)
    with m.capture(m.a, second), m.on(m.a):
        m.x.add_(1)
    m.launch(first, m.a)


def launch_graphs_of_a_pool_side_by_side(m: Machine) -> None:
    first, second = two_of_one_pool(m)
    m.launch(first, m.a)
    m.launch(second, m.b)


DEVICE_TRAPS: list[tuple[Callable[[Machine], None], Kind]] = [
    (touch_memory_of_another_device, Kind.OTHER_DEVICE),
    (copy_between_devices_as_within_one, Kind.OTHER_DEVICE),
    (send_to_the_wrong_device, Kind.OTHER_DEVICE),
    (claim_memory_for_another_device, Kind.OTHER_DEVICE),
    (send_before_the_producer, Kind.RACE),
    (read_before_the_transfer, Kind.RACE),
    (drop_before_the_reader_over_there, Kind.EARLY_REUSE),
    (record_an_event_on_two_devices, Kind.EVENT_DEVICE),
    (send_in_a_capture, Kind.ISOLATION),
    (capture_a_wait_before_its_event_was_recorded, Kind.NEVER_RECORDED),
    (launch_the_consumer_first, Kind.OLD_RECORD),
    (launch_the_consumer_first_in_the_second_period, Kind.OLD_RECORD),
    (launch_a_consumer_that_does_not_wait, Kind.RACE),
    (launch_the_producer_again_before_its_output_was_sent, Kind.RACE),
    (send_again_before_the_consumer_has_read, Kind.RACE),
    (launch_graphs_of_a_pool_in_another_order, Kind.POOL_ORDER),
    (launch_a_graph_of_an_earlier_round, Kind.POOL_ORDER),
    (launch_graphs_of_a_pool_side_by_side, Kind.POOL_ORDER),
]


@pytest.mark.parametrize(("trap", "kind"), DEVICE_TRAPS, ids=[trap.__name__ for trap, _ in DEVICE_TRAPS])
def test_each_trap_between_devices_is_caught(trap: Callable[[Machine], None], kind: Kind) -> None:
    m = Machine()
    with pytest.raises(Violation) as caught:
        trap(m)
    assert caught.value.kind is kind


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_a_producer_a_transfer_and_a_consumer_repeat_in_order(seed: int | None) -> None:
    m = Machine(seed)
    producer, consumer, send, y = pipeline(m)
    for launches in range(3):
        m.order(m.far, m.b)
        m.order(m.b, m.a)
        m.launch(producer, m.a)
        send()
        m.launch(consumer, m.far)
        assert y.tolist() == [2.0 * (launches + 2)] * 4


def test_streams_of_two_devices_wait_for_each_other() -> None:
    m = Machine()
    y = m.sent(m.a)
    m.order(m.landing, m.far)
    with m.on(m.far):
        z = y * 3
    m.order(m.far, m.landing)
    del y
    assert z.tolist() == [3.0] * 4
    assert (m.device_of(m.x), m.device_of(z)) == (0, 1)


def test_all_devices_reach_the_memory_of_the_host() -> None:
    m = Machine()
    host = m.host(torch.ones(4))
    for stream in (m.a, m.far):
        with m.on(stream):
            assert (host + 1).tolist() == [2.0] * 4


def test_graphs_of_one_pool_follow_one_another() -> None:
    m = Machine()
    first, second = two_of_one_pool(m)
    for _ in range(2):
        m.launch(first, m.a)
        m.launch(second, m.a)
    assert m.x.tolist() == [10.0] * 4


def test_later_captures_of_a_pool_are_a_round_of_their_own() -> None:
    m = Machine()
    first, second = two_of_one_pool(m)
    m.launch(first, m.a)
    m.launch(second, m.a)
    with m.capture(m.a, second) as third, m.on(m.a):
        m.x.add_(1)
    with m.capture(m.a, third) as fourth, m.on(m.a):
        m.x.mul_(10)
    for _ in range(2):
        m.launch(third, m.a)
        m.launch(fourth, m.a)
    assert m.x.tolist() == [(4 + 1) * 100 + 10.0] * 4


def test_a_tensor_of_one_graph_may_be_dropped_in_a_later_one_of_its_pool() -> None:
    m = Machine()
    with m.capture(m.a) as first, m.on(m.a):
        y = m.x * 2
    with m.capture(m.a, first) as second:
        m.order(m.a, m.b)
        with m.on(m.b):
            z = y + 1
        m.order(m.b, m.a)
        del y
    m.launch(first, m.a)
    m.launch(second, m.a)
    assert z.tolist() == [3.0] * 4


def a_drop_before_the_join(m: Machine) -> None:
    with m.capture(m.a) as first, m.on(m.a):
        y = m.x * 2
    with m.capture(m.a, first):
        m.order(m.a, m.b)
        with m.on(m.b):
            z = y + 1
        del y
        m.order(m.b, m.a)
    del z


def test_it_may_not_before_its_own_stream_waits_for_the_reader() -> None:
    with pytest.raises(Violation, match="memory is used again too early"):
        a_drop_before_the_join(Machine())


def test_a_wait_holds_back_only_what_comes_after_it_in_the_graph() -> None:
    """The other branch of the consumer does not wait for the transfer, and may not touch what it writes."""
    m = Machine()
    place, sent, other = m.place(), m.event(external=True), m.stream(1)
    m.record(sent, m.a)
    with m.capture(m.far) as consumer:
        m.order(m.far, other)
        m.wait(m.far, sent)
        with m.on(other):
            y = place + 1
        m.order(other, m.far)
    m.transfer(place, m.x, m.a, m.landing)
    m.record(sent, m.a)
    with pytest.raises(Violation, match="race"):
        m.launch(consumer, m.far)
    del y


def test_an_external_record_stands_for_what_was_before_it_in_the_graph() -> None:
    m = Machine()
    made = m.event(external=True)
    with m.capture(m.a) as producer, m.on(m.a):
        m.record(made, m.a)
        m.x.add_(1)
    m.launch(producer, m.a)
    m.wait(m.b, made)
    with pytest.raises(Violation, match="race: a transfer reads"):
        m.sent(m.b)
