"""Checks of the model's parts: how it can be cut, its parameters, and what its layers hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import nn

from asyncpipe.tools.fit.chain import Chain
from asyncpipe.tools.fit.examine import Examined
from asyncpipe.tools.fit.findings import Finding
from asyncpipe.tools.fit.stages import ranges_text
from asyncpipe.tools.fit.wording import bytes_text, counted, several

__all__ = ["CHECKS"]


def layers(found: Examined) -> Iterator[Finding]:
    """A model that is no nn.Sequential is one layer."""
    model = found.subject.model
    if type(model) is nn.Sequential:
        own = f"nn.Sequential of {counted(len(found.layers.named), 'layer')}"
        cut = f"{found.asked.schedule.name} has {counted(len(found.cut), 'stage')} of them, {ranges_text(found.cut)}"
        yield Finding("layers", "ok", f"{own}; {cut}")
        return
    name = type(model).__name__
    kind = "a subclass of nn.Sequential" if isinstance(model, nn.Sequential) else "no nn.Sequential"
    message = f"{name} is {kind}, and so one layer in one stage"
    yield Finding("layers", "warn", message, _advice(found.chain))


def _advice(chain: Chain | None) -> str:
    if chain is None or not chain.links:
        return "build it of modules in an nn.Sequential, which can be cut between any two"
    if chain.rewritten:
        return f"return {chain.rewritten}: it gives the same output here"
    cuts = [link.name for link in chain.links[:-1] if link.is_cut]
    glue = list(dict.fromkeys(f"{name} at {place.file}:{place.line}" for name, place in chain.glue if place.file))
    text = f"one tensor passes after {several(cuts)}: make what lies between these modules of an nn.Sequential"
    if not cuts:
        text = "several tensors pass between all children: let modules take and give tuples, in an nn.Sequential"
    return f"{text}; outside of children it computes {several(glue)}" if glue else text


def outputs(found: Examined) -> Iterator[Finding]:
    """Stages hand over tensors and tuples of tensors."""
    for number, kind in enumerate(found.forward.walk.passes[:-1]):
        if kind:
            name, module = found.layers.named[number]
            ends = any(part[-1] == number for part in found.cut[:-1])
            message = f"layer {number} ({name}) gives {_article(kind)}, which no stage can hand over"
            todo = "return a tensor or a tuple of tensors"
            todo += f", or cut elsewhere: {found.proposals[-1].asked_by}" if ends and found.proposals else ""
            place = found.forward.recorder.places.of(list(module.children())[-1])
            yield Finding("outputs", "fail" if ends else "ok", message, todo, (place,))
    if kind := found.forward.walk.passes[-1]:
        yield Finding("outputs", "ok", f"the model gives {_article(kind)}; the loss has to take it")


def _article(kind: str) -> str:
    return {"tuple": "a tuple with parts that are no tensors"}.get(kind, f"a {kind}")


def tied(found: Examined) -> Iterator[Finding]:
    """One parameter in several layers."""
    for places in found.layers.tied:
        names = list(places.values())
        shared = list(places)
        stages = sorted({found.stage_of(number) for number in shared})
        message = f"{names[0]} is tied between layers {', '.join(map(str, shared))}"
        if len(stages) == 1:
            yield Finding("tied", "ok", f"{message}, all in stage {stages[0]}")
            continue
        message = f"{message}, which are in stages {', '.join(map(str, stages))}: `run` refuses it"
        option = found.proposals[-1].asked_by if found.proposals else "--stages 1"
        todo = f"cut so that they share a stage ({option}), or untie them: give each a parameter of its own"
        yield Finding("tied", "fail", message, todo)


def parameters(found: Examined) -> Iterator[Finding]:
    """Counts; parameters that are frozen or get no gradient."""
    model = found.subject.model
    every = list(model.named_parameters())
    frozen = [name for name, parameter in every if not parameter.requires_grad]
    count = sum(parameter.numel() for _, parameter in every)
    size = sum(parameter.nbytes for _, parameter in every)
    types = sorted({str(parameter.dtype).removeprefix("torch.") for _, parameter in every})
    buffers = list(model.buffers())
    kept = f"{counted(len(buffers), 'buffer')} of {bytes_text(sum(buffer.nbytes for buffer in buffers))}"
    text = f"{count:,} in {counted(len(every), 'tensor')} of {' and '.join(types) or 'no type'}, {bytes_text(size)}"
    yield Finding("parameters", "ok", f"{text}; {kept}" if buffers else text)
    if frozen:
        yield Finding("parameters", "ok", f"{counted(len(frozen), 'tensor')} frozen ({several(frozen)})")
    if not count or len(frozen) == len(every):
        yield Finding("parameters", "fail", "nothing to train", "give the model parameters that require gradients")
    yield from _without_gradient(found)


def _without_gradient(found: Examined) -> Iterator[Finding]:
    step = found.step
    if step.unused:
        message = f"no gradient comes to {several(_names(found, step.unused))}"
        todo = "remove them, freeze them (requires_grad=False), or use them in the forward; updates pass them over"
        yield Finding("unused parameters", "warn", message, todo)
    if step.sparse:
        message = f"the gradient of {several(_names(found, step.sparse))} is sparse; optimizers need dense ones"
        yield Finding("parameters", "fail", message, "construct the embedding with sparse=False")


def _names(found: Examined, names: Sequence[str]) -> list[str]:
    """As the model has them: one that is no nn.Sequential is the only child of its stage."""
    whole = type(found.subject.model) is not nn.Sequential
    return [name.removeprefix("0.") if whole else name for name in names]


Check = Callable[[Examined], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (layers, parameters, tied, outputs)
