"""One forward of all layers, recorded; then one step of training, by the stage functions that `threads` uses."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from asyncpipe.errors import UserCodeError, UserError
from asyncpipe.runtime.losses import require_scalar
from asyncpipe.runtime.stage import Loss, Stage, StageOptions
from asyncpipe.runtime.stage_functions import tensors_of
from asyncpipe.tools.fit.layers import Layer
from asyncpipe.tools.fit.places import Place, Places
from asyncpipe.tools.fit.record import Key, Recorder, Saved, key_of, tensors_in

__all__ = ["Forward", "Step", "record_forward", "refused_copy", "take_step", "unchanged"]


@dataclass
class Walk:
    """A value on its way through the layers; lists have one element for each.

    given: what a layer got. inputs: the storages of that, copies. originals: what each of these is a copy of. passes:
    empty where the output may go to another stage, else what it is.
    """

    output: Any
    given: list[Any] = field(default_factory=list)
    inputs: list[frozenset[Key]] = field(default_factory=list)
    originals: dict[Key, Key] = field(default_factory=dict)
    passes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Changes:
    """What a forward left changed. overwritten: tensors that autograd kept and would refuse. buffers: by name. state:
    attributes of modules that are neither parameters nor buffers. generators: those besides torch's, drawn from.
    """

    overwritten: Sequence[Saved]
    buffers: Sequence[str]
    state: Sequence[tuple[Place, str]]
    generators: Sequence[str]


@dataclass(frozen=True)
class Forward:
    """A recorded forward. parameters, buffers: their storages then."""

    recorder: Recorder
    parameters: frozenset[Key]
    buffers: frozenset[Key]
    walk: Walk
    changes: Changes


def record_forward(
    model: nn.Module, layers: Sequence[Layer], sample: Tensor, loss: Loss, target_of: Callable[[Any], Any]
) -> Forward:
    """In training mode, each layer on a leaf as in a stage of its own, and the loss of what the last one gives, which
    counts as part of that; UserCodeError where either raises."""
    recorder = Recorder(Places(model))
    parameters, buffers = recorder.see(model.parameters()), recorder.see(model.buffers())
    before = _Before(_attributes(model), _buffers(model), _outside())
    walk = Walk(sample)
    for number, (name, layer) in enumerate(layers):
        recorder.layer = number
        _pass_on(recorder, walk, name, layer)
    target = target_of(walk.output)
    recorder.see(tensors_in((walk.output, target)))
    with recorder.watching(), _blaming("the loss", walk.output, _hint_of_loss(walk.output)):
        loss(walk.output, target)
    return Forward(recorder, parameters, buffers, walk, before.changes(model, recorder))


def _pass_on(recorder: Recorder, walk: Walk, name: str, layer: nn.Module) -> None:
    value = walk.output
    given = _leaves(value, recorder.layer > 0)
    walk.given.append(value)
    walk.inputs.append(recorder.see(tensors_in(given)))
    recorder.see(tensors_in(value))
    pairs = zip(tensors_in(given), tensors_in(value), strict=True)
    walk.originals |= {key_of(copied): key_of(original) for copied, original in pairs}
    with recorder.watching(), _blaming(f"layer {name}", value):
        walk.output = layer(given)
    walk.passes.append(_kind_unless_tensors(walk.output))


@dataclass(frozen=True)
class _Before:
    attributes: Mapping[tuple[int, str], object]
    buffers: Mapping[str, Tensor]
    generators: Mapping[str, object]

    def changes(self, model: nn.Module, recorder: Recorder) -> Changes:
        buffers, generators = dict(model.named_buffers()), _outside()
        return Changes(
            overwritten=[one for one in recorder.saved if one.is_overwritten],
            buffers=[name for name, old in self.buffers.items() if not _same(old, buffers.get(name))],
            state=[(recorder.places.of(owner), name) for owner, name in _changed(self.attributes, model)],
            generators=[name for name, old in self.generators.items() if old != generators[name]],
        )


_HINT = "check --input and --dtype, or the data of the job, against what the model takes"


def _hint_of_loss(output: Any) -> str:
    """A loss of the library takes one tensor."""
    if isinstance(output, Tensor):
        return _HINT
    return f"the model gives a {type(output).__name__}: return a tensor, or name a loss of your own that takes it"


@contextmanager
def _blaming(name: str, value: Any, hint: str = _HINT) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{tuple(tensor.shape)} of {tensor.dtype}" for tensor in tensors_in(value))
        raise UserCodeError(
            f"{name} raised {type(error).__name__} on {shapes or 'no tensor'}: {error}", hint
        ) from error


def _leaves(value: Any, wants_gradient: bool) -> Any:
    """A copy, since a layer may write into what it is given; cut off from the layers before where that is possible."""
    if isinstance(value, Tensor):
        leaf = value.detach().requires_grad_(wants_gradient and (value.is_floating_point() or value.is_complex()))
        return leaf.clone()
    return tuple(_leaves(part, wants_gradient) for part in value) if type(value) is tuple else value


def _kind_unless_tensors(value: Any) -> str:
    """Empty for what stages can hand over."""
    try:
        tensors_of(value)
    except UserCodeError:
        return type(value).__name__
    return ""


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _same(old: Tensor, new: Tensor | None) -> bool:
    return new is not None and old.shape == new.shape and bool(torch.equal(old, new))


_TORCHS_OWN = ("_parameters", "_buffers", "_modules", "training")


def _attributes(model: nn.Module) -> dict[tuple[int, str], object]:
    """What tells that an attribute is another, or holds more, than before."""
    return {
        (id(owner), name): _mark(value)
        for owner in model.modules()
        for name, value in vars(owner).items()
        if name not in _TORCHS_OWN
    }


def _mark(value: object) -> object:
    if isinstance(value, bool | int | float | str | None):
        return (type(value), value)
    return (id(value), len(value)) if isinstance(value, list | dict | set) else id(value)


def _changed(before: Mapping[tuple[int, str], object], model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    after = _attributes(model)
    for owner in model.modules():
        for name in vars(owner):
            if (id(owner), name) in after and before.get((id(owner), name)) != after[id(owner), name]:
                yield owner, name


def _outside() -> dict[str, object]:
    name, keys, *position = numpy.random.get_state()
    return {"random": random.getstate(), "numpy.random": (name, bytes(keys), *position)}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Step:
    """loss: of the microbatch. unused: parameters that got no gradient. not_finite: those whose gradient has an
    infinite or undefined element. sparse: those with a sparse one. refusal: why there was no step at all. raised: by
    the user's code, in the middle of it."""

    loss: float | None = None
    unused: Sequence[str] = ()
    not_finite: Sequence[str] = ()
    sparse: Sequence[str] = ()
    refusal: UserError | None = None
    raised: UserCodeError | None = None


@dataclass
class _Gradients:
    unused: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    sparse: list[str] = field(default_factory=list)

    def add(self, name: str, gradient: Tensor | None) -> None:
        if gradient is None:
            self.unused.append(name)
        elif gradient.layout != torch.strided:
            self.sparse.append(name)
        elif not bool(torch.isfinite(gradient).all()):
            self.not_finite.append(name)


def take_step(
    modules: Sequence[nn.Module], loss: Loss, sample: Tensor, target: Any, autocast: torch.dtype | None
) -> Step:
    """Forward and backward of stages of these modules; the weights stay as they are."""
    try:
        stages = _stages(modules, loss, StageOptions(autocast=autocast))
    except UserError as error:
        return Step(refusal=error)
    try:
        value: Any = sample
        for stage in stages:
            value = stage.forward(0, value, target)
        found, gradients = _Gradients(), None
        for stage in reversed(stages):
            gradients, own = stage.backward(0, gradients)
            for name, trainable, gradient in zip(stage.arena.names, stage.trainable, own, strict=True):
                if trainable:
                    found.add(name, gradient)
        return Step(float(require_scalar(value).detach()), found.unused, found.not_finite, found.sparse)
    except UserError as error:
        return Step(refusal=error)
    except Exception as error:
        # Of autograd's message about writes in place the first part: the rest says what `in-place` says with its line.
        reason = str(error).partition("\n")[0].partition(", which is output")[0]
        wrapped = UserCodeError(f"one step of training raised {type(error).__name__}: {reason}")
        wrapped.__cause__ = error
        return Step(raised=wrapped)


def _stages(modules: Sequence[nn.Module], loss: Loss, options: StageOptions) -> list[Stage]:
    last = len(modules) - 1
    return [Stage(n, module, 1, False, loss if n == last else None, options) for n, module in enumerate(modules)]


def refused_copy(model: nn.Module) -> UserCodeError | None:
    """Why the model cannot be copied as it came: each microbatch in flight needs a copy of the modules."""
    try:
        copy.deepcopy(model)
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(", see")[0]
        return UserCodeError(
            f"the model cannot be copied, and each microbatch in flight needs a copy of its modules: {reason}",
            "keep no computed tensor as an attribute; of torch.nn.utils.weight_norm take the successor,"
            " torch.nn.utils.parametrizations.weight_norm",
        )
    return None


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Leaves buffers, modes and generators as they were, which within begin at seed 0; attributes that the model sets
    itself stay."""
    modes = [(module, module.training) for module in model.modules()]
    places = [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    values = {id(buffer): buffer.clone() for _, _, buffer in places if buffer is not None}
    python, arrays = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            numpy.random.seed(0)
            yield
    finally:
        random.setstate(python)
        numpy.random.set_state(arrays)
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for module, name, buffer in places:
                if buffer is not None:
                    buffer.copy_(values[id(buffer)])
                module._buffers[name] = buffer
