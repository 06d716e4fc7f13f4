"""What this machine lacks for the CUDA back ends, as findings with codes."""

from __future__ import annotations

import os

import torch

from asyncpipe.errors import Diagnostic, MachineError
from asyncpipe.runtime.cuda.api import MOST_STREAMS

__all__ = ["require_cuda", "too_few_devices", "why_no_cuda"]

_ON_THE_CPU = "`--backend threads` runs the same schedule on the CPU"


def require_cuda() -> None:
    """MachineError where there is no GPU that torch can use."""
    _ask_for_connections()
    if (reason := why_no_cuda()) is not None:
        raise MachineError.of(reason)


def _ask_for_connections() -> None:
    """Hardware queues: with the driver's 8, streams that share one wait for each other. CUDA reads it when it begins,
    so that it stays as it is in a program that has begun already; whoever has set it, knows why.
    """
    if not torch.cuda.is_initialized():
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", str(MOST_STREAMS))


def why_no_cuda() -> Diagnostic | None:
    """AP701 to AP703; None where torch has a device."""
    if torch.version.cuda is None:
        return Diagnostic(
            "AP701",
            f"this torch ({torch.__version__}) was built without CUDA",
            hint=f"install a torch with CUDA (pytorch.org/get-started), or leave `--backend` out: {_ON_THE_CPU}",
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return _no_device(str(error).strip().partition("\n")[0])
    return None


def _no_device(said: str) -> Diagnostic:
    """What torch said when CUDA began: it names the driver where that is to blame."""
    if "driver" in said.lower():
        return Diagnostic(
            "AP702",
            f"torch {torch.__version__} cannot use the NVIDIA driver: {said}",
            hint=f"`nvidia-smi` shows the driver; this torch needs one for CUDA {torch.version.cuda}. {_ON_THE_CPU}",
        )
    return Diagnostic(
        "AP703",
        f"torch sees no GPU: {said}",
        hint=f"look at CUDA_VISIBLE_DEVICES and at the GPUs that `nvidia-smi` lists. {_ON_THE_CPU}",
    )


def too_few_devices(asked: int, found: int) -> MachineError:
    """AP704."""
    return MachineError.of(
        Diagnostic(
            "AP704",
            f"the schedule asks for {asked} devices, and this machine has {found}",
            hint="add --emulate to run all of them on one device, or set `devices: 1`",
        )
    )
