"""7. An external event between two graphs, launched in the right order and in the wrong one."""

from __future__ import annotations

import torch
from measuring import Values, streams

EXPECTED = "producer launched first: always fresh; consumer launched first: the value of the round before, and no error"
ROUNDS = 100
CYCLES = 100_000


def run() -> Values:
    return {"producer first": _stale(("producer", "consumer")), "consumer first": _stale(("consumer", "producer"))}


def _stale(order: tuple[str, str]) -> Values:
    """Rounds in which the consumer read an old value, and how old at most."""
    made, seen = torch.zeros(1, device="cuda"), torch.zeros(1, device="cuda")
    lanes = dict(zip(("producer", "consumer"), streams(2), strict=True))
    done = torch.cuda.Event(external=True)
    graphs = {name: torch.cuda.CUDAGraph() for name in lanes}
    made.add_(1)
    seen.copy_(made)
    torch.cuda._sleep(1)
    torch.cuda.synchronize()
    with torch.cuda.graph(graphs["producer"], stream=lanes["producer"], capture_error_mode="thread_local"):
        torch.cuda._sleep(CYCLES)
        made.add_(1)
        done.record()
    with torch.cuda.graph(graphs["consumer"], stream=lanes["consumer"], capture_error_mode="thread_local"):
        done.wait()
        seen.copy_(made)
    made.zero_()
    seen.zero_()
    torch.cuda.synchronize()
    ages = []
    for number in range(1, ROUNDS + 1):
        for name in order:
            with torch.cuda.stream(lanes[name]):
                graphs[name].replay()
        torch.cuda.synchronize()
        ages.append(number - int(seen.item()))
    return {"rounds": ROUNDS, "stale": sum(age > 0 for age in ages), "oldest": max(ages)}
