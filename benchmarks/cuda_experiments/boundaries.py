"""6. What the end of a period costs: one graph replayed, against two in turns that wait for each other's lanes."""

from __future__ import annotations

import functools

import torch
from measuring import Values, Work, capture, forked, seconds, spread, streams

EXPECTED = "one: head + tail + 5-30 us; two in turns: nearly the longer of head and tail, plus a launch"
CYCLES = 400_000
"""Of the head and of the tail of a period each, some 200 us."""
PERIODS = 20


def run() -> Values:
    """Microseconds of a period. The tail follows the head; the next head needs only this head, its tail this tail."""
    single = streams(2)
    one = capture(functools.partial(_period, single))
    inside = capture(functools.partial(_many, streams(2)))
    in_turns = _in_turns()
    works: dict[str, Work] = {
        "head alone": capture(lambda: torch.cuda._sleep(CYCLES)).replay,
        "one graph": functools.partial(_back_to_back, one),
        "two graphs in turns": in_turns,
        "all periods in one graph": inside.replay,
    }
    taken = seconds(works, rounds=9)
    counts = {name: 1 if name == "head alone" else PERIODS for name in works}
    per = {name: spread([1e6 * t / counts[name] for t in values]) for name, values in taken.items()}
    boundary = per["one graph"]["median"] - 2 * per["head alone"]["median"]
    return {"microseconds_per_period": per, "boundary_of_one_graph_us": boundary}


def _period(lanes: list[torch.cuda.Stream]) -> None:
    with forked(lanes):
        with torch.cuda.stream(lanes[0]):
            torch.cuda._sleep(CYCLES)
        lanes[1].wait_event(lanes[0].record_event())
        with torch.cuda.stream(lanes[1]):
            torch.cuda._sleep(CYCLES)


def _back_to_back(graph: torch.cuda.CUDAGraph) -> None:
    for _ in range(PERIODS):
        graph.replay()


def _many(lanes: list[torch.cuda.Stream]) -> None:
    """No barrier between the periods: what a longer graph would give."""
    with forked(lanes):
        for _ in range(PERIODS):
            with torch.cuda.stream(lanes[0]):
                torch.cuda._sleep(CYCLES)
            lanes[1].wait_event(lanes[0].record_event())
            with torch.cuda.stream(lanes[1]):
                torch.cuda._sleep(CYCLES)


def _in_turns() -> functools.partial[None]:
    """Two graphs on streams of their own; external events for head and tail, waited for by the other."""
    launch, tails = streams(2), streams(2)
    heads_done = [torch.cuda.Event(external=True) for _ in range(2)]
    tails_done = [torch.cuda.Event(external=True) for _ in range(2)]
    graphs = []
    for own in range(2):
        other = 1 - own
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=launch[own], capture_error_mode="thread_local"):
            heads_done[other].wait()
            torch.cuda._sleep(CYCLES)
            heads_done[own].record()
            with forked([tails[own]]), torch.cuda.stream(tails[own]):
                tails_done[other].wait()
                torch.cuda._sleep(CYCLES)
                tails_done[own].record()
        graphs.append(graph)
    return functools.partial(_alternate, graphs, launch)


def _alternate(graphs: list[torch.cuda.CUDAGraph], launch: list[torch.cuda.Stream]) -> None:
    """The producer is always launched first: a wait holds for what has been recorded when it is launched."""
    with forked(launch):
        for period in range(PERIODS):
            with torch.cuda.stream(launch[period % 2]):
                graphs[period % 2].replay()
