"""The private torch functions that the runtime uses, each behind one name, for torch 2.11 and newer."""

from __future__ import annotations

from torch import Tensor

__all__ = ["version_counter"]


def version_counter(tensor: Tensor) -> int:
    """How often `tensor` changed in place; a backward raises if that moved since the forward saved it."""
    return tensor._version
