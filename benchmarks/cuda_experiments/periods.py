"""3. One graph of K microbatches on two forward, two backward and one update stream, against the serial result."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from measuring import Values, capture, seconds, spread, streams
from torch import Tensor
from traced import TracedBlock

EXPECTED = "with every race edge the parameters equal the serial ones bit for bit; without, the loss is within noise"
LAYERS, WIDTH, ROWS = 12, 1024, 256
LENGTHS = (1, 8, 32)
REPLAYS = 10
LR = 1e-2


@dataclass
class Lanes:
    """Streams by name, none on the serial back end. `kept`: tensors between streams, until the capture ends."""

    of: dict[str, torch.cuda.Stream] = field(default_factory=dict)
    kept: list[object] = field(default_factory=list)

    def on(self, name: str) -> AbstractContextManager[object]:
        return torch.cuda.stream(self.of[name]) if self.of else contextlib.nullcontext()

    def signal(self, name: str) -> torch.cuda.Event | None:
        return self.of[name].record_event() if self.of else None

    def wait(self, name: str, event: torch.cuda.Event | None) -> None:
        if event is not None:
            self.of[name].wait_event(event)


@dataclass
class Model:
    block: TracedBlock
    weights: list[list[Tensor]]
    inputs: Tensor
    targets: Tensor
    losses: Tensor


def new_model(device: str, layers: int, width: int, rows: int, length: int) -> Model:
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    weights = [[normal(width, width) / width**0.5 for _ in range(2)] for _ in range(layers)]
    inputs, targets = normal(length, rows, width), normal(length, rows, width)
    block = TracedBlock.trace(inputs[0], weights[0])
    return Model(block, weights, inputs, targets, torch.zeros(length, device=device))


def issue(model: Model, lanes: Lanes, strict: bool) -> None:
    """One period. strict: a layer's forward waits for the layer's last update; else it reads what there is."""
    updated: list[torch.cuda.Event | None] = [None] * len(model.weights)
    for m in range(len(model.inputs)):
        forward, backward = f"F{m % 2}", f"B{m % 2}"
        saved, gradient = _forward(model, lanes, forward, m, updated if strict else [])
        lanes.wait(backward, lanes.signal(forward))
        for layer in reversed(range(len(model.weights))):
            with lanes.on(backward):
                gradient, *changes = model.block.backward(saved[layer], gradient)
            lanes.kept += [gradient, changes]
            lanes.wait("U", lanes.signal(backward))
            with lanes.on("U"):
                torch._foreach_add_(model.weights[layer], changes, alpha=-LR)
            updated[layer] = lanes.signal("U")


def _forward(
    model: Model, lanes: Lanes, lane: str, m: int, updated: list[torch.cuda.Event | None]
) -> tuple[list[list[Tensor]], Tensor]:
    """What each layer saved, and the gradient of the loss."""
    saved: list[list[Tensor]] = []
    x = model.inputs[m]
    for layer, weights in enumerate(model.weights):
        if updated:
            lanes.wait(lane, updated[layer])
        with lanes.on(lane):
            x, kept = model.block.forward(x, weights)
        saved.append(kept)
    with lanes.on(lane):
        error = x - model.targets[m]
        model.losses[m].copy_(error.square().mean())
        gradient = error * (2 / error.numel())
    lanes.kept += [saved, x, error, gradient]
    return saved, gradient


def run() -> Values:
    return {f"K = {length}": _compare(length) for length in LENGTHS}


def _compare(length: int) -> Values:
    model = new_model("cuda", LAYERS, WIDTH, ROWS, length)
    first = [[w.clone() for w in weights] for weights in model.weights]

    def restore() -> None:
        for weights, start in zip(model.weights, first, strict=True):
            torch._foreach_copy_(weights, start)
        torch.cuda.synchronize()

    for _ in range(REPLAYS):
        _serial_issue(model)
    serial, serial_loss = [w.clone() for weights in model.weights for w in weights], float(model.losses.mean())
    restore()
    serial_graph = capture(functools.partial(_serial_issue, model))
    result: Values = {"serial_loss": serial_loss}
    works = {"one stream": serial_graph.replay}
    keep = []
    for name, strict in (("strict", True), ("hogwild", False)):
        restore()
        lanes = Lanes()
        graph = capture(functools.partial(_forked_issue, model, lanes, strict))
        restore()
        for _ in range(REPLAYS):
            graph.replay()
        torch.cuda.synchronize()
        found = [w for weights in model.weights for w in weights]
        result[name] = {
            "equal": all(torch.equal(a, b) for a, b in zip(found, serial, strict=True)),
            "largest_difference": max(float((a - b).abs().max()) for a, b in zip(found, serial, strict=True)),
            "loss": float(model.losses.mean()),
        }
        works[name] = graph.replay
        keep.append((graph, lanes))
    result["milliseconds"] = {name: spread([1e3 * t for t in ts]) for name, ts in seconds(works, 9).items()}
    return result


def _serial_issue(model: Model) -> None:
    issue(model, Lanes(), strict=True)


def _forked_issue(model: Model, lanes: Lanes, strict: bool) -> None:
    names = ("U", "B0", "B1", "F0", "F1")
    if not lanes.of:
        lanes.of.update(zip(names, streams(5, (-3, -2, -2, 0, 0)), strict=True))
    origin = torch.cuda.current_stream()
    for stream in lanes.of.values():
        stream.wait_stream(origin)
    issue(model, lanes, strict)
    for stream in lanes.of.values():
        origin.wait_stream(stream)
    if not torch.cuda.is_current_stream_capturing():
        # Eager tensors live until their streams are done; captured ones until the graph is dropped.
        torch.cuda.synchronize()
        lanes.kept.clear()
