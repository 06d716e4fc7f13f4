"""The traces of one stage: one for each kind of input that it meets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asyncpipe.errors import Diagnostic, InternalError, UsageError, UserError
from asyncpipe.runtime.arena import Arena
from asyncpipe.runtime.autocast import autocast_of_this_thread
from asyncpipe.runtime.out_of_memory import is_out_of_memory
from asyncpipe.runtime.traced.blame import untraceable
from asyncpipe.runtime.traced.call import Call
from asyncpipe.runtime.traced.compiled import by_inductor, uncompiled
from asyncpipe.runtime.traced.divide import Division
from asyncpipe.runtime.traced.joint import Joint, Strides, trace
from asyncpipe.runtime.traced.python_numbers import refusing_python_numbers
from asyncpipe.runtime.traced.signature import describe, signature
from asyncpipe.runtime.traced.stage_code import StageCode

__all__ = ["MAX_TRACES", "Traces"]

MAX_TRACES = 8
"""Kinds of input that a stage is traced for; each takes about a second and keeps its graphs."""


@dataclass
class Traces:
    """Divisions by the signature of a call. Tracing runs the user's code on tensors without data, several times.

    arena, buffers: tensors like those that the graphs will get.
    """

    stage: int
    code: StageCode
    arena: Arena
    buffers: Sequence[Tensor]
    wants_input_gradient: bool
    compiled: bool = False
    _found: dict[Hashable, Division] = field(init=False, default_factory=dict)
    _expected: dict[Hashable, Strides] = field(init=False, default_factory=dict)
    _calls: dict[Hashable, Call] = field(init=False, default_factory=dict)

    @property
    def made(self) -> int:
        """How many traces were made, for other gradients too."""
        return len(self._found) + len(self._expected)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def divisions(self) -> list[Division]:
        return list(self._found.values())

    @property
    def calls(self) -> list[tuple[Call, Division]]:
        """Each with the call it was traced for, which has no data."""
        return [(self._calls[key], division) for key, division in self._found.items()]

    def of(self, call: Call) -> Division:
        """Traced at the first such call. UsageError where there are too many kinds, UserCodeError for no trace."""
        key = self._key(call)
        if key not in self._found:
            if len(self._found) >= MAX_TRACES:
                raise UsageError.of(
                    Diagnostic(
                        "AP712",
                        f"stage {self.stage} was traced for {MAX_TRACES} kinds of input, and now gets one more:"
                        f" {describe(call.inputs)}",
                        hint="give batches of few shapes (drop_last, padding), or use --backend threads",
                    )
                )
            self._found[key] = self._divided(self._trace(call, {}))
            self._calls[key] = call.without_data()
        return self._found[key]

    def expect(self, call: Call, strides: Strides) -> None:
        """Later calls of this kind get gradients of their results with these strides; only the first word counts."""
        key = self._key(call)
        if key not in self._expected:
            self._expected[key] = strides
            self._found[key] = self._divided(self._trace(call, strides))

    def _key(self, call: Call) -> Hashable:
        """The user's own autocast is part of a trace too."""
        return signature(call), tuple(autocast_of_this_thread())

    def _divided(self, joint: Joint) -> Division:
        return Division(joint, by_inductor(self.stage) if self.compiled else uncompiled)

    def _trace(self, call: Call, strides: Strides) -> Joint:
        if call.inputs[0].is_cuda and torch.cuda.is_current_stream_capturing():
            raise InternalError(f"stage {self.stage} was not traced for {describe(call.inputs)} before the capture")
        wanted = [
            self.wants_input_gradient and (tensor.is_floating_point() or tensor.is_complex()) for tensor in call.inputs
        ]
        try:
            with refusing_python_numbers(self.stage):
                return trace(self.code, call, wanted, self.arena.views, self.buffers, strides)
        except UserError as error:
            raise error.coded("AP710") from error.__cause__
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise untraceable(self.stage, self.code.module, error) from error
