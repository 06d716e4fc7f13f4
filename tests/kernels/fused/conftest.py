"""Where the kernels run: on the GPU where they are compiled for it, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from tests.kernels.fused.memory import Memory


def pytest_pycollect_makemodule() -> None:
    """Skip the folder, with the reason, on machines that Triton has no package for."""
    pytest.importorskip("triton", reason="needs triton, which is made for Linux", exc_type=ImportError)


@pytest.fixture
def device() -> torch.device:
    import triton

    compiled = torch.cuda.is_available() and not triton.knobs.runtime.interpret
    return torch.device("cuda", torch.cuda.current_device()) if compiled else torch.device("cpu")


@pytest.fixture(autouse=True)
def silent_numpy() -> Iterator[None]:
    """The interpreter is numpy, which warns of inf - inf where a GPU computes NaN."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def rounding_to_nearest_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter (3.6 to 3.9) cuts float32 off where it makes bfloat16 of it, and loses subnormal numbers.

    A GPU rounds to the nearest, ties to even, as torch does: that is what tests of bfloat16 must see.
    """
    interpreter = importlib.import_module("triton.runtime.interpreter")
    as_it_is = interpreter.InterpreterBuilder.cast_impl

    def cast(builder: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar.is_bf16():
            values = (source.data.astype(np.uint32) << 16).view(np.float32)
            return as_it_is(builder, interpreter.TensorHandle(values, triton_language.float32), target)
        if target.scalar.is_bf16():
            rounded = torch.from_numpy(np.asarray(source.data, dtype=np.float32)).bfloat16()
            return interpreter.TensorHandle(rounded.view(torch.uint16).numpy(), target.scalar)
        return as_it_is(builder, source, target)

    triton_language = importlib.import_module("triton.language")
    monkeypatch.setattr(interpreter.InterpreterBuilder, "cast_impl", cast)


@pytest.fixture(autouse=True)
def language_patched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter replaces all of triton.language at each call of a device function: most of its time, for nothing.

    Once for a launch is enough; what is replaced already is no `builtin` any more.
    """
    interpreter = importlib.import_module("triton.runtime.interpreter")
    language = importlib.import_module("triton.language")
    patch = interpreter._patch_lang

    def patch_once(function: Any) -> Any:
        seen = [value for value in function.__globals__.values() if value is language or value is language.core]
        if any(language.core.is_builtin(value.load) for value in seen):
            return patch(function)
        return interpreter._LangPatchScope()

    monkeypatch.setattr(interpreter, "_patch_lang", patch_once)


@pytest.fixture
def memory(device: torch.device) -> Iterator[Memory]:
    """Where tests put the kernels' tensors; fails a test that wrote beside one."""
    from tests.kernels.fused.memory import Memory

    placed = Memory(device)
    yield placed
    placed.assert_guards_untouched()
