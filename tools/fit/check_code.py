"""Checks of what the forward does: writes in place, derived weights, values read by the host, state, random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from torch import nn

from asyncpipe.ir import Op
from asyncpipe.tools.fit.examine import Examined
from asyncpipe.tools.fit.findings import Finding, Severity
from asyncpipe.tools.fit.places import Place
from asyncpipe.tools.fit.record import Key, Operation
from asyncpipe.tools.fit.wording import bytes_text, counted, several

__all__ = ["CHECKS"]


def in_place(found: Examined) -> Iterator[Finding]:
    """Writes into a layer's input, into parameters, and into what a backward still needs."""
    operations = found.forward.recorder.operations
    inputs = [o for o in operations if not o.overwrites.isdisjoint(found.forward.walk.inputs[o.layer])]
    yield from _of_inputs(found, inputs)
    parameters = found.forward.parameters
    yield from _of_parameters(found, [o for o in operations if not o.overwrites.isdisjoint(parameters)])
    yield from _of_saved(found, operations)


def _of_inputs(found: Examined, operations: list[Operation]) -> Iterator[Finding]:
    for layer, of_layer in groupby(operations, key=lambda operation: operation.layer):
        places = _places(of_layer)
        name, stage = found.layers.named[layer][0], found.stage_of(layer)
        if found.cut[stage][0] != layer:
            message = f"layer {layer} ({name}) writes into its input, inside stage {stage}"
            yield Finding("in-place", "ok", message, "as the first of a stage it would cost a copy", places)
            continue
        size = bytes_text(sum(found.forward.recorder.bytes[key] for key in found.forward.walk.inputs[layer]))
        message = f"layer {layer} ({name}) writes into its input, at the beginning of stage {stage}"
        copied = f"serial and threads copy the input first, {size} for each microbatch"
        todo = f"{copied}; write out of place (inplace=False, x + 1 instead of x.add_(1)) to save that"
        yield Finding("in-place", "ok" if found.asked.is_cuda else "warn", message, todo, places)


def _of_parameters(found: Examined, operations: list[Operation]) -> Iterator[Finding]:
    if not operations:
        return
    lost = found.asked.is_cuda or not found.aliases_live
    reason = "what a forward writes is lost: traces, and copies for each slot, take parameters as inputs"
    race = "updates of other microbatches may come in between, and one of both is lost"
    yield Finding(
        "in-place",
        "fail" if lost else "warn",
        f"the forward writes into parameters; {reason if lost else race}",
        "compute what the layer uses from the parameter (x = weight.clamp(-1, 1)), or do it in the optimizer",
        _places(operations),
    )


def _of_saved(found: Examined, operations: Sequence[Operation]) -> Iterator[Finding]:
    stale = found.forward.changes.overwritten
    late = [operation for one in stale for operation in operations[one.number :] if one.key in operation.overwrites]
    if stale:
        message = "a tensor that the backward needs is overwritten before it; autograd refuses such a backward"
        yield Finding("in-place", "fail", message, "write out of place there", _places(late))


def derived_weights(found: Examined) -> Iterator[Finding]:
    """Values computed from parameters alone that a backward takes from its forward."""
    derived = _derived(found)
    saved = {one.key for one in found.forward.recorder.saved}
    makers = [made for key, made in derived.items() if key in saved and made.place.kind not in _RECURRENT]
    for name, of_kind in groupby(sorted(makers, key=_kind), key=_kind):
        places = _places(of_kind)
        message = f"weights derived from parameters by {name} stay as the forward made them until its backward"
        if not found.reads_live_weights:
            yield Finding("derived weights", "ok", f"{message}, as all weights do here", "", places)
            continue
        todo = "the gradient is then that of weights partly old and partly new; `weights: {backward: same}` is exact"
        yield Finding("derived weights", "warn", message, todo, places)


def _derived(found: Examined) -> dict[Key, Operation]:
    """What was made of parameters, buffers and constants, with at least one parameter, by its maker."""
    parameters, constants = set(found.forward.parameters), set(found.forward.buffers)
    made: dict[Key, Operation] = {}
    for operation in found.forward.recorder.operations:
        sources = operation.reads
        if sources <= parameters | constants | made.keys() and not operation.draws:
            if sources.isdisjoint(parameters | made.keys()):
                constants |= operation.makes
            else:
                made |= dict.fromkeys(operation.makes, operation)
    return made


def _kind(operation: Operation) -> str:
    return _KINDS.get(operation.name, operation.name)


_RECURRENT = ("RNN", "GRU", "LSTM")
"""Their first state follows from parameters alone, as any activation does from parameters and data."""
_KINDS = {
    "_weight_norm_interface": "weight norm",
    "_to_copy": "a cast to another type (autocast)",
}


def values_read(found: Examined) -> Iterator[Finding]:
    """Where what the model computes depends on values, which the host has to wait for."""
    operations = [operation for operation in found.forward.recorder.operations if operation.reads_values]
    for name, same in groupby(sorted(operations, key=lambda o: o.name), key=lambda o: o.name):
        what = _READS.get(name, f"{name} gives a shape that depends on values")
        yield Finding(
            "control flow",
            "fail" if found.asked.is_cuda else "warn",
            f"{what}; streams and graph cannot run it",
            "compute with tensor operations only (torch.where for a choice, masks instead of selections)",
            _places(same),
        )


_READS = {
    "_local_scalar_dense": "the host reads a value (.item(), float(), `if` on a tensor)",
    "nonzero": "the shape of nonzero depends on values",
    "index": "a mask selects elements, so that the shape depends on values",
    "masked_select": "a mask selects elements, so that the shape depends on values",
    "equal": "the host compares tensors",
}


def kept_state(found: Examined) -> Iterator[Finding]:
    """What a module remembers besides parameters and buffers."""
    kept = found.forward.changes.state
    if kept:
        names = several(list(dict.fromkeys(name for _, name in kept)))
        yield Finding(
            "state",
            "fail" if found.asked.is_cuda else "warn",
            f"forwards change attributes ({names}); each microbatch in flight has modules, and so attributes, of its"
            " own, and a traced stage runs this code once for all",
            "register what is to be remembered as a buffer, which all share, or compute it anew",
            tuple(dict.fromkeys(place for place, _ in kept)),
        )
    if found.forward.changes.generators:
        generators = " and ".join(found.forward.changes.generators)
        todo = "draw with torch on the device of the model, as nn.Dropout does"
        severity: Severity = "fail" if found.asked.is_cuda else "warn"
        message = f"the forward draws numbers from {generators}; no recompute, replay or trace repeats or redraws them"
        yield Finding("state", severity, message, todo)


def batch_norm(found: Examined) -> Iterator[Finding]:
    """Buffers that a forward changes."""
    changed = found.forward.changes.buffers
    norms = [name for name, module in found.subject.model.named_modules() if isinstance(module, _BATCH_NORMS)]
    if norms and changed:
        yield Finding(
            "batch norm",
            "ok",
            f"{counted(len(norms), 'batch norm')} ({several(norms)}): statistics are those of one microbatch of"
            f" {found.subject.batch}; microbatches in flight share the running ones, in the order of their forwards",
        )
    others = [name for name in changed if not any(name.startswith(f"{norm}.") for norm in norms)]
    if others:
        message = f"the forward changes {counted(len(others), 'buffer')} ({several(others)}), which microbatches share"
        yield Finding("buffers", "ok", f"{message}; a recompute finds them as its forward did")


_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


def random_numbers(found: Examined) -> Iterator[Finding]:
    drawn = [operation for operation in found.forward.recorder.operations if operation.draws]
    if not drawn:
        return
    places = _places(drawn)
    inverted = found.program.recomputed if found.program.recompute == "invert" else ()
    if any(found.stage_of(operation.layer) in inverted for operation in drawn):
        todo = "remove dropout from reversible stages, or use `recompute: full`"
        yield Finding("random numbers", "fail", "stages that are inverted draw random numbers", todo, places)
    else:
        message = f"drawn in {counted(len(drawn), 'operation')}; a recompute repeats those of its forward"
        yield Finding("random numbers", "ok", message, "", places)


def recurrent(found: Examined) -> Iterator[Finding]:
    """Recurrent layers are one operation each."""
    for number, (_, layer) in enumerate(found.layers.named):
        parts = [part for part in layer.modules() if isinstance(part, nn.RNNBase)]
        if not parts:
            continue
        places = tuple(found.forward.recorder.places.of(part) for part in parts)
        splits = Op.I in found.asked.schedule.ops
        message = f"layer {number} is recurrent: one operation, whose backward traces cannot split into I and W"
        if splits and found.asked.is_cuda:
            yield Finding("recurrent", "fail", message, "use a schedule with whole backwards (B)", places)
        else:
            todo = "threads splits it by autograd; on streams and graph use a schedule with whole backwards (B)"
            yield Finding("recurrent", "warn" if splits else "ok", message, todo if splits else "", places)


def _places(operations: Iterable[Operation]) -> tuple[Place, ...]:
    return tuple(place for place in dict.fromkeys(operation.place for operation in operations) if str(place))


Check = Callable[[Examined], Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    in_place,
    derived_weights,
    values_read,
    kept_state,
    batch_norm,
    random_numbers,
    recurrent,
)
