"""The stage functions of the CUDA back ends: plain graphs under no_grad, on the current stream of the caller.

Each stage is traced once into a joint graph of its forward and its gradients. The autograd engine, which would run
backwards on the stream of their forwards, has no part in a run: no graph, no version counters, no reads by the host.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asyncpipe.errors import UsageError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.autocast import autocasting
from asyncpipe.runtime.recompute import input_from_output, second_forward
from asyncpipe.runtime.stage import Loss, StageOptions
from asyncpipe.runtime.stage_functions import Gradients, tensors_of
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.divide import Backward, Division, Forward
from asyncpipe.runtime.traced.lessons import TracedLessons
from asyncpipe.runtime.traced.seeds import in_strides, other_strides
from asyncpipe.runtime.traced.slot import Slot
from asyncpipe.runtime.traced.stage_code import share_buffers, stage_code
from asyncpipe.runtime.traced.torch_tracing import without_autocast
from asyncpipe.runtime.traced.traces import Traces

__all__ = ["TracedStage"]

Value = Any  # a tensor, or a tuple of tensors


class TracedStage:
    """Parameters, buffers and slots of one stage: the second of the StageFunctions.

    `own_weights`: each slot keeps a copy of what its forward read. Without it forwards and backwards read the arenas
    that they are given, default the live one, and nothing is copied. The modes of the modules (train, eval) are those
    at construction. traces: those of the same stage of another replica.
    """

    def __init__(
        self,
        number: int,
        module: nn.Module,
        slots: int,
        own_weights: bool,
        loss: Loss | None,
        options: StageOptions | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.number = number
        self.module = module
        self.loss = loss
        self.options = options or StageOptions()
        self.arena = Arena.of(module.named_parameters(remove_duplicate=False))
        self.trainable = self.arena.trainable
        self._slots = [Slot(self.arena.like() if own_weights else None) for _ in range(slots)]
        self._copy = copy.deepcopy(module)
        share_buffers(module, self._copy)
        self.arena.alias(module.named_parameters(remove_duplicate=False))
        self._buffers = list(module.buffers())
        code = stage_code(self._copy, loss, self.arena, self._buffers, self.options.autocast)
        if traces is None:
            wants = number > 0 and self.options.input_gradient
            traces = Traces(number, code, self.arena, self._buffers, wants, self.options.compiled)
        self.traces = traces
        self._whole = _recurrent_part(module)
        if self._whole is not None and self.options.compiled:
            raise UsageError(
                f"compile: inductor: stage {number}, module {self._whole}: a recurrent layer is one operation, and how"
                " much memory it gives back only its library knows",
                "leave `compile` out",
            )
        predictor = self.options.predictor
        self._lessons = None if predictor is None else TracedLessons(number, predictor)

    def forward(self, slot: int, value: Value, target: Value = None, weights: Arena | None = None) -> Value:
        """The stage's output for the value of the stage before; of the last stage, the loss (a scalar).

        `weights`: what to read, default the live ones; a slot with weights of its own copies them first.
        """
        own = self._slots[slot]
        call = Call.of(value if self.options.take is None else self.options.take(value), target)
        division = self.traces.of(call)
        own.begin(call, division, self._weights_of_forward(own, weights))
        if self.options.recompute == "none":
            results, own.saved = self._run_forward(own, division.forward)
        else:
            results = self._run_first_forward(own, division)
        if self.options.predictor is not None:
            own.outputs = tuple(results)
        return tuple(results) if division.joint.gives_tuple else results[0]

    def _run_forward(self, own: Slot, forward: Forward) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """(results, kept); the shared buffers move."""
        call, _, read = own.flight
        with torch.no_grad(), without_autocast():
            results, updated, kept = forward.run([*call.inputs, *call.target_tensors, *read.views, *self._buffers])
            for index, new in zip(forward.updated, updated, strict=True):
                self._buffers[index].copy_(new)
        return results, kept

    def _run_first_forward(self, own: Slot, division: Division) -> Sequence[Tensor]:
        """Of two: what the second cannot compute again is kept."""
        if self.options.recompute == "full":
            own.buffers = {i: self._buffers[i].clone() for i in division.reread_buffers}
        elif division.draws:
            raise UsageError(
                f"recompute: invert: stage {self.number} draws random numbers ({division.draws[0].target}), and keeps"
                " none for its inverse",
                "remove dropout from reversible stages, or use `recompute: full`",
            )
        results, own.draws = self._run_forward(own, division.first_forward)
        if self.options.recompute == "invert":
            own.take_inputs(())
        return results

    def forward_again(self, slot: int, weights: Arena | None, outputs: tuple[Tensor, ...] = ()) -> None:
        """The forward that keeps what the backward needs; an inverted stage finds its input from `outputs`."""
        own = self._slots[slot]
        self._read_for_backward(own, weights)
        if self.options.hold and own.weights is None:
            own.read, own.holds = self.arena.clone(), True
        call, division, read = own.flight
        inputs = self._inputs_of(division, outputs, read) if self.options.recompute == "invert" else call.inputs
        own.take_inputs(inputs)
        buffers = [own.buffers.get(i, buffer) for i, buffer in enumerate(self._buffers)]
        with torch.no_grad(), without_autocast():
            arguments = [*inputs, *call.target_tensors, *read.views, *buffers, *own.draws]
            _, _, own.saved = division.second_forward.run(arguments)

    def _inputs_of(self, division: Division, outputs: tuple[Tensor, ...], read: Arena) -> tuple[Tensor, ...]:
        read.alias(self._copy.named_parameters(remove_duplicate=False))
        autocast = autocasting(outputs[0].device.type, self.options.autocast)
        with second_forward(self._copy, None), torch.no_grad(), autocast:
            return tensors_of(input_from_output(self._copy, outputs if division.joint.gives_tuple else outputs[0]))

    def _weights_of_forward(self, own: Slot, weights: Arena | None) -> Arena:
        if own.weights is None:
            return weights or self.arena
        own.weights.copy_from(weights or self.arena)
        return own.weights

    def _read_for_backward(self, own: Slot, weights: Arena | None) -> None:
        """A W reads what its I did, and a B after an R what that did."""
        if weights is not None and own.weights is not None:
            own.weights.copy_from(weights)
        elif weights is not None:
            own.read = weights

    @property
    def trace_count(self) -> int:
        """How many graphs were traced, those of lessons included; each left constants on the stream of its call."""
        return self.traces.made + (0 if self._lessons is None else self._lessons.traces.made)

    def inputs(self, slot: int) -> tuple[Tensor, ...]:
        """What the stage read, between its forward and its backward."""
        return self._slots[slot].flight[0].inputs

    def predicted_gradients(self, slot: int) -> tuple[Tensor | None, ...]:
        """The gradients of the outputs as the predictor of the stage has them."""
        assert self.options.predictor is not None
        return (self.options.predictor.predict(self._slots[slot].outputs[0]),)

    def learn(self, outputs: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...], lr: float) -> None:
        """Teaches the predictor, if the stage has one, what the stage above found."""
        if self._lessons is not None and gradients[0] is not None:
            self._lessons.learn(outputs[0], gradients[0], lr)

    def backward(
        self,
        slot: int,
        gradients: Sequence[Tensor | None] | None,
        weights: Arena | None = None,
        lowest: bool = False,
    ) -> tuple[tuple[Tensor | None, ...], Gradients]:
        """(gradients of the inputs, gradients of the arena's views) for the gradients of the outputs (None: a loss).

        `weights`: what to read, default what the forward read. The inputs have no gradients where this stage is the
        `lowest` to go back to.
        """
        own = self._slots[slot]
        self._begin_backward(own, gradients, weights)
        call, division, _ = own.flight
        count = len(call.inputs)
        if lowest:
            found = (None,) * count + self._run_backward(own, division.weight_gradient)
        else:
            found = self._run_backward(own, division.backward)
        own.forget()
        return found[:count], list(found[count:])

    def input_gradient(
        self, slot: int, gradients: Sequence[Tensor | None] | None, weights: Arena | None = None
    ) -> tuple[Tensor | None, ...]:
        """The first half of a split backward (I). The second half reads the same weights."""
        if self._whole is not None:
            raise UsageError(
                f"stage {self.number}, module {self._whole}: the backward of a recurrent layer is one operation, and"
                " cannot be split into I and W",
                "use a schedule with whole backwards (B)",
            )
        own = self._slots[slot]
        self._begin_backward(own, gradients, weights)
        return self._run_backward(own, own.flight[1].input_gradient)

    def weight_gradient(self, slot: int) -> Gradients:
        """The second half of a split backward (W): computes the stage's inner gradients a second time."""
        own = self._slots[slot]
        found = self._run_backward(own, own.flight[1].weight_gradient)
        own.forget()
        return list(found)

    def _begin_backward(self, own: Slot, gradients: Sequence[Tensor | None] | None, weights: Arena | None) -> None:
        self._read_for_backward(own, weights)
        call, division, _ = own.flight
        joint = division.joint
        given = gradients if gradients is not None else (None,) * len(joint.seeds)
        if strides := other_strides(joint, given):
            self.traces.expect(call, strides)
        own.seeds = in_strides(joint, given)
        own.given = frozenset(i for i, gradient in enumerate(given) if gradient is not None)

    def _run_backward(self, own: Slot, backward: Backward) -> tuple[Tensor | None, ...]:
        """No gradient where none of the gradients that came leads to one."""
        _, division, read = own.flight
        if not own.given and division.joint.is_seeded:
            return (None,) * len(backward.reached)
        with torch.no_grad(), without_autocast():
            found = backward.run(read.views, self._buffers, own.saved, own.seeds)
        return tuple(
            gradient if reached is not None and (not reached or reached & own.given) else None
            for gradient, reached in zip(found, backward.reached, strict=True)
        )

    def drop(self) -> None:
        """Forgets every microbatch in flight, after a failure."""
        for own in self._slots:
            own.forget()


def _recurrent_part(module: nn.Module) -> str | None:
    """The first recurrent layer in a module, if any."""
    found = ((name, part) for name, part in module.named_modules() if isinstance(part, nn.RNNBase))
    return next((f"{name} ({type(part).__name__})" for name, part in found), None)
